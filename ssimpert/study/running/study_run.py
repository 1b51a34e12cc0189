"""``StudyRun``: what a study's folder lacks is computed and written, each record before it counts.

Nothing here loads a model or torch: the workers do.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ssimpert.package_versions import package_versions
from ssimpert.study.declared import DeclaredCell
from ssimpert.study.item_index import ItemIndex
from ssimpert.study.key_arrays import key_array
from ssimpert.study.running.grouping import missing_tasks
from ssimpert.study.running.outcome import Outcomes
from ssimpert.study.status import Counts, count_units, done_keys
from ssimpert.study.store.failures import read_failures, write_failures
from ssimpert.study.store.lock import StudyLock
from ssimpert.study.store.parts import PartWriter
from ssimpert.study.store.provenance import write_provenance
from ssimpert.study.tasks import Evaluator, Task, TaskResult

PROVENANCE_SECONDS = 10.0
"""Seconds between two writings of how far the run is."""


@dataclass(frozen=True)
class RunProgress:
    """How far a run is.

    Attributes:
        counts: of the study's units.
        new: units that this run computed, failed ones included.
        seconds: since the first task was handed out.
    """

    counts: Counts
    new: int
    seconds: float

    @property
    def seconds_left(self) -> float | None:
        """At this run's rate; ``None`` before the first unit."""
        return self.counts.missing * self.seconds / self.new if self.new else None


class Workers(Protocol):
    """What computes tasks: :class:`LocalProcesses` or :class:`DaskCluster`."""

    def run(self, tasks: Iterator[Task], stop: Callable[[], bool]) -> Outcomes:
        """Compute ``tasks``."""
        ...


@dataclass(frozen=True, eq=False)
class PreparedStudy:
    """A study with all that a run needs to know of it.

    Attributes:
        cells: its columns.
        items: its items.
        schema: of its records.
        deterministic: the columns that the key decides.
        evaluator: computes its tasks.
    """

    cells: tuple[DeclaredCell, ...]
    items: ItemIndex
    schema: pa.Schema
    deterministic: tuple[str, ...]
    evaluator: Evaluator


class StudyRun:
    """The units of a study that have no record, and what becomes of them.

    Attributes:
        counts: of the study's units, now.
        new: units that were computed, failed ones included.
    """

    def __init__(
        self,
        folder: Path,
        prepared: PreparedStudy,
        lock: StudyLock,
        *,
        retry_failed: bool,
        shard: tuple[int, int],
        batch_size: int,
    ) -> None:
        """What is missing in ``folder``.

        Args:
            folder: of the study.
            prepared: the study.
            lock: of the folder, held.
            retry_failed: whether failures are missing, too.
            shard: as for :func:`run_study`.
            batch_size: the most units of a task.
        """
        self._folder, self._prepared, self._lock = folder, prepared, lock
        self._shard, self._batch_size = shard, batch_size
        number, shards = shard
        identities = prepared.items.identities
        self._done = done_keys(folder)
        self._failures = read_failures(folder)
        counted = count_units(prepared.cells, identities[number::shards], self._done, self._failures)
        retried = set(counted.failed_keys) if retry_failed else set()
        self.counts = Counts(counted.counts.declared, counted.counts.done, counted.counts.failed - len(retried))
        self._skipped = np.sort(np.concatenate([self._done, key_array(set(self._failures) - retried)]))
        self.new = 0

    @property
    def has_work(self) -> bool:
        """Whether some unit has neither a record nor a failure."""
        return self.counts.missing > 0

    def compute(self, pool: Workers, progress: Callable[[RunProgress], None], stop: Callable[[], bool]) -> None:
        """Compute the missing units, and write what comes: records first, then they count."""
        prepared, began = self._prepared, time.perf_counter()
        tasks = missing_tasks(
            prepared.cells,
            prepared.items.identities,
            self._skipped,
            batch_size=self._batch_size,
            shard=self._shard,
        )
        started, written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), -PROVENANCE_SECONDS
        workers: dict[str, dict[str, Any]] = {}
        with PartWriter(self._folder, prepared.schema) as writer:
            try:
                for results in pool.run(tasks, stop):
                    for result in results:
                        if result.provenance:
                            workers[str(result.provenance.get("worker", "worker"))] = result.provenance
                    if results:
                        self._write(writer, results)
                        seconds = time.perf_counter() - began
                        if seconds - written >= PROVENANCE_SECONDS:
                            written = seconds
                            self._write_provenance(writer.name, started, seconds, workers)
                        progress(RunProgress(self.counts, self.new, seconds))
            finally:
                self._write_provenance(writer.name, started, time.perf_counter() - began, workers)

    def _write(self, writer: PartWriter, results: Sequence[TaskResult]) -> None:
        self._lock.check()
        records = [record | {"writer": writer.name} for result in results for record in result.records]
        failures = [failure for result in results for failure in result.failures]
        writer.append(records)
        recovered = [record["key"] for record in records if self._failures.pop(record["key"], None) is not None]
        for failure in failures:
            self._failures[failure.key] = failure
        if failures or recovered:
            write_failures(self._folder, self._failures.values())
        self.new += len(records) + len(failures)
        self.counts = Counts(self.counts.declared, self.counts.done + len(records), self.counts.failed + len(failures))

    def _write_provenance(self, name: str, began: str, seconds: float, workers: dict[str, dict[str, Any]]) -> None:
        """A file for the writer and one for each worker. A full disk does not hide why a run ended."""
        document = {
            "kind": "runner",
            "writer": name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "versions": package_versions(),
            "began": began,
            "seconds": seconds,
            "units": self.new,
            "batch_size": self._batch_size,
            "shard": list(self._shard),
        }
        with suppress(OSError):
            write_provenance(self._folder, f"runner-{name}", document)
            for worker, known in workers.items():
                write_provenance(self._folder, f"worker-{worker}", known | {"kind": "worker", "writer": name})
