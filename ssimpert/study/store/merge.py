"""``study merge``: joins the folders of one study that was computed in shards."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ssimpert.errors import InputError
from ssimpert.study.store.compaction import compact
from ssimpert.study.store.failures import read_failures, write_failures
from ssimpert.study.store.lock import StudyLock
from ssimpert.study.store.parts import PartWriter
from ssimpert.study.store.provenance import PROVENANCE_FOLDER
from ssimpert.study.store.results import read_records, unique_records
from ssimpert.study.tasks import UnitFailure


@dataclass(frozen=True)
class MergeReport:
    """What a merge did.

    Attributes:
        sources: how many folders were read.
        added: records that the target did not have.
        known: records that the target had already.
        failures: failures in the target now.
    """

    sources: int
    added: int
    known: int
    failures: int


def merge_shards(
    target: Path, sources: Sequence[Path], schema: pa.Schema, deterministic: Sequence[str], *, wait: bool = False
) -> MergeReport:
    """Add the records, failures and provenance of ``sources`` to ``target``. The sources stay as they are.

    Records that two folders have must be equal in the deterministic columns. All are checked before anything is
    written.

    Args:
        target: the folder that gets everything; made where it does not exist.
        sources: the folders of shards, at least one.
        schema: of the records.
        deterministic: the columns that the key decides.
        wait: wait for a run that works in the target.

    Raises:
        DuplicateRecordError: two folders have unequal records of one unit.
        InputError: a source is not there, or is the target.
        LockedError: a run works in the target.
    """
    for source in sources:
        if not source.is_dir():
            raise InputError(f"there is no folder {str(source)!r} to merge")
        if source.resolve() == target.resolve():
            raise InputError(f"{str(source)!r} is the target itself; name the folders of the shards")
    target.mkdir(parents=True, exist_ok=True)
    with StudyLock(target, wait=wait):
        before = read_records(target, schema, deterministic).table
        tables = [before, *(read_records(source, schema, deterministic).table for source in sources)]
        merged = unique_records(pa.concat_tables(tables), deterministic)
        known = set(before.column("key").to_pylist())
        is_new = pa.array([key not in known for key in merged.column("key").to_pylist()], pa.bool_())
        new = merged.filter(is_new)
        if new.num_rows:
            with PartWriter(target, schema) as writer:
                writer.append(new)
        done = set(merged.column("key").to_pylist())
        failures: dict[str, UnitFailure] = {}
        for folder in (*sources, target):
            failures |= read_failures(folder)
        failures = {key: failure for key, failure in failures.items() if key not in done}
        write_failures(target, failures.values())
        for source in sources:
            _copy_provenance(source, target)
        compact(target, schema, deterministic)
    read = sum(len(table) for table in tables[1:])
    return MergeReport(len(sources), new.num_rows, read - new.num_rows, len(failures))


def _copy_provenance(source: Path, target: Path) -> None:
    folder = target / PROVENANCE_FOLDER
    for path in sorted((source / PROVENANCE_FOLDER).glob("*.json")):
        folder.mkdir(exist_ok=True)
        if not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
