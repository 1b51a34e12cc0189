"""How many workers can one runner keep busy? A million units, with the real runner and simulated workers.

Run with ``python -m benchmarks.study_scale`` (``--units``, ``--workers 1,8,64``, ``--seconds``, ``--batch``). Prints a
table. With ``--record`` the script replaces benchmarks/results/study_scale.json.

What is real: the runner of a study. It lists the missing units, hands out tasks, appends records of 24 scores to a part
on the disk, syncs, and counts. What is simulated: the workers. A task of ``batch`` units takes ``batch * seconds`` on
average (log-normal, with a standard deviation of half of that) by a simulated clock. Whatever time the runner really
takes passes on that clock, too, and meanwhile no worker gets a task. What a worker waits between two tasks is lost. The
network is left out: a record of this width has some 2 kB.

Then the folder is looked at by ``study status``, read and compacted, once for the largest number of workers.
"""

from __future__ import annotations

import heapq
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.script_options import script_parser, write_record
from benchmarks.study_overhead import megabytes
from benchmarks.wide_records import DETERMINISTIC, SCHEMA, HashEvaluator
from ssimpert.study.declared import write_cells
from ssimpert.study.item_index import write_item_index
from ssimpert.study.running.outcome import Outcomes, PendingTasks
from ssimpert.study.running.study_run import PreparedStudy, StudyRun
from ssimpert.study.status import study_status
from ssimpert.study.store.compaction import compact
from ssimpert.study.store.lock import StudyLock
from ssimpert.study.tasks import Task
from tests.ssimpert.study.running.synthetic import synthetic_cells, synthetic_items

UNITS, CELLS = 1_000_000, 8


class SimulatedWorkers:
    """Workers by a simulated clock, on which the runner's real time passes.

    Attributes:
        clock: seconds since the first task.
        busy_seconds: what all workers together computed.
        runner_seconds: what the runner took.
    """

    def __init__(self, count: int, seconds: float, seed: int = 0) -> None:
        """``count`` workers whose units take ``seconds`` on average."""
        self._count, self._seconds = count, seconds
        self._random = np.random.default_rng(seed)
        self._evaluator = HashEvaluator()
        self.clock = self.busy_seconds = self.runner_seconds = 0.0

    def run(self, tasks: Iterable[Task], stop: Callable[[], bool]) -> Outcomes:
        """Compute ``tasks``, as :class:`ssimpert.study.running.local_processes.LocalProcesses` does."""
        pending = PendingTasks(tasks)
        at_work: list[tuple[float, int, Task]] = []
        handed_out, idle = 0, self._count
        began = time.perf_counter()
        while True:
            while pending and idle and not stop():
                task = pending.take()
                duration = self._duration(len(task.items))
                handed_out, idle = handed_out + 1, idle - 1
                heapq.heappush(at_work, (self.clock + duration, handed_out, task))
                self.busy_seconds += duration
            self._pass(time.perf_counter() - began)
            if not at_work:
                return
            self.clock = max(self.clock, at_work[0][0])
            finished = []
            while at_work and at_work[0][0] <= self.clock:
                finished.append(self._evaluator(heapq.heappop(at_work)[2]))
                idle += 1
            began = time.perf_counter()  # what the evaluator took is a worker's time, not the runner's
            yield finished

    def _duration(self, units: int) -> float:
        """Of a task: log-normal with the wanted mean, and half of the mean as standard deviation."""
        variance = np.log(1 + 0.5**2)
        return float(units * self._seconds * self._random.lognormal(-variance / 2, np.sqrt(variance)))

    def _pass(self, seconds: float) -> None:
        self.clock += seconds
        self.runner_seconds += seconds


def simulated(folder: Path, units: int, workers: int, seconds: float, batch: int) -> dict[str, float]:
    """A whole study by ``workers`` simulated workers."""
    folder.mkdir()
    cells, items = synthetic_cells(CELLS), synthetic_items(units // CELLS)
    write_cells(folder, cells)
    write_item_index(folder, items)
    prepared = PreparedStudy(cells, items, SCHEMA, DETERMINISTIC, HashEvaluator())
    pool = SimulatedWorkers(workers, seconds)
    with StudyLock(folder) as lock:
        run = StudyRun(folder, prepared, lock, retry_failed=False, shard=(0, 1), batch_size=batch)
        run.compute(pool, lambda state: None, lambda: False)
    assert run.counts.done == units
    return {
        "workers": workers,
        "hours": pool.clock / 3600,
        "busy_share": pool.busy_seconds / workers / pool.clock,
        "runner_ms_a_unit": 1000 * pool.runner_seconds / units,
        "memory_mb": megabytes(),
    }


def of_folder(folder: Path) -> dict[str, float]:
    """What it takes to look at the folder, and to compact it."""
    began = time.perf_counter()
    study_status(folder)
    status = time.perf_counter() - began
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    began = time.perf_counter()
    results = compact(folder, SCHEMA, DETERMINISTIC)
    return {
        "status_seconds": status,
        "parts_mb": size / 1e6,
        "compaction_seconds": time.perf_counter() - began,
        "results_mb": results.stat().st_size / 1e6,
        "memory_mb": megabytes(),
    }


def main(*, units: int, workers: list[int], seconds: float, batch: int, record: bool) -> None:
    """Measure, print and write."""
    rows = []
    looked_at: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for count in workers:
            folder = Path(scratch) / f"workers-{count}"
            rows.append(simulated(folder, units, count, seconds, batch))
            print(
                "{workers} workers: {hours:.2f} hours, busy for {busy_share:.1%} of them; the runner took "
                "{runner_ms_a_unit:.3f} ms a unit; memory {memory_mb:.0f} MB".format(**rows[-1]),
                flush=True,
            )
            if count == workers[-1]:
                looked_at = of_folder(folder)
                print(", ".join(f"{key.replace('_', ' ')} {value:.1f}" for key, value in looked_at.items()), flush=True)
    document = {
        "units": units,
        "seconds_a_unit": seconds,
        "batch": batch,
        "rows": rows,
        "folder": looked_at,
        "machine": machine(),
    }
    write_record("study_scale", document, record=record)


if __name__ == "__main__":
    parser = script_parser(__doc__, records=True)
    parser.add_argument("--units", type=int, default=UNITS)
    parser.add_argument("--workers", default="1,8,64", help="numbers of workers, with commas (default 1,8,64)")
    parser.add_argument("--seconds", type=float, default=0.2, help="that a unit takes on average (default 0.2)")
    parser.add_argument("--batch", type=int, default=32, help="units of a task (default 32)")
    given = parser.parse_args()
    main(
        units=given.units,
        workers=[int(count) for count in given.workers.split(",")],
        seconds=given.seconds,
        batch=given.batch,
        record=given.record,
    )
