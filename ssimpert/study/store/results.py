"""The records of a study, from all its parts and its compacted file, each unit once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssimpert.errors import InputError
from ssimpert.study.store.parts import sound_parts

RESULTS = "results.parquet"


class DuplicateRecordError(InputError):
    """Two records of one unit that differ where they must be equal. The message names the unit and both writers."""


@dataclass(frozen=True, eq=False)
class StudyRecords:
    """The records of a study's folder.

    Attributes:
        table: a row for each unit, in the order of their keys.
        notes: a line for each part of which something could not be read.
    """

    table: pa.Table
    notes: tuple[str, ...] = ()

    @property
    def keys(self) -> pa.ChunkedArray:
        """The keys of the units that are done."""
        return self.table.column("key")


def read_records(folder: Path, schema: pa.Schema, deterministic: Sequence[str]) -> StudyRecords:
    """All records of a folder. Nothing in the folder is changed, and a run may be writing.

    Args:
        folder: of the study.
        schema: of its records. Columns that older records lack are null; columns that the schema lacks are left out.
        deterministic: the columns that the key decides.

    Raises:
        DuplicateRecordError: records of one unit differ in a deterministic column.
        InputError: ``results.parquet`` can't be read.
    """
    tables, notes = [], []
    # Parts before the compacted file: a unit that moves from one to the other meanwhile is then seen twice, not never.
    for part in sound_parts(folder):
        tables.append(with_schema(part.table, schema))
        if part.corrupt_rows:
            notes.append(f"parts/{part.name}: {part.corrupt_rows} records can't be read, and count as missing")
    compacted = read_compacted(folder)
    if compacted is not None:
        tables.insert(0, with_schema(compacted, schema))
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    return StudyRecords(unique_records(table, deterministic), tuple(notes))


def read_compacted(folder: Path) -> pa.Table | None:
    """The table of ``results.parquet``; ``None`` where there is no such file.

    Raises:
        InputError: the file can't be read.
    """
    return _read(folder, None)


def compacted_keys(folder: Path) -> pa.ChunkedArray | None:
    """The keys in ``results.parquet``; ``None`` where there is no such file.

    Raises:
        InputError: the file can't be read.
    """
    table = _read(folder, ["key"])
    return None if table is None else table.column("key")


def _read(folder: Path, columns: list[str] | None) -> pa.Table | None:
    path = folder / RESULTS
    if not path.exists():
        return None
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path} can't be read ({error}); move it away, and the next run computes its units again"
        ) from error


def with_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """``table`` with the columns of ``schema``, in its order."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def unique_records(table: pa.Table, deterministic: Sequence[str]) -> pa.Table:
    """Every unit once, in the order of their keys: of equal records the first stays.

    Raises:
        DuplicateRecordError: records of one unit differ in a deterministic column.
    """
    table = table.take(pc.sort_indices(table, [("key", "ascending")])) if len(table) else table
    keys = table.column("key").to_numpy(zero_copy_only=False)
    repeats = np.zeros(len(keys), dtype=bool)
    repeats[1:] = keys[1:] == keys[:-1]
    if not repeats.any():
        return table
    in_groups = repeats.copy()
    in_groups[:-1] |= repeats[1:]
    columns = [name for name in deterministic if name in table.column_names]
    several = table.filter(pa.array(in_groups)).select([*dict.fromkeys(["key", *columns, "writer"])]).to_pylist()
    first: dict[str, Any] = {}
    for record in several:
        other = first.setdefault(record["key"], record)
        for name in columns:
            if not _same(record[name], other[name]):
                raise DuplicateRecordError(
                    f"unit {record['key']} has two records that differ in {name!r}: {_short(other[name])} by writer "
                    f"{other['writer']!r}, {_short(record[name])} by writer {record['writer']!r}; move one of the two "
                    "parts away"
                )
    return table.filter(pa.array(~repeats))


def _same(first: Any, second: Any) -> bool:
    """Whether two values are equal; NaN is equal to NaN."""
    if isinstance(first, float) and isinstance(second, float):
        return first == second or (math.isnan(first) and math.isnan(second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
