"""What came of a task that was handed to a worker, and what is tried again."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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


class PendingTasks:
    """The tasks that no worker has: those that were never handed out, and those that are tried again, which come first.

    A unit whose worker died is tried again alone, and has failed once :data:`MAX_DEATHS` workers died on it.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        """All of ``tasks``, which are taken one by one."""
        self._new = iter(tasks)
        self._again: deque[Task] = deque()
        self._deaths: Counter[str] = Counter()
        self._following = next(self._new, None)

    def __bool__(self) -> bool:
        """Whether some task is left."""
        return bool(self._again) or self._following is not None

    def take(self) -> Task:
        """The next task.

        Raises:
            IndexError: no task is left.
        """
        if self._again:
            return self._again.popleft()
        if self._following is None:
            raise IndexError("no task is left")
        task, self._following = self._following, next(self._new, None)
        return task

    def give_back(self, tasks: Iterable[Task]) -> None:
        """Put tasks back that were taken and not computed."""
        self._again.extend(tasks)

    def outcome_of(self, task: Task, result: TaskResult | WorkerDeath) -> TaskResult | None:
        """What becomes of a task: its result; for a death the units that have failed by it, ``None`` where none has."""
        if isinstance(result, TaskResult):
            return result
        failures: list[UnitFailure] = []
        for item, key in zip(task.items, task.keys, strict=True):
            self._deaths[key] += 1
            tries = self._deaths[key]
            if tries < MAX_DEATHS:
                self._again.append(Task(task.cell, (item,), (key,)))
            else:
                reason = f"{result.reason}, {tries} times; the memory may be too small for this unit"
                failures.append(UnitFailure(key, task.cell, item, reason, result.reason, tries))
        return TaskResult([], failures, {}) if failures else None


Outcomes = Iterator[list[TaskResult]]
"""Lists of results as they come; the runner writes each list at once. A list may be empty: nothing came meanwhile."""
