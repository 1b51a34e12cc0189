"""Records of a small schema, made without a model."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("value", pa.float64()),
        ("scores", pa.list_(pa.struct([("metric", pa.string()), ("value", pa.float64())]))),
        ("writer", pa.string()),
    ]
)
DETERMINISTIC = ("key", "value", "scores")


def record(number: int, **changes: Any) -> dict[str, Any]:
    """The record of unit ``number``."""
    key = hashlib.sha256(str(number).encode()).hexdigest()[:32]
    scores = [{"metric": name, "value": number / 7 + rank} for rank, name in enumerate(("pearson", "auc"))]
    return {"key": key, "value": number / 3, "scores": scores, "writer": "one"} | changes


def records(*numbers: int) -> list[dict[str, Any]]:
    """The records of several units."""
    return [record(number) for number in numbers]
