"""Files with the boxes of objects: VOC XML and COCO JSON.

A box becomes (x0, y0, x1, y1) in pixels with exclusive ends, so that x1 - x0 is its width, and pixel (row, column)
covers [column, column + 1) x [row, row + 1). VOC counts pixels from 1 and includes both ends: xmin = 1 and xmax = 1 is
the first column, (0, 1) here. COCO has (x, y, width, height) from 0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from ssimpert.data.annotation_numbers import check_area, four_numbers, side
from ssimpert.data.file_kinds import path_fault
from ssimpert.data.frame import Frame
from ssimpert.data.voc_xml import read_voc_xml
from ssimpert.errors import InputError


@dataclass(frozen=True, eq=False)
class PhotoBoxes:
    """The boxes of the objects in one photo.

    Attributes:
        source: the file that the boxes were read from.
        file_name: the photo's file name, as the file gives it.
        width: the photo's width in pixels, as the file gives it; None where the file does not.
        height: the photo's height in pixels; None where the file does not give it.
        boxes: (k, 4) float64: (x0, y0, x1, y1) in the photo's pixels, ends exclusive; k may be 0.
        labels: the names of the objects' classes, one for each box.
    """

    source: str
    file_name: str
    width: int | None
    height: int | None
    boxes: Tensor
    labels: tuple[str, ...]


def load_boxes(path: str | Path) -> tuple[PhotoBoxes, ...]:
    """The boxes in the file ``path``: of one photo from VOC XML, of many photos from COCO JSON.

    ``path`` may be a folder, too: then all its ``.xml`` files are read. COCO's groups ("iscrowd": 1) are left out,
    since their boxes are of no single object.

    Raises:
        InputError: no such file, a file of another kind, a file without a photo, or a box that has no area.
    """
    path = Path(path)
    fault = path_fault(path)
    if fault == "is a folder":
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".xml")
        if not files:
            raise InputError(f"boxes {str(path)!r} is a folder without .xml files; give VOC XML files or a COCO JSON")
        return tuple(boxes for file in files for boxes in load_boxes(file))
    if fault is not None:
        raise InputError(f"boxes {str(path)!r} {fault}; give a VOC XML file, a folder of them, or a COCO JSON file")
    if path.suffix.lower() == ".xml":
        return (_voc(path),)
    if path.suffix.lower() == ".json":
        return _coco(path)
    raise InputError(f"boxes {str(path)!r} must end in .xml (VOC) or .json (COCO)")


def boxes_of_photo(name: str, annotations: Sequence[PhotoBoxes], frame: Frame) -> PhotoBoxes:
    """The entry of ``annotations`` that is of the photo ``name``.

    The entry has the photo's file name; where no entry does, the photo's name without its ending. A single entry of a
    VOC XML file is taken as it is. Of several entries with one file name, the entry whose folders fit is taken.

    Args:
        name: the photo: a sample's name or a path.
        annotations: what :func:`load_boxes` gives.
        frame: the photo's frame; its size must be the size that the entry gives.

    Raises:
        InputError: no entry, several entries, or an entry of a photo of another size.
    """
    found = matching(name, [entry.file_name for entry in annotations])
    if not found and len(annotations) == 1 and annotations[0].source.lower().endswith(".xml"):
        found = [0]
    sources = ", ".join(repr(source) for source in sorted({entry.source for entry in annotations})[:3])
    if not found:
        raise InputError(f"{name!r} has no boxes in {sources}")
    if len(found) > 1:
        names = ", ".join(repr(annotations[index].file_name) for index in found[:3])
        raise InputError(f"{name!r} may be any of {names} in {sources}; give the photo by a path with these folders")
    entry = annotations[found[0]]
    check_photo_size(repr(name), frame, (entry.width, entry.height), f"its boxes in {entry.source!r}")
    return entry


def matching(name: str, file_names: Sequence[str]) -> list[int]:
    """Which of ``file_names`` mean the photo ``name``: by file name, else by stem; of several, by their folders."""
    photo = Path(name)
    paths = [PurePosixPath(file_name.replace("\\", "/")) for file_name in file_names]
    found = [index for index, path in enumerate(paths) if path.name == photo.name]
    found = found or [index for index, path in enumerate(paths) if path.stem == photo.stem]
    if len(found) > 1:
        whole = photo.absolute().with_suffix("").as_posix()
        by_folder = [index for index in found if ("/" + whole).endswith("/" + paths[index].with_suffix("").as_posix())]
        deepest = max((len(paths[index].parts) for index in by_folder), default=0)
        found = [index for index in by_folder if len(paths[index].parts) == deepest] or found
    return found


def check_photo_size(
    photo: str, frame: Frame, size: tuple[int | None, int | None], what: str, *, upright: bool = True
) -> None:
    """Raise :class:`InputError` unless the width and the height in ``size``, where known, are those of the photo.

    Args:
        photo: what the error calls the photo.
        frame: of the photo.
        size: width and height in pixels that the annotation gives.
        what: what the error calls the annotation.
        upright: whether the photo's EXIF rotation was applied.
    """
    width, height = size
    if width is None or height is None or (width, height) == (frame.width, frame.height):
        return
    turned = " (after its EXIF rotation)" if upright and (height, width) == (frame.width, frame.height) else ""
    raise InputError(f"{photo} has {frame.width}x{frame.height} pixels{turned}, {what} are of {width}x{height} pixels")


def read_coco(path: Path) -> dict[str, Any]:
    """The COCO JSON file ``path``: an object with the lists "images" and "annotations".

    Raises:
        InputError: the file is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{str(path)!r} is no readable JSON file ({error})") from error
    lists = ("images", "annotations")
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) and all(isinstance(entry, dict) for entry in content[key]) for key in lists
    ):
        raise InputError(f"{str(path)!r} is no COCO JSON file: it needs the lists 'images' and 'annotations'")
    for entry in content["images"]:
        if not isinstance(entry.get("id"), int | str):
            raise InputError(f"{str(path)!r}: an image has the id {entry.get('id')!r}; a number is valid")
    return content


