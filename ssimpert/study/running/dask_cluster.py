"""An existing Dask cluster: tasks go to its workers, and records come back."""

from __future__ import annotations

import hashlib
import pickle
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from ssimpert.errors import InputError
from ssimpert.study.running.outcome import Outcomes, PendingTasks, WorkerDeath
from ssimpert.study.running.worker_process import computed
from ssimpert.study.tasks import Evaluator, Task, TaskResult

CONNECT_SECONDS = 15.0
RECONNECT_SECONDS = 60.0
"""How long a lost scheduler is looked for before the run ends."""

MAX_LOSSES = 5
"""After so many losses in a row without a result the run ends."""

CLOSE_SECONDS = 2.0
"""How long the end of a connection is waited for."""

TASKS_PER_THREAD = 2
"""Tasks that are under way for each thread of the cluster: one at work and one that waits there."""

POLL_SECONDS = 1.0


class SchedulerError(InputError):
    """The scheduler can't be reached, or was lost. What came until then is on the disk."""


class DaskCluster:
    """The workers of a Dask scheduler, as a context manager.

    Every worker keeps its evaluator, with the model that it loaded, from task to task. Workers need the package and the
    files that the study names, and nothing of the study's folder. A worker that dies is Dask's business; a task on
    which workers died is tried again, unit by unit.
    """

    def __init__(self, evaluator: Evaluator, address: str, *, reconnect_seconds: float = RECONNECT_SECONDS) -> None:
        """A connection that is not yet made.

        Args:
            evaluator: computes tasks; every worker gets a copy.
            address: of the scheduler, such as ``"tcp://10.0.0.7:8786"``.
            reconnect_seconds: how long a lost scheduler is looked for.

        Raises:
            InputError: Dask is not installed (extra ``cluster``).
        """
        try:
            import distributed  # noqa: F401
        except ImportError as error:
            raise InputError("--scheduler needs Dask: pip install 'ssimpert[cluster]'") from error
        self._payload = pickle.dumps(evaluator)
        self._address, self._reconnect_seconds = address, reconnect_seconds
        self._client: Any = None

    def __enter__(self) -> DaskCluster:
        self._client = self._connected(CONNECT_SECONDS)
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def run(self, tasks: Iterable[Task], stop: Callable[[], bool]) -> Outcomes:
        """Compute ``tasks``. Once ``stop`` says so, no further task is handed out; those at work are finished.

        Yields:
            the results that came, every second at least.

        Raises:
            SchedulerError: the scheduler was lost and did not come back.
        """
        pending = PendingTasks(tasks)
        under_way: dict[Any, Task] = {}
        losses = 0
        while True:
            try:
                limit = self._limit()
                while pending and not stop() and len(under_way) < limit:
                    self._submit(pending.take(), under_way, pending)
                if not under_way:
                    if stop() or not pending:
                        return
                    time.sleep(POLL_SECONDS)  # no worker yet
                    yield []
                    continue
                results: list[TaskResult] = []
                for future in self._finished(list(under_way)):
                    task = under_way.pop(future)
                    if (outcome := pending.outcome_of(task, _result_of(future))) is not None:
                        results.append(outcome)
            except _LostScheduler as lost:
                losses += 1
                if losses > MAX_LOSSES:
                    raise SchedulerError(
                        f"the Dask scheduler {self._address!r} was lost {losses} times without a result in between "
                        f"({lost.__cause__}); what is done is on the disk, and the same command goes on from there"
                    ) from lost
                # Whatever was under way is asked for again; what is written already is not.
                pending.give_back(under_way.values())
                under_way.clear()
                yield []
                self._close()
                self._client = self._connected(self._reconnect_seconds)
                continue
            losses = 0 if results else losses
            yield results

    def _limit(self) -> int:
        threads = sum(
            int(worker["nthreads"]) for worker in self._asked(lambda: self._client.scheduler_info())["workers"].values()
        )
        return TASKS_PER_THREAD * threads

    def _submit(self, task: Task, under_way: dict[Any, Task], pending: PendingTasks) -> None:
        """Hand a task to the scheduler; a scheduler that is lost in this moment does not take the task with it."""
        try:
            future = self._asked(lambda: self._client.submit(compute_on_worker, self._payload, task, pure=False))
        except _LostScheduler:
            pending.give_back([task])
            raise
        under_way[future] = task

    def _finished(self, futures: list[Any]) -> list[Any]:
        from distributed import wait

        try:
            with self._client.as_current():
                wait(futures, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
        except TimeoutError:
            pass
        except Exception as error:
            raise _LostScheduler from error
        self._check_connection()
        finished = [future for future in futures if future.done()]
        if any(future.status in ("cancelled", "lost") for future in finished):
            raise _LostScheduler
        return finished

    def _asked(self, question: Callable[[], Any]) -> Any:
        self._check_connection()
        try:
            return question()
        except Exception as error:
            raise _LostScheduler from error

    def _check_connection(self) -> None:
        if self._client.status != "running":
            raise _LostScheduler

    def _connected(self, seconds: float) -> Any:
        from distributed import Client

        deadline = time.monotonic() + seconds
        while True:
            left = max(deadline - time.monotonic(), 1.0)
            try:
                return Client(self._address, timeout=min(left, 5.0), set_as_default=False)
            except (OSError, TimeoutError, ValueError) as error:
                if time.monotonic() >= deadline:
                    raise SchedulerError(
                        f"the Dask scheduler {self._address!r} can't be reached ({error}); what is done is on the "
                        "disk, and the same command goes on from there"
                    ) from error
                time.sleep(0.5)

    def _close(self) -> None:
        if self._client is None:
            return
        client, self._client = self._client, None

        def close() -> None:
            with suppress(Exception):
                client.close(timeout=CLOSE_SECONDS)

        # A client whose scheduler is gone may wait for ever, whatever its timeout.
        thread = threading.Thread(target=close, name="closing a Dask client", daemon=True)
        thread.start()
        thread.join(CLOSE_SECONDS)


class _LostScheduler(Exception):
    """The connection broke."""


_evaluators = threading.local()


def compute_on_worker(payload: bytes, task: Task) -> TaskResult:
    """Compute ``task`` on a worker, with the evaluator that this thread keeps.

    Args:
        payload: the evaluator, pickled.
        task: what to compute.
    """
    digest = hashlib.sha256(payload).digest()
    kept: tuple[bytes, Evaluator] | None = getattr(_evaluators, "kept", None)
    if kept is None or kept[0] != digest:
        kept = (digest, pickle.loads(payload))
        _evaluators.kept = kept
    return computed(kept[1], task)


def _result_of(future: Any) -> TaskResult | WorkerDeath:
    try:
        result: TaskResult = future.result()
        return result
    except Exception as error:
        if type(error).__name__ == "KilledWorker":
            return WorkerDeath("the cluster's workers died on this task")
        return WorkerDeath(f"{type(error).__name__}: {error}")
