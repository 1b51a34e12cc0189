"""What runs in a worker process of this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from multiprocessing.connection import Connection

from ssimpert.study.tasks import Evaluator, Task, TaskResult, UnitFailure


def work(connection: Connection, evaluator: Evaluator, threads: int | None, runner: int) -> None:
    """Compute the tasks that come through ``connection``, until it is closed.

    Args:
        connection: gives tasks and takes their results.
        evaluator: computes them.
        threads: torch's threads; ``None`` leaves torch's choice.
        runner: the process that began this one. Where that process is gone, this one ends, too.
    """
    # Ctrl-C in a terminal reaches all processes of the group: the runner alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(runner,), daemon=True).start()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            connection.send(computed(evaluator, task))
        except (BrokenPipeError, OSError):
            return


def computed(evaluator: Evaluator, task: Task) -> TaskResult:
    """The result of ``task``; an error of the evaluator itself is a failure of all its units."""
    try:
        return evaluator(task)
    except Exception as error:
        last_line = traceback.format_exception_only(error)[-1].strip()
        failures = [
            UnitFailure(key, task.cell, item, str(error) or type(error).__name__, last_line, 1)
            for item, key in zip(task.items, task.keys, strict=True)
        ]
        return TaskResult([], failures, {})


def _end_with(runner: int) -> None:
    while os.getppid() == runner:
        time.sleep(1)
    os._exit(1)
