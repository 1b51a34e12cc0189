"""What a study costs beside its units: 100,000 units that compute nothing, through worker processes and through Dask.

Run with ``python -m benchmarks.study_overhead`` (``--units``, ``--workers``, ``--only local|dask``). Prints a table.
With ``--seconds 0.5`` each unit waits so long, in the place of work; the share of the time that workers work is said.
With ``--record`` the script replaces benchmarks/results/study_overhead.json.

The records are as wide as those of a study with 24 scores for each unit. The overhead of a unit is the time from the
first record to the last, times the workers, divided by the units: what a worker spends on a unit beside computing. The
bar is 2 ms. The memory is that of the runner; "flat" compares its peak after a tenth of the units with that at the end.
Then the status of the folder is asked for, and the records are cut into 64 shards that are merged.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.machine import machine
from benchmarks.script_options import script_parser, write_record
from benchmarks.wide_records import DETERMINISTIC, SCHEMA, HashEvaluator
from ssimpert.study.declared import write_cells
from ssimpert.study.item_index import write_item_index
from ssimpert.study.running.dask_cluster import DaskCluster
from ssimpert.study.running.local_processes import LocalProcesses
from ssimpert.study.running.study_run import PreparedStudy, RunProgress, StudyRun
from ssimpert.study.status import study_status
from ssimpert.study.store.lock import StudyLock
from ssimpert.study.store.merge import merge_shards
from ssimpert.study.store.parts import PartWriter
from ssimpert.study.store.results import read_records
from tests.dask_processes import DaskProcesses
from tests.ssimpert.study.running.synthetic import synthetic_cells, synthetic_items

UNITS, CELLS, SHARDS = 100_000, 10, 64


def main(*, units: int, workers: int, only: str | None, seconds: float, record: bool) -> None:
    """Measure, print and write."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("local", "dask") if only is None else (only,):
            folder = Path(scratch) / name
            results[name] = measured(folder, name, units, workers, seconds)
            print(line(name, results[name]), flush=True)
        results["folder"] = of_folder(folder, Path(scratch))
        print(", ".join(f"{key.replace('_', ' ')} {value:.2f}" for key, value in results["folder"].items()), flush=True)
    document = {"units": units, "workers": workers, "unit_seconds": seconds, **results, "machine": machine()}
    write_record("study_overhead", document, record=record)


def measured(folder: Path, name: str, units: int, workers: int, unit_seconds: float = 0.0) -> dict[str, float]:
    """The overhead and the runner's memory."""
    folder.mkdir()
    evaluator = HashEvaluator(unit_seconds)
    cells, items = synthetic_cells(CELLS), synthetic_items(units // CELLS)
    write_cells(folder, cells)
    write_item_index(folder, items)
    prepared = PreparedStudy(cells, items, SCHEMA, DETERMINISTIC, evaluator)
    marks: list[tuple[int, float]] = []
    memory: dict[int, float] = {}

    def progress(state: RunProgress) -> None:
        marks.append((state.new, time.perf_counter()))
        tenth = 10 * state.new // units
        if tenth not in memory:
            memory[tenth] = megabytes()

    with ExitStack() as exits:
        lock = exits.enter_context(StudyLock(folder))
        run = StudyRun(folder, prepared, lock, retry_failed=False, shard=(0, 1), batch_size=1)
        pool: LocalProcesses | DaskCluster
        if name == "local":
            pool = exits.enter_context(LocalProcesses(evaluator, workers))
        else:
            processes = exits.enter_context(DaskProcesses(folder, workers))
            pool = exits.enter_context(DaskCluster(evaluator, processes.address))
        cpu = time.process_time()
        run.compute(pool, progress, lambda: False)
        cpu = time.process_time() - cpu
    assert run.counts.done == units
    (first, began), (_, ended) = marks[0], marks[-1]
    return {
        "seconds": ended - began,
        "overhead_ms": 1000 * ((ended - began) * workers / (units - first) - unit_seconds),
        "busy_share": unit_seconds * (units - first) / (ended - began) / workers,
        "runner_cpu_ms": 1000 * cpu / units,
        "units_a_sync": units / len(marks),
        "memory_tenth_mb": memory[1],
        "memory_end_mb": memory[10],
    }


def of_folder(folder: Path, scratch: Path) -> dict[str, float]:
    """How long the status of a folder and the merge of its shards take."""
    began = time.perf_counter()
    study_status(folder)
    status_seconds = time.perf_counter() - began
    table = read_records(folder, SCHEMA, DETERMINISTIC).table
    shards = []
    for number in range(SHARDS):
        shards.append(scratch / f"shard-{number}")
        with PartWriter(shards[-1], SCHEMA) as writer:
            part = table.take(pa.array(range(number, len(table), SHARDS)))
            for start in range(0, len(part), 100):
                writer.append(part.slice(start, 100))
    began = time.perf_counter()
    report = merge_shards(scratch / "merged", shards, SCHEMA, DETERMINISTIC)
    assert report.added == len(table)
    return {"status_seconds": status_seconds, "merge_seconds": time.perf_counter() - began}


def megabytes() -> float:
    """The memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def line(name: str, result: dict[str, float]) -> str:
    """A result in words."""
    return (
        f"{name}: {result['seconds']:.0f} s, workers were busy for {result['busy_share']:.1%} of them; "
        f"{result['overhead_ms']:.2f} ms a unit a worker beside its work; the runner took "
        f"{result['runner_cpu_ms']:.2f} ms of a core a unit and synced every {result['units_a_sync']:.0f} units; "
        f"its memory was {result['memory_tenth_mb']:.0f} MB after a tenth, {result['memory_end_mb']:.0f} MB at the end"
    )


if __name__ == "__main__":
    parser = script_parser(__doc__, records=True)
    parser.add_argument("--units", type=int, default=UNITS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--only", choices=("local", "dask"))
    given = parser.parse_args()
    main(units=given.units, workers=given.workers, only=given.only, seconds=given.seconds, record=given.record)
