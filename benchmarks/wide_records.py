"""Records of a hash of their keys, as wide as those of a study with 24 scores for each unit."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ssimpert.study.tasks import Task, TaskResult

NUMBERS = tuple(f"number_{index}" for index in range(20))
NAMES = ("cell", "data", "item", "model", "formulation", "engine", "worker", "device")
SCORE = pa.struct(
    [(name, pa.string()) for name in ("method", "map", "metric", "reason")]
    + [(name, pa.float64()) for name in ("value", "p_value")]
)
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        *((name, pa.string()) for name in NAMES),
        *((name, pa.float64()) for name in NUMBERS),
        ("scores", pa.list_(SCORE)),
        ("writer", pa.string()),
    ]
)
DETERMINISTIC = ("key", *NUMBERS, "scores")


@dataclass(frozen=True)
class HashEvaluator:
    """Computes such records, and nothing else.

    Attributes:
        seconds: how long it waits for each unit, in the place of work.
    """

    seconds: float = 0.0

    def __call__(self, task: Task) -> TaskResult:
        time.sleep(self.seconds * len(task.keys))
        return TaskResult([record(key) for key in task.keys], [], {"worker": f"worker-{os.getpid()}"})


def record(key: str) -> dict[str, Any]:
    """The record of a unit."""
    digest = hashlib.sha256(key.encode()).digest()
    values = [byte / 255 for byte in digest]
    scores = [
        {"method": "rms", "map": "grad_cam", "metric": "cc", "reason": "", "value": value, "p_value": value}
        for value in values[:24]
    ]
    return {
        "key": key,
        **dict.fromkeys(NAMES, "a name of some length"),
        **dict(zip(NUMBERS, values, strict=False)),
        "scores": scores,
    }