def _voc(path: Path) -> PhotoBoxes:
    content = read_voc_xml(path)
    file_name = content.file_name
    # Tools write the path of another machine, or the name of a format: the file's own name says more.
    if PurePosixPath(file_name.replace("\\", "/")).stem != path.stem:
        file_name = path.with_suffix("").name
    return PhotoBoxes(
        source=str(path),
        file_name=file_name,
        width=content.width,
        height=content.height,
        boxes=_tensor([entry.box for entry in content.objects]),
        labels=tuple(entry.name for entry in content.objects),
    )


def _coco(path: Path) -> tuple[PhotoBoxes, ...]:
    content = read_coco(path)
    categories = content.get("categories")
    names = {
        str(entry.get("id")): str(entry.get("name", entry.get("id")))
        for entry in (categories if isinstance(categories, list) else [])
        if isinstance(entry, dict)
    }
    boxes: dict[Any, list[tuple[float, float, float, float]]] = {entry.get("id"): [] for entry in content["images"]}
    labels: dict[Any, list[str]] = {entry.get("id"): [] for entry in content["images"]}
    for number, annotation in enumerate(content["annotations"]):
        image = annotation.get("image_id")
        if not isinstance(image, int | str) or image not in boxes:
            raise InputError(f"{str(path)!r}: annotation {number} is of image {image!r}, which 'images' lacks")
        if annotation.get("iscrowd"):
            continue
        values = annotation.get("bbox")
        if not isinstance(values, list) or len(values) != 4:
            raise InputError(f"{str(path)!r}: annotation {number} has bbox {values!r}; [x, y, width, height] is valid")
        x, y, width, height = four_numbers(path, number, values)
        boxes[image].append(check_area(path, number, (x, y, x + width, y + height)))
        category = str(annotation.get("category_id"))
        labels[image].append(names.get(category, category))
    return tuple(
        PhotoBoxes(
            source=str(path),
            file_name=str(entry.get("file_name", entry.get("id"))),
            width=side(entry.get("width")),
            height=side(entry.get("height")),
            boxes=_tensor(boxes[entry.get("id")]),
            labels=tuple(labels[entry.get("id")]),
        )
        for entry in content["images"]
    )


def _tensor(boxes: list[tuple[float, float, float, float]]) -> Tensor:
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
