"""Worker processes on this machine, each with an evaluator of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ssimpert.study.running.outcome import Outcomes, PendingTasks, WorkerDeath
from ssimpert.study.running.worker_process import work
from ssimpert.study.tasks import Evaluator, Task, TaskResult

POLL_SECONDS = 1.0


class LocalProcesses:
    """``count`` worker processes, as a context manager. They are spawned, so that no state of this process leaks.

    A worker gets the next task when it is idle. A worker that dies is replaced, and the units of its task are tried
    again alone.
    """

    def __init__(self, evaluator: Evaluator, count: int, *, threads: int | None = 1) -> None:
        """Workers that are not yet begun.

        Args:
            evaluator: computes tasks; every worker gets a copy.
            count: how many workers.
            threads: torch's threads in each; ``None`` leaves torch's choice.
        """
        self._evaluator, self._count, self._threads = evaluator, count, threads
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []

    def __enter__(self) -> LocalProcesses:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(timeout=0.5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def run(self, tasks: Iterable[Task], stop: Callable[[], bool]) -> Outcomes:
        """Compute ``tasks``. Once ``stop`` says so, no further task is handed out; those at work are finished.

        Yields:
            the results that came, every second at least.
        """
        pending = PendingTasks(tasks)
        while True:
            self._hand_out(pending, stop)
            busy = [worker for worker in self._workers if worker.task is not None]
            if not busy:
                return
            results: list[TaskResult] = []
            for worker in _ready(busy):
                task, result = worker.take()
                if isinstance(result, WorkerDeath):
                    self._workers.remove(worker)
                if (outcome := pending.outcome_of(task, result)) is not None:
                    results.append(outcome)
            self._hand_out(pending, stop)  # so that workers compute while the results are written
            yield results

    def _hand_out(self, pending: PendingTasks, stop: Callable[[], bool]) -> None:
        """Give every idle worker a task, unless the run is to stop."""
        while pending and not stop() and (worker := self._idle_worker()) is not None:
            worker.give(pending.take())

    def _idle_worker(self) -> _Worker | None:
        for worker in self._workers:
            if worker.task is None:
                return worker
        if len(self._workers) < self._count:
            self._workers.append(self._begun())
            return self._workers[-1]
        return None

    def _begun(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=work, args=(theirs, self._evaluator, self._threads, os.getpid()), daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)


class _Worker:
    """A process, and the task it is at work on."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self.process, self.connection = process, connection
        self.task: Task | None = None

    def give(self, task: Task) -> None:
        self.task = task
        with suppress(OSError):  # it died while it was idle: its sentinel says so
            self.connection.send(task)

    def take(self) -> tuple[Task, TaskResult | WorkerDeath]:
        """The result of the task, or that the process died."""
        assert self.task is not None
        task, self.task = self.task, None
        try:
            if self.connection.poll():
                result: TaskResult = self.connection.recv()
                return task, result
        except (EOFError, OSError):
            pass
        self.process.join()
        self.connection.close()
        return task, WorkerDeath(_how_it_ended(self.process.exitcode))


def _ready(workers: list[_Worker]) -> Iterator[_Worker]:
    """The workers that have a result, or are dead; none if a second passes without any."""
    by_object: dict[object, _Worker] = {}
    for worker in workers:
        by_object[worker.connection] = by_object[worker.process.sentinel] = worker
    found = wait(list(by_object), timeout=POLL_SECONDS)  # type: ignore[arg-type]
    yield from dict.fromkeys(by_object[entry] for entry in found)


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"the worker was killed by {name}"
    return f"the worker ended with exit code {code}"
