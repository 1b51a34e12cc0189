"""``run_study``: computes what a study lacks, and writes each record before it counts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from solvers.validation import as_integer, as_list, shown
from ssimpert.atomic_files import remove_temporary_files, write_atomically
from ssimpert.errors import InputError
from ssimpert.study.changes import StudyChanges, study_changes
from ssimpert.study.declared import DeclaredCell, read_cells, write_cells
from ssimpert.study.evaluation import StudyEvaluator
from ssimpert.study.grid import cells
from ssimpert.study.item_index import ItemIndex, changed_items, index_items, read_item_index, write_item_index
from ssimpert.study.joining import STUDY_FILE
from ssimpert.study.keys import cell_digest, cell_options
from ssimpert.study.readiness import check_ready
from ssimpert.study.running.dask_cluster import DaskCluster
from ssimpert.study.running.local_processes import LocalProcesses
from ssimpert.study.running.study_run import PreparedStudy, RunProgress, StudyRun, Workers
from ssimpert.study.schema import deterministic_columns, record_schema
from ssimpert.study.status import Counts
from ssimpert.study.store.compaction import compact
from ssimpert.study.store.lock import StudyLock
from ssimpert.study.store.parts import repair_parts
from ssimpert.study.study import Study
from ssimpert.study.study_file import read_study, write_study
from ssimpert.validation import Integers, check_count

GPU_BATCH = 32
"""The units of a task on a GPU, where nothing else is asked for. On a CPU each unit is computed alone."""


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        folder: of the study.
        counts: of the study's units, after the run.
        new: units that this run computed, failed ones included.
        seconds: that the run took.
        changes: how the study differed from its last run.
        notes: lines about what was found in the folder.
        results: ``results.parquet``, where the study is complete; else ``None``.
    """

    folder: Path
    counts: Counts
    new: int
    seconds: float
    changes: StudyChanges
    notes: tuple[str, ...]
    results: Path | None


def run_study(
    study: Study | str | Path,
    folder: str | Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    retry_failed: bool = False,
    shard: Integers = (0, 1),
    wait: bool = False,
    tell: Callable[[str], None] = lambda line: None,
    progress: Callable[[RunProgress], None] = lambda state: None,
    stop: Callable[[], bool] = lambda: False,
) -> RunSummary:
    """Compute the units of a study that have no record yet. The same call again does only what is missing.

    Args:
        study: a study, or the path of its file.
        folder: where records are kept; made where it does not exist.
        workers: processes on this machine, at least 1; default: a process for each GPU, or for each core that this
            process may use. Not together with ``scheduler``.
        scheduler: the address of a Dask scheduler, whose workers then do the work.
        device: where each worker computes, as for :func:`ssimpert.load_model`.
        batch_size: units that are computed together, at least 1; default 1 on a CPU and 32 on a GPU.
        retry_failed: also try the units that failed before.
        shard: (i, n), i from 0: only every n-th item, from item i on. Shards have folders of their own and are joined
            by ``ssimpert study merge``.
        wait: wait where another runner works on the folder.
        tell: called with lines for people: what changed, what was found.
        progress: called after every group of records that was written.
        stop: asked often; once it returns True, the tasks at work are finished, written, and the run ends.

    Raises:
        InputError: a study, a model or data that can't be used; all this is said before any unit is computed.
        LockedError: another runner works on the folder.
        SchedulerError: the scheduler can't be reached or was lost; what came until then is on the disk.
        OSError: the disk is full, or the folder can't be written; what was written before stays.
    """
    study = study if isinstance(study, Study) else read_study(study)
    folder = Path(folder)
    if workers is not None and scheduler is not None:
        raise InputError(
            "workers are processes of this machine, and scheduler has workers of its own: drop one of them"
        )
    workers = None if workers is None else check_count("workers", workers)
    batch_size = None if batch_size is None else check_count("batch_size", batch_size)
    shard = check_shard(shard)
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    with StudyLock(folder, wait=wait) as lock:
        remove_temporary_files(folder)
        prepared = prepare(study, read_item_index(folder), device)
        notes = list(repair_parts(folder))
        changes = _record_study(folder, study, prepared)
        if prepared.items.copies:
            notes.append(copies_line(prepared.items.copies))
        for line in (*notes, *changes.lines()):
            tell(line)
        size = batch_size or (GPU_BATCH if _is_gpu(device) else 1)
        run = StudyRun(folder, prepared, lock, retry_failed=retry_failed, shard=shard, batch_size=size)
        tell(run.counts.line().removeprefix("PARTIAL: "))
        if run.has_work:
            chosen: AbstractContextManager[Workers] = (
                DaskCluster(prepared.evaluator, scheduler)
                if scheduler is not None
                else LocalProcesses(prepared.evaluator, workers or default_workers(device), threads=1)
            )
            with chosen as pool:
                run.compute(pool, progress, stop)
        results = None
        if not run.counts.is_partial:
            results = compact(folder, prepared.schema, prepared.deterministic)
    return RunSummary(folder, run.counts, run.new, time.perf_counter() - began, changes, tuple(notes), results)


def prepare(study: Study, known_items: ItemIndex | None, device: str) -> PreparedStudy:
    """Load what only models and data can tell, and list the study's units.

    Args:
        study: the study.
        known_items: an earlier index, whose photos need not be decoded again.
        device: where models are loaded.

    Raises:
        InputError: something is missing or does not fit.
    """
    identities = check_ready(study, device)
    items = index_items([section.open() for section in study.data], known_items)
    declared = tuple(
        DeclaredCell(
            cell_digest(study, cell, identities[cell.model]).hex(),
            cell.names,
            cell_options(study, cell, identities[cell.model]),
        )
        for cell in cells(study)
    )
    schema = record_schema(study)
    evaluator = StudyEvaluator(study, places=items.places, device=device)
    return PreparedStudy(declared, items, schema, deterministic_columns(schema), evaluator)


def copies_line(names: Sequence[str]) -> str:
    """How many images count once only, in words."""
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)} images have the pixels and the annotation of an earlier image, and count once: {shown}"


def default_workers(device: str = "auto") -> int:
    """A process for each GPU, or for each core that this process may use."""
    if _is_gpu(device):
        return 1
    try:
        return max(len(os.sched_getaffinity(0)), 1)
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def check_shard(shard: Integers) -> tuple[int, int]:
    """``shard`` as two integers (i, n); :class:`InputError` unless 0 <= i < n."""
    values = [as_integer(value) for value in as_list(shard) or ()]
    if len(values) == 2 and values[0] is not None and values[1] is not None and 0 <= values[0] < values[1]:
        return values[0], values[1]
    raise InputError(f"shard must be two integers (i, n) with 0 <= i < n, got {shown(shard)}")


def _is_gpu(device: str) -> bool:
    import torch

    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())


def _record_study(folder: Path, study: Study, prepared: PreparedStudy) -> StudyChanges:
    """Write what the study is now into its folder, and say how it differs from its last run."""
    before, items_before = read_cells(folder), read_item_index(folder)
    moved = [] if items_before is None else changed_items(items_before, prepared.items)
    changes = study_changes(prepared.cells if before is None else before, prepared.cells, moved)
    write_atomically(folder / STUDY_FILE, write_study(study).encode())
    write_item_index(folder, prepared.items)
    write_cells(folder, prepared.cells)
    return changes
