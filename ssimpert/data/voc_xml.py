"""XML files of VOC: the objects in one photo, with their boxes. ImageNet's boxes are in such files, too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ssimpert.data.annotation_numbers import check_area, four_numbers, side
from ssimpert.data.file_kinds import path_fault
from ssimpert.errors import InputError

_LARGEST_XML = 10_000_000
"""In bytes. A file of VOC has the boxes of one photo."""


@dataclass(frozen=True)
class VocObject:
    """One object of a photo.

    Attributes:
        name: of the object's class.
        box: (x0, y0, x1, y1) in the photo's pixels, ends exclusive.
        difficult: whether VOC calls the object difficult to recognise.
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class VocXml:
    """The annotation of one photo.

    Attributes:
        file_name: the photo's file name, as the file gives it; empty where the file does not.
        width: the photo's width in pixels, as the file gives it; None where the file does not.
        height: the photo's height in pixels; None where the file does not give it.
        objects: in the order of the file.
    """

    file_name: str
    width: int | None
    height: int | None
    objects: tuple[VocObject, ...]


def read_voc_xml(path: Path) -> VocXml:
    """The annotation in the file ``path``.

    VOC counts pixels from 1 and includes both ends: xmin = 1 and xmax = 1 is the first column, (0, 1) here.

    Raises:
        InputError: no such file, a file of another kind, or a box that has no area.
    """
    fault = path_fault(path)
    if fault is not None:
        raise InputError(f"boxes {str(path)!r} {fault}; a VOC XML file is needed")
    if path.stat().st_size > _LARGEST_XML:
        raise InputError(
            f"boxes {str(path)!r} has {path.stat().st_size} bytes; a VOC XML file has the boxes of 1 photo"
        )
    try:
        content = path.read_bytes()
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise InputError(f"boxes {str(path)!r} declares a document type or entities, which VOC XML does not have")
        root = ElementTree.fromstring(content)
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"boxes {str(path)!r} is no readable XML file ({error})") from error
    if root.tag != "annotation":
        raise InputError(f"boxes {str(path)!r} is no VOC XML file: its root is <{root.tag}>, not <annotation>")
    return VocXml(
        file_name=(root.findtext("filename") or "").strip(),
        width=side(root.findtext("size/width")),
        height=side(root.findtext("size/height")),
        objects=tuple(_object(path, number, entry) for number, entry in enumerate(root.iter("object"))),
    )


def _object(path: Path, number: int, entry: ElementTree.Element) -> VocObject:
    values = [entry.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
    x0, y0, x1, y1 = four_numbers(path, number, values)
    difficult = (entry.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise InputError(f"{str(path)!r}: box {number} has difficult = {difficult!r}; 0 and 1 are valid")
    return VocObject(
        name=(entry.findtext("name") or "").strip(),
        box=check_area(path, number, (x0 - 1, y0 - 1, x1, y1)),
        difficult=difficult == "1",
    )
