"""Studies without a model: units that compute a hash, wait, fail or kill their worker, as asked. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ssimpert.study.declared import DeclaredCell
from ssimpert.study.item_index import ITEM_SCHEMA, ItemIndex
from ssimpert.study.key_arrays import key_texts, unit_keys
from ssimpert.study.tasks import Task, TaskResult, UnitFailure

SCHEMA = pa.schema([("key", pa.string()), ("value", pa.float64()), ("batch", pa.int64()), ("writer", pa.string())])
DETERMINISTIC = ("key", "value", "batch")


@dataclass(frozen=True)
class SyntheticEvaluator:
    """Records whose value is a hash of the key.

    Attributes:
        seconds: of each unit.
        failing: the items that fail.
        raising: the items at which the evaluator itself raises.
        killing: the items that kill their worker.
        killing_once: a folder; an item in ``killing`` kills only while the folder has no file of its name.
        shrinking: items that kill their worker unless they are alone in their task.
    """

    seconds: float = 0.0
    failing: tuple[int, ...] = ()
    raising: tuple[int, ...] = ()
    killing: tuple[int, ...] = ()
    killing_once: str | None = None
    shrinking: tuple[int, ...] = ()

    def __call__(self, task: Task) -> TaskResult:
        records: list[dict[str, Any]] = []
        failures: list[UnitFailure] = []
        for item, key in zip(task.items, task.keys, strict=True):
            if item in self.raising:
                raise RuntimeError(f"item {item} breaks the evaluator")
            if item in self.shrinking and len(task.items) > 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if item in self.killing and self._still(f"{task.cell}-{item}"):
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self.seconds)
            if item in self.failing:
                failures.append(UnitFailure(key, task.cell, item, f"item {item} is broken", "OSError", 1))
            else:
                records.append(record(key, len(task.items)))
        return TaskResult(records, failures, {"worker": f"worker-{os.getpid()}"})

    def _still(self, name: str) -> bool:
        if self.killing_once is None:
            return True
        path = Path(self.killing_once) / name
        if path.exists():
            return False
        path.touch()
        return True


def record(key: str, batch: int = 1) -> dict[str, Any]:
    """The record of a unit."""
    value = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
    return {"key": key, "value": value, "batch": batch}


def synthetic_cells(count: int) -> tuple[DeclaredCell, ...]:
    """``count`` columns."""
    names = {"model": "m", "formulation": "f", "level_unit": "radius", "engine": "", "attack": "", "passes": None}
    return tuple(
        DeclaredCell(
            _hash(f"cell {number}"),
            {**names, "level": float(number), "repeat": 0},
            {"level": float(number)},
        )
        for number in range(count)
    )


def synthetic_items(count: int) -> ItemIndex:
    """``count`` items."""
    rows = [
        {"data": 0, "index": number, "name": f"item-{number}", "identity": _hash(f"item {number}"), "files": []}
        for number in range(count)
    ]
    return ItemIndex(pa.Table.from_pylist(rows, ITEM_SCHEMA))


def declared_keys(cells: tuple[DeclaredCell, ...], items: ItemIndex) -> list[str]:
    """All keys, column by column."""
    return [key for cell in cells for key in key_texts(unit_keys(cell.digest, items.identities))]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
