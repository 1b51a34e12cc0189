"""A CSV file of photos as a data set."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

from ssimpert.data.annotation_numbers import check_area, four_numbers
from ssimpert.data.datasets.item import ObjectAnnotation
from ssimpert.data.datasets.label_map import read_label_table
from ssimpert.data.datasets.layout import check_different, need_file
from ssimpert.data.datasets.photo_dataset import PhotoAnnotation, PhotoDataset
from ssimpert.data.file_kinds import path_fault
from ssimpert.data.frame import Frame
from ssimpert.errors import InputError

_WANTED = "a CSV file with the column 'path'"
_COLUMNS = ("path", "label", "box")


@dataclass
class _Row:
    """The lines of one photo."""

    path: Path
    labels: list[str] = field(default_factory=list)
    boxes: list[tuple[str, tuple[float, float, float, float]]] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)


class CsvDataset(PhotoDataset):
    """Photos listed in a CSV file, with their classes and boxes where it has them.

    Args:
        path: the file: column path (relative to the file's folder); optional label, box ("x0 y0 x1 y1" in the upright
            photo's pixels, ends exclusive), and columns of your own, which go to the results. A photo with several
            objects has a line for each
        label_table: a CSV file that says which of a model's labels belong to each label of yours; default none: the
            objects are those of the photo's first label
    """

    kind = "csv"
    upright = True

    def __init__(self, path: Path, label_table: Path | None = None) -> None:
        self._csv = need_file("list of photos", path, _WANTED)
        self.label_table = label_table
        self._rows = _rows(self._csv)
        self.has_objects = any(row.boxes for row in self._rows)
        if label_table is not None:
            table = read_label_table(label_table)
            for row in self._rows:
                for label in row.labels:
                    table.check_class(label, f"{str(self._csv)!r}, photo {str(row.path)!r}")

    def __len__(self) -> int:
        return len(self._rows)

    def name_of(self, index: int) -> str:
        path = self._rows[index].path
        folder = self._csv.parent
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()

    def photo_of(self, index: int) -> Path:
        return self._rows[index].path

    def annotation_files(self, index: int) -> tuple[Path, ...]:
        return (self._csv,)

    def annotation_of(self, index: int, frame: Frame) -> PhotoAnnotation:
        row = self._rows[index]
        for label, box in row.boxes:
            if box[2] > frame.width or box[3] > frame.height or min(box) < 0:
                raise InputError(
                    f"{str(self._csv)!r}: the box {box} of {label!r} leaves the photo {str(row.path)!r}, which has "
                    f"{frame.width}x{frame.height} pixels"
                )
        return PhotoAnnotation(
            class_names=tuple(dict.fromkeys(row.labels)),
            objects=tuple(ObjectAnnotation(label, box) for label, box in row.boxes),
            source=str(self._csv),
            columns=row.columns,
        )


def _rows(path: Path) -> list[_Row]:
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True)
        names = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"list of photos {str(path)!r} is no readable CSV file ({error})") from error
    check_different(f"list of photos {str(path)!r}", "the column", names)
    if "" in names:
        raise InputError(f"list of photos {str(path)!r}: column {names.index('') + 1} has no name")
    if "path" not in names:
        raise InputError(f"list of photos {str(path)!r} lacks the column 'path'; its first line is {names}")
    if "box" in names and "label" not in names:
        raise InputError(f"list of photos {str(path)!r} has the column 'box' and lacks the column 'label'")
    found: dict[Path, _Row] = {}
    for number, line in lines:
        where = f"list of photos {str(path)!r}, line {number}"
        if None in line or None in line.values():
            raise InputError(f"{where}: {len(names)} values are needed, one for each column")
        values = {name: value.strip() for name, value in line.items()}
        if not values["path"]:
            raise InputError(f"{where}: the path is empty")
        photo = path.parent / Path(values["path"]).expanduser()
        columns = {name: value for name, value in values.items() if name not in _COLUMNS}
        if photo not in found:
            fault = path_fault(photo)
            if fault is not None:
                raise InputError(f"{where}: {str(photo)!r} {fault}")
            found[photo] = _Row(photo, columns=columns)
        row = found[photo]
        if row.columns != columns:
            raise InputError(f"{where}: {str(photo)!r} has {columns} here, and {row.columns} on an earlier line")
        label, text = values.get("label", ""), values.get("box", "")
        if label:
            row.labels.append(label)
        if text:
            if not label:
                raise InputError(f"{where}: the box {text!r} has no label")
            box = four_numbers(path, number, text.replace(",", " ").split())
            row.boxes.append((label, check_area(path, number, box)))
    return list(found.values())
