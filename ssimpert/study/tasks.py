"""What a worker is given, and what the worker gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Task:
    """Some units of one cell, which are computed and written together.

    Attributes:
        cell: the index of the cell.
        items: the positions of the items in the item index.
        keys: the units' keys, one for each item.
    """

    cell: int
    items: tuple[int, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class UnitFailure:
    """A unit that could not be computed.

    Attributes:
        key: the unit's key.
        cell: the index of the cell.
        item: the position of the item in the item index.
        reason: in words.
        error: the last line of the traceback.
        tries: how often the unit was tried.
    """

    key: str
    cell: int
    item: int
    reason: str
    error: str
    tries: int


@dataclass(frozen=True)
class TaskResult:
    """What became of a task: every unit has a record or a failure.

    Attributes:
        records: one for each unit that was computed, with the columns of the record's schema.
        failures: one for each other unit.
        provenance: of the worker: host, process, device, versions.
    """

    records: list[dict[str, Any]]
    failures: list[UnitFailure]
    provenance: dict[str, Any]


class Evaluator(Protocol):
    """Computes tasks. An evaluator is picklable; each worker makes one and keeps its loaded model between tasks."""

    def __call__(self, task: Task) -> TaskResult:
        """Compute every unit of ``task``."""
        ...
