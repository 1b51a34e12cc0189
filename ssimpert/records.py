"""Strict JSON: what has no number in it becomes null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_values(value: Any) -> Any:
    """``value`` as JSON has it: tuples as lists, keys as strings, ``None`` for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): json_values(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_values(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(record: Any) -> str:
    """Strict JSON, indented."""
    return json.dumps(json_values(record), indent=2, allow_nan=False)
