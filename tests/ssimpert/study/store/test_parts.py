"""What was synced is read again, whatever happened to the rest of a part."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ssimpert.errors import InputError
from ssimpert.study.store.parts import PARTS, RECORDS, SUMS, TORN, PartWriter, part_names, read_part, repair_parts
from ssimpert.study.store.results import DuplicateRecordError, read_records, unique_records
from tests.ssimpert.study.store.small_records import DETERMINISTIC, SCHEMA, record, records

ROOT = Path(__file__).parents[4]


def written(folder: Path, *groups: list[int], name: str = "one") -> tuple[Path, Path]:
    """A part with a batch for each group; its two files."""
    with PartWriter(folder, SCHEMA, name) as writer:
        for group in groups:
            writer.append(records(*group))
    return folder / PARTS / f"{name}{RECORDS}", folder / PARTS / f"{name}{SUMS}"


def values(folder: Path) -> list[float]:
    return sorted(read_records(folder, SCHEMA, DETERMINISTIC).table.column("value").to_pylist())


def test_records_come_back_as_they_were_appended(tmp_path: Path) -> None:
    written(tmp_path, [0, 1, 2], [3], [4, 5])
    table = read_records(tmp_path, SCHEMA, DETERMINISTIC).table
    expected = sorted(records(0, 1, 2, 3, 4, 5), key=lambda row: row["key"])
    assert table.to_pylist() == expected
    assert table.schema == SCHEMA


def test_a_part_is_an_arrow_stream_that_others_can_read(tmp_path: Path) -> None:
    import pyarrow as pa

    path, _ = written(tmp_path, [0, 1], [2])
    with pa.ipc.open_stream(path.read_bytes()) as reader:
        assert reader.read_all().to_pylist() == records(0, 1, 2)


def test_an_empty_writer_leaves_no_file(tmp_path: Path) -> None:
    with PartWriter(tmp_path, SCHEMA) as writer:
        writer.append([])
    assert part_names(tmp_path) == []


def test_a_column_that_the_schema_lacks_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with PartWriter(tmp_path, SCHEMA) as writer, pytest.raises(InputError, match="columns extra, which"):
        writer.append([record(0, extra=1)])
    assert part_names(tmp_path) == []


def test_a_part_that_was_cut_anywhere_has_its_whole_batches(tmp_path: Path) -> None:
    path, _ = written(tmp_path, [0], [1, 2], [3])
    content = path.read_bytes()
    counts = []
    for length in range(0, len(content), 13):
        path.write_bytes(content[:length])
        table = read_part(tmp_path, "one").table
        counts.append(0 if table is None else len(table))
        found = [] if table is None else table.to_pylist()
        assert found == records(0, 1, 2, 3)[: len(found)]
    assert set(counts) == {0, 1, 3}
    assert counts == sorted(counts)


def test_sums_that_were_cut_anywhere_leave_whole_batches(tmp_path: Path) -> None:
    _, sums = written(tmp_path, [0], [1, 2], [3])
    content = sums.read_bytes()
    for length in range(len(content)):
        sums.write_bytes(content[:length])
        table = read_part(tmp_path, "one").table
        found = [] if table is None else table.to_pylist()
        assert found == records(0, 1, 2, 3)[: len(found)]
        assert len(found) in (0, 1, 3)


def test_a_flipped_byte_anywhere_is_found_and_costs_its_own_batch_alone(tmp_path: Path) -> None:
    path, _ = written(tmp_path, [0], [1, 2], [3])
    content = path.read_bytes()
    lost = set()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        part = read_part(tmp_path, "one")
        assert not part.is_sound
        found = [] if part.table is None else [row["value"] for row in part.table.to_pylist()]
        lost.add(tuple(number for number in range(4) if number / 3 not in found))
    assert lost == {(0, 1, 2, 3), (0,), (1, 2), (3,)}  # the first: the schema is gone


def test_repair_keeps_what_is_sound_and_puts_the_bytes_aside(tmp_path: Path) -> None:
    path, _ = written(tmp_path, [0], [1, 2], [3])
    content = bytearray(path.read_bytes())
    content[read_end(tmp_path, 1) + 40] ^= 1  # in the second batch
    damaged = bytes(content) + b"torn"
    path.write_bytes(damaged)
    (line,) = repair_parts(tmp_path)
    assert "2 records whose bytes changed" in line
    assert "4 bytes of a batch that was never finished" in line
    assert (tmp_path / PARTS / TORN / path.name).read_bytes() == damaged
    assert values(tmp_path) == [0.0, 1.0]
    assert repair_parts(tmp_path) == []


def read_end(folder: Path, piece: int) -> int:
    return int((folder / PARTS / f"one{SUMS}").read_text().splitlines()[piece].split()[0])


def test_repair_leaves_the_part_of_a_writer_at_work_alone(tmp_path: Path) -> None:
    path, _ = written(tmp_path, [0])
    with path.open("ab") as file:
        file.write(b"half a batch")
    assert repair_parts(tmp_path, keep="one") == []
    assert path.read_bytes().endswith(b"half a batch")


def test_equal_records_of_two_writers_count_once(tmp_path: Path) -> None:
    written(tmp_path, [0, 1])
    with PartWriter(tmp_path, SCHEMA, "two") as writer:
        writer.append([record(1, writer="two"), record(2, writer="two")])
    assert values(tmp_path) == [0.0, 1 / 3, 2 / 3]


def test_unequal_records_of_one_unit_name_both_writers(tmp_path: Path) -> None:
    written(tmp_path, [0, 1])
    with PartWriter(tmp_path, SCHEMA, "two") as writer:
        writer.append([record(1, writer="two", value=9.0)])
    with pytest.raises(
        DuplicateRecordError, match=r"differ in 'value': .* by writer '(one|two)', .* by writer '(one|two)'"
    ):
        read_records(tmp_path, SCHEMA, DETERMINISTIC)


def test_nan_equals_nan_between_two_records_of_a_unit() -> None:
    import pyarrow as pa

    nan = float("nan")
    twice = [record(1, value=nan, scores=[{"metric": "auc", "value": nan}]) for _ in range(2)]
    table = pa.Table.from_pylist(twice, SCHEMA)
    assert unique_records(table, DETERMINISTIC).num_rows == 1


def test_columns_that_older_records_lack_are_null(tmp_path: Path) -> None:
    import pyarrow as pa

    written(tmp_path, [0])
    wider = SCHEMA.append(pa.field("later", pa.int64()))
    assert read_records(tmp_path, wider, DETERMINISTIC).table.column("later").to_pylist() == [None]


WRITER = """
import sys, itertools
from pathlib import Path
from ssimpert.study.store.parts import PartWriter
from tests.ssimpert.study.store.small_records import SCHEMA, records
with PartWriter(Path(sys.argv[1]), SCHEMA) as writer:
    for number in itertools.count():
        writer.append(records(3 * number, 3 * number + 1, 3 * number + 2))
        print(number, flush=True)
"""


def test_a_killed_writer_loses_at_most_the_batch_in_hand(tmp_path: Path) -> None:
    """Every batch that was reported is on the disk, and nothing is torn for the reader."""
    random.seed(0)
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2 * random.random())
        os.kill(process.pid, signal.SIGKILL)
        reported = 1 + len(process.stdout.read().splitlines())
        process.wait()
        (name,) = part_names(folder)
        found = read_part(folder, name).table.to_pylist()
        assert len(found) in (3 * reported, 3 * reported + 3)
        assert found == records(*range(len(found)))
        repair_parts(folder)
        assert len(values(folder)) == len(found)
