"""Many parts become one file, and many folders one folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssimpert.errors import InputError
from ssimpert.study.store import compaction
from ssimpert.study.store.compaction import compact
from ssimpert.study.store.failures import read_failures, write_failures
from ssimpert.study.store.merge import merge_shards
from ssimpert.study.store.parts import PartWriter, part_names
from ssimpert.study.store.provenance import read_provenance, write_provenance
from ssimpert.study.store.results import RESULTS, DuplicateRecordError, read_records
from ssimpert.study.tasks import UnitFailure
from tests.ssimpert.study.store.small_records import DETERMINISTIC, SCHEMA, record, records


def add(folder: Path, *numbers: int, **changes: object) -> None:
    with PartWriter(folder, SCHEMA) as writer:
        writer.append([record(number, **changes) for number in numbers])


def test_a_compacted_folder_reads_as_before_and_takes_new_parts(tmp_path: Path) -> None:
    add(tmp_path, 0, 1)
    add(tmp_path, 2)
    before = read_records(tmp_path, SCHEMA, DETERMINISTIC).table
    compact(tmp_path, SCHEMA, DETERMINISTIC)
    assert part_names(tmp_path) == []
    assert read_records(tmp_path, SCHEMA, DETERMINISTIC).table.equals(before)
    add(tmp_path, 3)
    assert read_records(tmp_path, SCHEMA, DETERMINISTIC).table.num_rows == 4
    compact(tmp_path, SCHEMA, DETERMINISTIC)
    assert read_records(tmp_path, SCHEMA, DETERMINISTIC).table.num_rows == 4


def test_parts_stay_where_the_compacted_file_reads_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, 0, 1)
    monkeypatch.setattr(compaction, "read_compacted", lambda folder: None)
    with pytest.raises(RuntimeError, match="the parts stay"):
        compact(tmp_path, SCHEMA, DETERMINISTIC)
    assert len(part_names(tmp_path)) == 1


def test_parts_beside_their_own_compacted_file_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process had been killed before it removed the parts."""
    add(tmp_path, 0, 1)
    monkeypatch.setattr(compaction, "part_names", lambda folder: [])
    compact(tmp_path, SCHEMA, DETERMINISTIC)
    assert len(part_names(tmp_path)) == 1
    assert read_records(tmp_path, SCHEMA, DETERMINISTIC).table.num_rows == 2


def test_a_compacted_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_bytes(b"PAR0")
    with pytest.raises(InputError, match=r"results\.parquet can't be read"):
        read_records(tmp_path, SCHEMA, DETERMINISTIC)


def test_shards_become_one_folder_with_failures_and_provenance(tmp_path: Path) -> None:
    target, first, second = (tmp_path / name for name in ("all", "first", "second"))
    for folder in (first, second):
        folder.mkdir()
    add(first, 0, 1)
    add(second, 1, 2, 3, writer="two")
    failures = [UnitFailure(record(number)["key"], 0, number, "broken", "OSError: broken", 1) for number in (2, 9)]
    write_failures(first, failures)
    write_provenance(second, "runner-two", {"units": 3})
    report = merge_shards(target, [first, second], SCHEMA, DETERMINISTIC)
    assert (report.added, report.known, report.failures) == (4, 1, 1)
    assert sorted(read_records(target, SCHEMA, DETERMINISTIC).keys.to_pylist()) == sorted(
        row["key"] for row in records(0, 1, 2, 3)
    )
    assert list(read_failures(target)) == [record(9)["key"]]  # what another shard computed did not fail
    assert read_provenance(target) == {"runner-two": {"units": 3}}
    again = merge_shards(target, [first, second], SCHEMA, DETERMINISTIC)
    assert again.added == 0


def test_conflicting_shards_are_refused_and_leave_the_target_as_it_was(tmp_path: Path) -> None:
    target, shard = tmp_path / "all", tmp_path / "shard"
    add(target, 0)
    add(shard, 0, 1, value=5.0, writer="two")
    with pytest.raises(DuplicateRecordError, match="'value'"):
        merge_shards(target, [shard], SCHEMA, DETERMINISTIC)
    assert read_records(target, SCHEMA, DETERMINISTIC).table.num_rows == 1


def test_a_missing_shard_and_the_target_itself_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        merge_shards(tmp_path / "all", [tmp_path / "none"], SCHEMA, DETERMINISTIC)
    with pytest.raises(InputError, match="the target itself"):
        merge_shards(tmp_path, [tmp_path], SCHEMA, DETERMINISTIC)


def test_a_failure_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "errors.parquet").write_bytes(b"?")
    with pytest.raises(InputError, match=r"errors\.parquet can't be read"):
        read_failures(tmp_path)
