"""A real scheduler over TCP with two worker processes gives the table that local processes give."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ssimpert.study.running.dask_cluster import DaskCluster, SchedulerError
from ssimpert.study.store.failures import read_failures
from tests.dask_processes import DaskProcesses
from tests.ssimpert.study.running.synthetic import SyntheticEvaluator
from tests.ssimpert.study.running.synthetic_run import run, table

pytest.importorskip("distributed", reason="Dask is not installed (extra cluster)")


def test_a_cluster_gives_the_table_of_local_processes_though_a_worker_and_the_scheduler_die(tmp_path: Path) -> None:
    run(tmp_path / "local", SyntheticEvaluator(), cells=2, items=40, batch_size=3)
    with DaskProcesses(tmp_path) as processes:
        address = processes.address
        failing = run(tmp_path / "failing", SyntheticEvaluator(failing=(1,)), cells=1, items=4, scheduler=address)
        assert (failing.counts.done, failing.counts.failed) == (3, 1)
        assert [failure.reason for failure in read_failures(tmp_path / "failing").values()] == ["item 1 is broken"]

        def harm() -> None:
            """A worker dies and is replaced; then the scheduler dies and comes back with new workers."""
            time.sleep(0.5)
            processes.kill_worker(0)
            time.sleep(1.5)
            processes.kill_scheduler()
            processes.start()

        thread = threading.Thread(target=harm)
        thread.start()
        state = run(
            tmp_path / "dask", SyntheticEvaluator(seconds=0.06), cells=2, items=40, batch_size=3, scheduler=address
        )
        thread.join()
    assert state.counts.done == 80
    assert table(tmp_path / "dask").equals(table(tmp_path / "local"))


def test_a_scheduler_that_is_not_there_is_named_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ssimpert.study.running.dask_cluster.CONNECT_SECONDS", 0.1)
    address = DaskProcesses(tmp_path).address
    with pytest.raises(SchedulerError, match=f"the Dask scheduler '{address}' can't be reached"):
        DaskCluster(SyntheticEvaluator(), address).__enter__()
