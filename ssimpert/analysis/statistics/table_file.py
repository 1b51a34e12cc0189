"""Tables on disk, as Parquet or as comma-separated values, with what they depend on: seeds, settings, versions."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssimpert.atomic_files import write_atomically
from ssimpert.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

PACKAGES = (
    "ssimpert",
    "captum",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pyarrow",
    "scikit-image",
    "scipy",
    "timm",
    "torch",
)
_KEY = b"ssimpert"
_FORMAT = 1


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table to a Parquet file, together with ``table.attrs``.

    A path that ends in ``.csv`` gets comma-separated values instead, for programs that don't read Parquet: numbers in
    full precision, NaN as an empty field, without ``table.attrs``. :func:`read_table` doesn't read that file;
    ``pandas.read_csv`` does.

    What the table depends on belongs into ``table.attrs``, as JSON values: ``table.attrs["seed"] = 0``. The versions of
    Python and of the packages that decide the numbers are added under ``"versions"``; a table that was read from a file
    keeps the versions of that file. The index is not kept. The file appears whole or not at all.

    Raises:
        InputError: attributes that are not JSON, columns that Parquet cannot hold, or a folder that cannot be written
            to.
    """
    import pyarrow
    import pyarrow.parquet

    if Path(path).suffix.lower() == ".csv":
        _write_whole(path, table.to_csv(index=False, lineterminator="\n").encode())
        return
    attributes = {"versions": _versions(), **table.attrs}
    try:
        text = json.dumps({"format": _FORMAT, "attrs": attributes}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"table.attrs must hold JSON values: {error}") from error
    bare = table.copy(deep=False)
    bare.attrs = {}
    try:
        content = pyarrow.Table.from_pandas(bare, preserve_index=False)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise InputError(f"the table can't be written as Parquet: {error}") from error
    content = content.replace_schema_metadata({**(content.schema.metadata or {}), _KEY: text.encode()})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(content, sink)
    _write_whole(path, sink.getvalue().to_pybytes())


def _write_whole(path: str | Path, content: bytes) -> None:
    try:
        write_atomically(Path(path), content)
    except OSError as error:
        raise InputError(f"can't write {str(path)!r}: {error.strerror or error}") from error


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table that :func:`write_table` wrote; ``table.attrs`` has what was written with it, and ``"versions"``.

    Raises:
        InputError: no such file, a file that is not Parquet, or one that :func:`write_table` did not write.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with Path(path).open("rb") as file:
            content = pyarrow.parquet.read_table(file)
    except OSError as error:
        raise InputError(f"can't read {str(path)!r}: {error.strerror or error}") from error
    except pyarrow.ArrowException as error:
        raise InputError(f"{str(path)!r} is not a Parquet file: {error}") from error
    metadata = (content.schema.metadata or {}).get(_KEY)
    if metadata is None:
        raise InputError(f"{str(path)!r} has no record of seeds and versions; it was not written by write_table")
    record: dict[str, Any] = json.loads(metadata)
    if record["format"] != _FORMAT:
        raise InputError(f"{str(path)!r} has format {record['format']!r}; this version reads {_FORMAT}")
    table = content.to_pandas()
    table.attrs = record["attrs"]
    return table


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions
