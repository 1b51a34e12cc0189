"""A Dask scheduler and its workers as processes over TCP, which tests and benchmarks start and kill."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[1]


class DaskProcesses:
    """A scheduler on a port of its own, with workers of one thread each, as a context manager.

    Attributes:
        port: of the scheduler; a scheduler that is started again has the same.
    """

    def __init__(self, folder: Path, workers: int = 2) -> None:
        """Processes that are not yet begun.

        Args:
            folder: for what workers write.
            workers: how many.
        """
        self.port = _free_port()
        self._folder, self._count = folder, workers
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        """Of the scheduler."""
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def worker_pids(self) -> list[int]:
        """The processes of the workers."""
        return [process.pid for process in self._workers]

    def __enter__(self) -> DaskProcesses:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill_scheduler()

    def start(self) -> None:
        """Start the scheduler and all workers."""
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        self._scheduler = _started(["distributed.cli.dask_scheduler", *arguments])
        self._workers = [self._worker() for _ in range(self._count)]

    def kill_scheduler(self) -> None:
        """End the scheduler and its workers by SIGKILL."""
        processes = [*self._workers, *([self._scheduler] if self._scheduler else [])]
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
        self._workers, self._scheduler = [], None

    def kill_worker(self, index: int) -> None:
        """End a worker by SIGKILL, and start another in its place."""
        self._workers[index].kill()
        self._workers[index].wait()
        self._workers[index] = self._worker()

    def _worker(self) -> subprocess.Popen[bytes]:
        arguments = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(self._folder)]
        return _started(["distributed.cli.dask_worker", self.address, *arguments, "--death-timeout", "120"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _started(command: list[str]) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
