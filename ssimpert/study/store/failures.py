"""``errors.parquet``: the units that could not be computed, and why."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ssimpert.atomic_files import write_atomically
from ssimpert.errors import InputError
from ssimpert.study.tasks import UnitFailure

ERRORS = "errors.parquet"
_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("cell", pa.int64()),
        ("item", pa.int64()),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("tries", pa.int64()),
    ]
)


def read_failures(folder: Path) -> dict[str, UnitFailure]:
    """The failures of a study's folder, by the keys of their units.

    Raises:
        InputError: the file can't be read.
    """
    path = folder / ERRORS
    if not path.exists():
        return {}
    try:
        rows = pq.read_table(path).to_pylist()
        return {row["key"]: UnitFailure(**row) for row in rows}
    except (OSError, pa.ArrowException, TypeError) as error:
        raise InputError(
            f"{path} can't be read ({error}); remove it, and the next run tries its units again"
        ) from error


def write_failures(folder: Path, failures: Iterable[UnitFailure]) -> None:
    """Write all failures of a study in place of those that are there.

    Raises:
        OSError: the file can't be written; the old file is as it was.
    """
    rows = [asdict(failure) for failure in sorted(failures, key=lambda failure: failure.key)]
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), content)
    write_atomically(folder / ERRORS, content.getvalue())
