"""What came of a task that was handed to a worker, and what is tried again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ssimpert.study.tasks import Task, TaskResult, UnitFailure

MAX_DEATHS = 3
"""A unit on which so many workers died has failed."""


@dataclass(frozen=True)
class WorkerDeath:
    """A worker that ended without an answer.

    Attributes:
        reason: in words, such as ``"the worker was killed by SIGKILL"``.
    """

    reason: str


@dataclass
class Retries:
    """Which units workers died on, and how often: each of them is tried again alone."""

    deaths: Counter[str] = field(default_factory=Counter)

    def after(self, task: Task, death: WorkerDeath) -> tuple[list[Task], list[UnitFailure]]:
        """What to try again after a worker died on ``task``, unit by unit, and which units have failed by that."""
        again: list[Task] = []
        failures: list[UnitFailure] = []
        for item, key in zip(task.items, task.keys, strict=True):
            self.deaths[key] += 1
            if self.deaths[key] < MAX_DEATHS:
                again.append(Task(task.cell, (item,), (key,)))
            else:
                tries = self.deaths[key]
                reason = f"{death.reason}, {tries} times; the memory may be too small for this unit"
                failures.append(UnitFailure(key, task.cell, item, reason, death.reason, tries))
        return again, failures


Outcome = tuple[Task, TaskResult | WorkerDeath]
Outcomes = Iterator[list[Outcome]]
"""Lists of outcomes as they come; the runner writes each list at once. A list may be empty: nothing came meanwhile."""
