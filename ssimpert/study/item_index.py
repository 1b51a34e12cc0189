"""``items.parquet``: the items of a study, with what identifies each of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ssimpert.atomic_files import write_atomically
from ssimpert.errors import InputError

if TYPE_CHECKING:
    from ssimpert.data.datasets.item import Dataset

ITEMS = "items.parquet"
_FILE = pa.struct([("path", pa.string()), ("bytes", pa.int64()), ("modified_ns", pa.int64())])
ITEM_SCHEMA = pa.schema(
    [
        ("data", pa.int64()),
        ("index", pa.int64()),
        ("name", pa.string()),
        ("identity", pa.string()),
        ("files", pa.list_(_FILE)),
    ]
)


@dataclass(frozen=True, eq=False)
class ItemIndex:
    """The items of a study, in the order of its data sets.

    Attributes:
        table: a row for each item: the data set's position in the study, the item's index in the data set, its name,
            its identity and its files.
        copies: the names of items with the pixels and the annotation of an earlier item. They would be the same units,
            and have no row.
    """

    table: pa.Table
    copies: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def identities(self) -> list[str]:
        """The identity of every item."""
        return list(self.table.column("identity").to_pylist())

    @property
    def names(self) -> list[str]:
        """The name of every item."""
        return list(self.table.column("name").to_pylist())

    @property
    def places(self) -> list[tuple[int, int]]:
        """For each item its data set, and its index there."""
        columns = (self.table.column(name).to_pylist() for name in ("data", "index"))
        return list(zip(*columns, strict=True))


def index_items(datasets: Sequence[Dataset], before: ItemIndex | None = None) -> ItemIndex:
    """The index of the items of these data sets.

    An item whose files have the size and the time of change that ``before`` has for them is not decoded again. Items
    that are generated have no files, and are always made anew.

    Args:
        datasets: of the study, in order.
        before: an earlier index.
    """
    known: dict[tuple[str, str], str] = {}
    if before is not None:
        for row in before.table.to_pylist():
            if row["files"]:
                known[row["name"], repr(_plain(row["files"]))] = row["identity"]
    rows: dict[str, dict[str, Any]] = {}
    copies: list[str] = []
    for number, dataset in enumerate(datasets):
        for index in range(len(dataset)):
            name = dataset.name_of(index)
            files = [_file(path) for path in dataset.files_of(index)]
            identity = known.get((name, repr(_plain(files)))) if files else None
            identity = identity or _identity(dataset, index, name, files)
            if identity in rows:
                copies.append(name)
                continue
            rows[identity] = {"data": number, "index": index, "name": name, "identity": identity, "files": files}
    return ItemIndex(pa.Table.from_pylist(list(rows.values()), ITEM_SCHEMA), tuple(copies))


def changed_items(before: ItemIndex, after: ItemIndex) -> list[str]:
    """The names of the items that both indices have, with other pixels or another annotation."""
    identities = {(row["data"], row["name"]): row["identity"] for row in before.table.to_pylist()}
    return [
        row["name"]
        for row in after.table.to_pylist()
        if identities.get((row["data"], row["name"]), row["identity"]) != row["identity"]
    ]


def read_item_index(folder: Path) -> ItemIndex | None:
    """The index in a study's folder; ``None`` where there is none, or none that can be read: it is then made anew."""
    try:
        table = pq.read_table(folder / ITEMS)
    except (OSError, pa.ArrowException):
        return None
    return ItemIndex(table) if table.schema.equals(ITEM_SCHEMA) else None


def write_item_index(folder: Path, index: ItemIndex) -> None:
    """Write the index into a study's folder.

    Raises:
        OSError: the file can't be written.
    """
    content = io.BytesIO()
    pq.write_table(index.table, content)
    write_atomically(folder / ITEMS, content.getvalue())


def _identity(dataset: Dataset, index: int, name: str, files: Sequence[dict[str, Any]]) -> str:
    try:
        return dataset.identity_of(index)
    except (InputError, OSError, ValueError) as error:
        # The unit will fail with this reason; it is another unit once the file changes.
        return hashlib.sha256(f"unreadable {name} {_plain(files)} {type(error).__name__}".encode()).hexdigest()


def _file(path: Path) -> dict[str, Any]:
    try:
        status = path.stat()
    except OSError:
        return {"path": str(path), "bytes": -1, "modified_ns": -1}
    return {"path": str(path), "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _plain(files: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(file["path"], file["bytes"], file["modified_ns"]) for file in files]
