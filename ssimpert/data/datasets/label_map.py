"""Which of a model's labels belong to each class of a data set: explicit tables, shipped or the user's own.

A table is a CSV file with the columns ``class`` and ``label``, one line for each label of a class, and more columns as
one likes. A class without a counterpart has one line with an empty label. The shipped tables, ``voc`` and ``coco``, map
to the names that this package gives to ImageNet-1k's classes. Their column ``synset`` has the label's WordNet synset,
and ``source`` says why the label belongs to the class: by WordNet 3.0, or by meaning.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from ssimpert.data.file_kinds import path_fault
from ssimpert.errors import InputError, unknown_name

SHIPPED_TABLES = ("voc", "coco")
"""The tables that are shipped, by name."""


class LabelMap(Mapping[str, frozenset[int]]):
    """For each class of a data set the numbers of the model's labels that belong to the class; perhaps none."""

    def __init__(self, name: str, numbers: Mapping[str, frozenset[int]]) -> None:
        self.name, self._numbers = name, dict(numbers)

    def __getitem__(self, class_name: str) -> frozenset[int]:
        return self._numbers[class_name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def without_label(self) -> tuple[str, ...]:
        """The classes that the model has no label for."""
        return tuple(name for name, numbers in self._numbers.items() if not numbers)


@dataclass(frozen=True, eq=False)
class LabelTable:
    """A table as it is read.

    Attributes:
        name: of a shipped table, or the path.
        labels: for each class the names of its labels, in the order of the table.
    """

    name: str
    labels: Mapping[str, tuple[str, ...]]

    def check_class(self, class_name: str, where: str) -> str:
        """``class_name``; :class:`InputError` unless the table has such a class. ``where`` says where it stands."""
        if class_name not in self.labels:
            fault = unknown_name("class", class_name, self.labels)
            raise InputError(f"{where}: {fault} (classes of the label table {self.name!r})")
        return class_name


def label_map(table: str | Path, labels: Sequence[str]) -> LabelMap:
    """The labels of a model that belong to each class of a table.

    A label is found by its name, exactly as the table has it. A model whose labels hold none of the table's names may
    be one for the data set itself: then its labels are the names of the classes.

    Args:
        table: ``"voc"`` or ``"coco"``, or the path of a CSV file with the columns ``class`` and ``label``.
        labels: the names of the model's classes, in order.

    Raises:
        InputError: there is no such table; or the model has only some of the table's labels, or none of the classes.
    """
    return _matched(read_label_table(table), tuple(labels))


@lru_cache(maxsize=64)
def _matched(read: LabelTable, labels: tuple[str, ...]) -> LabelMap:
    numbers = {name: number for number, name in enumerate(labels)}
    wanted = [label for names in read.labels.values() for label in names]
    missing = [label for label in wanted if label not in numbers]
    if wanted and not missing:
        found = {name: frozenset(numbers[label] for label in names) for name, names in read.labels.items()}
        return LabelMap(read.name, found)
    own = {name: frozenset([numbers[name]] if name in numbers else []) for name in read.labels}
    if len(missing) < len(wanted) or not any(own.values()):
        kind = " maps to ImageNet-1k, and" if read.name in SHIPPED_TABLES else ""
        raise InputError(
            f"label table {read.name!r}{kind} names {(missing or list(read.labels))[0]!r}, which is none of the "
            f"model's {len(labels)} labels; give a table of your own as label_table"
        )
    return LabelMap(read.name, own)


def read_label_table(table: str | Path) -> LabelTable:
    """A table, shipped or from a CSV file.

    Raises:
        InputError: there is no such table, or a line that can't be used; the message names file and line.
    """
    return _parsed(str(table), label_table_content(table))


def label_table_content(table: str | Path) -> bytes:
    """The bytes of a table's file.

    Raises:
        InputError: there is no such table.
    """
    if isinstance(table, str) and table in SHIPPED_TABLES:
        return (files(__package__) / f"{table}_imagenet_labels.csv").read_bytes()
    if isinstance(table, str) and not Path(table).suffix and path_fault(table) is not None:
        raise unknown_name("label table", table, SHIPPED_TABLES)
    fault = path_fault(table)
    if fault is not None:
        raise InputError(f"label table {str(table)!r} {fault}; give a CSV file with the columns 'class' and 'label'")
    try:
        return Path(table).read_bytes()
    except OSError as error:
        raise InputError(f"label table {str(table)!r} can't be read ({error.strerror})") from error


def label_table_digest(table: str | Path | None) -> str:
    """The hexadecimal SHA-256 of a table's file; empty where there is no table."""
    return "" if table is None else hashlib.sha256(label_table_content(table)).hexdigest()


@lru_cache(maxsize=16)
def _parsed(name: str, content: bytes) -> LabelTable:
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig")), strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"label table {name!r} is no readable CSV file ({error})") from error
    for column in ("class", "label"):
        if column not in (reader.fieldnames or ()):
            raise InputError(f"label table {name!r} lacks the column {column!r}; its first line is {reader.fieldnames}")
    labels: dict[str, tuple[str, ...]] = {}
    class_of: dict[str, str] = {}
    for line, row in rows:
        class_name, label = (row["class"] or "").strip(), (row["label"] or "").strip()
        if not class_name:
            raise InputError(f"label table {name!r}, line {line}: the class is empty")
        if label in class_of:
            raise InputError(
                f"label table {name!r}, line {line}: label {label!r} belongs to class {class_of[label]!r} already"
            )
        if label:
            class_of[label] = class_name
        labels[class_name] = (*labels.get(class_name, ()), *([label] if label else []))
    if not labels:
        raise InputError(f"label table {name!r} has no line")
    return LabelTable(name, labels)
