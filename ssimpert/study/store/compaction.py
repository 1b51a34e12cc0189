"""``results.parquet``: all records of a study in one file, in the place of its parts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ssimpert.atomic_files import write_atomically
from ssimpert.study.store.parts import PARTS, RECORDS, SUMS, part_names, sync_folder
from ssimpert.study.store.results import RESULTS, read_compacted, read_records


def compact(folder: Path, schema: pa.Schema, deterministic: Sequence[str]) -> Path:
    """Put all records into ``results.parquet``, and remove the parts once that file was read again and is right.

    Only the holder of the study's lock may call this function, and no part may be open.

    Raises:
        OSError: the file can't be written; the parts stay.
        RuntimeError: the file does not read as it was written; the parts stay.
    """
    names = part_names(folder)
    table = read_records(folder, schema, deterministic).table
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    write_atomically(folder / RESULTS, content.getvalue())
    sync_folder(folder)
    written = read_compacted(folder)
    if written is None or written.num_rows != table.num_rows or not written.column("key").equals(table.column("key")):
        raise RuntimeError(f"{folder / RESULTS} does not read as it was written; the parts stay")
    for name in names:
        # The sums last: records without sums are bytes of no batch, and never another result.
        for suffix in (RECORDS, SUMS):
            with suppress(FileNotFoundError):
                (folder / PARTS / f"{name}{suffix}").unlink()
    return folder / RESULTS
