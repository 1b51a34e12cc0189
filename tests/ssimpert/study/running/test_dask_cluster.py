"""A real scheduler over TCP with two worker processes gives the table that local processes give."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ssimpert.study.running.dask_cluster import DaskCluster, SchedulerError
from ssimpert.study.store.failures import read_failures
from tests.ssimpert.study.running.synthetic import SyntheticEvaluator
from tests.ssimpert.study.running.synthetic_run import run, table

pytest.importorskip("distributed", reason="Dask is not installed (extra cluster)")
ROOT = Path(__file__).parents[4]
QUIET = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s", "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "0"}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def scheduler_process(port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    return started([*command, "--no-dashboard"])


def worker_process(port: int, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1"]
    return started(
        [*command, "--no-nanny", "--no-dashboard", "--local-directory", str(folder), "--death-timeout", "60"]
    )


def started(command: list[str]) -> subprocess.Popen[bytes]:
    environment = os.environ | QUIET | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[int, list[subprocess.Popen[bytes]]]]:
    port = free_port()
    processes = [scheduler_process(port), worker_process(port, folder), worker_process(port, folder)]
    try:
        yield port, processes
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def test_a_cluster_gives_the_table_of_local_processes_though_a_worker_and_the_scheduler_die(tmp_path: Path) -> None:
    run(tmp_path / "local", SyntheticEvaluator(), cells=2, items=40, batch_size=3)
    with cluster(tmp_path) as (port, processes):
        address = f"tcp://127.0.0.1:{port}"
        failing = run(tmp_path / "failing", SyntheticEvaluator(failing=(1,)), cells=1, items=4, scheduler=address)
        assert (failing.counts.done, failing.counts.failed) == (3, 1)
        assert [failure.reason for failure in read_failures(tmp_path / "failing").values()] == ["item 1 is broken"]

        def harm() -> None:
            """A worker dies and is replaced; then the scheduler dies and comes back with new workers."""
            time.sleep(0.5)
            os.kill(processes[1].pid, signal.SIGKILL)
            processes.append(worker_process(port, tmp_path))
            time.sleep(1.5)
            os.kill(processes[0].pid, signal.SIGKILL)
            processes[0].wait()
            for process in processes[2:]:
                process.kill()
            processes.append(scheduler_process(port))
            processes.extend(worker_process(port, tmp_path) for _ in range(2))

        thread = threading.Thread(target=harm)
        thread.start()
        state = run(
            tmp_path / "dask", SyntheticEvaluator(seconds=0.06), cells=2, items=40, batch_size=3, scheduler=address
        )
        thread.join()
    assert state.counts.done == 80
    assert table(tmp_path / "dask").equals(table(tmp_path / "local"))


def test_a_scheduler_that_is_not_there_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssimpert.study.running.dask_cluster.CONNECT_SECONDS", 0.1)
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(SchedulerError, match=f"the Dask scheduler '{address}' can't be reached"):
        DaskCluster(SyntheticEvaluator(), address).__enter__()
