"""Runs a synthetic study in a folder, as a function and as a process that tests kill."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from ssimpert.study.running.dask_cluster import DaskCluster
from ssimpert.study.running.local_processes import LocalProcesses
from ssimpert.study.running.study_run import PreparedStudy, StudyRun, Workers
from ssimpert.study.store.compaction import compact
from ssimpert.study.store.lock import StudyLock
from ssimpert.study.store.parts import repair_parts
from ssimpert.study.store.results import read_records
from tests.ssimpert.study.running.synthetic import (
    DETERMINISTIC,
    SCHEMA,
    SyntheticEvaluator,
    synthetic_cells,
    synthetic_items,
)


def run(
    folder: Path,
    evaluator: SyntheticEvaluator,
    *,
    cells: int = 2,
    items: int = 6,
    batch_size: int = 1,
    workers: int = 2,
    scheduler: str | None = None,
    retry_failed: bool = False,
    shard: tuple[int, int] = (0, 1),
    stop: Callable[[], bool] = lambda: False,
) -> StudyRun:
    """What :func:`ssimpert.study.run_study` does, with a synthetic study."""
    folder.mkdir(parents=True, exist_ok=True)
    prepared = PreparedStudy(synthetic_cells(cells), synthetic_items(items), SCHEMA, DETERMINISTIC, evaluator)
    with StudyLock(folder) as lock:
        repair_parts(folder)
        state = StudyRun(folder, prepared, lock, retry_failed=retry_failed, shard=shard, batch_size=batch_size)
        if state.has_work:
            pool: DaskCluster | LocalProcesses
            pool = (
                LocalProcesses(evaluator, workers, threads=None)
                if scheduler is None
                else DaskCluster(evaluator, scheduler, reconnect_seconds=20)
            )
            with pool as chosen:
                workers_of_run: Workers = chosen
                state.compute(workers_of_run, lambda progress: None, stop)
        if not state.counts.is_partial:
            compact(folder, SCHEMA, DETERMINISTIC)
    return state


def table(folder: Path) -> pa.Table:
    """The records, without what differs from run to run."""
    return read_records(folder, SCHEMA, DETERMINISTIC).table.drop_columns("writer")


if __name__ == "__main__":
    run(Path(sys.argv[1]), SyntheticEvaluator(seconds=float(sys.argv[2])), cells=3, items=20)
