"""Masks of objects: a folder of pictures, one for each photo, or the outlines in a COCO JSON file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssimpert.data.annotation_numbers import side
from ssimpert.data.box_files import check_photo_size, matching, read_coco
from ssimpert.data.coco_outlines import outline_pixels, require_pycocotools
from ssimpert.data.decoding import opened_picture
from ssimpert.data.file_kinds import path_fault
from ssimpert.data.frame import Frame
from ssimpert.data.masks import check_proportions, load_mask
from ssimpert.errors import InputError

VOID = 255
"""In a picture with a palette: the pixels at an object's rim, of which VOC says neither object nor background."""


@dataclass(frozen=True, eq=False)
class ObjectMasks:
    """Where the masks of photos are.

    Attributes:
        source: the folder, or the COCO JSON file.
        file_names: the photos that have a mask, by the names that the source gives them.
        files: the picture of each mask; empty for COCO.
        content: the content of a COCO JSON file; empty for a folder.
    """

    source: str
    file_names: tuple[str, ...]
    files: tuple[Path, ...] = ()
    content: dict[str, Any] = field(default_factory=dict)


def find_masks(path: str | Path) -> ObjectMasks:
    """The masks in ``path``: a folder of PNG files, each named like its photo, or a COCO JSON file with outlines.

    Raises:
        InputError: no such folder or file, or none with a mask; outlines, where pycocotools is not installed.
    """
    path = Path(path)
    fault = path_fault(path)
    if fault == "is a folder":
        files = tuple(sorted(file for file in path.iterdir() if file.suffix.lower() == ".png"))
        if not files:
            raise InputError(f"masks {str(path)!r} is a folder without .png files")
        return ObjectMasks(str(path), tuple(file.name for file in files), files=files)
    if fault is not None or path.suffix.lower() != ".json":
        raise InputError(
            f"masks {str(path)!r} {fault or 'is a file'}; give a folder of PNG files, or a COCO JSON file (.json)"
        )
    require_pycocotools()
    content = read_coco(path)
    names = tuple(str(entry.get("file_name", entry.get("id"))) for entry in content["images"])
    return ObjectMasks(str(path), names, content=content)


def mask_of_photo(name: str, masks: ObjectMasks, frame: Frame) -> Tensor:
    """The mask of the object in the photo ``name``, in the pixels of the model: bool, on the CPU.

    In a PNG file with a palette, a label map as VOC has them, every pixel counts whose number is neither 0 (background)
    nor 255 (void). In another PNG file the bright pixels count, as in :func:`ssimpert.data.load_mask`. Of COCO, the
    union of the photo's outlines counts, without groups ("iscrowd": 1).

    Args:
        name: the photo: a sample's name or a path.
        masks: what :func:`find_masks` gives.
        frame: the photo's frame, which carries the mask to the model's pixels.

    Raises:
        InputError: no mask or several masks for the photo, a mask that does not fit the photo, a mask without a pixel,
            or a mask without a pixel in the part that the model sees.
    """
    found = matching(name, masks.file_names)
    if len(found) != 1:
        names = ", ".join(repr(masks.file_names[index]) for index in found[:3])
        several = f"may be any of {names} in" if found else "has no mask in"
        raise InputError(f"{name!r} {several} {masks.source!r}")
    where = masks.source if masks.content else str(masks.files[found[0]])
    if masks.content:
        mask = _coco_mask(masks, found[0], name, frame)
        own_frame = frame
    else:
        mask = _label_map_or_bright(masks.files[found[0]])
        check_proportions(masks.files[found[0]], mask, name, frame)
        own_frame = Frame(mask.shape[1], mask.shape[0], frame.size)
    if not bool(mask.any()):
        raise InputError(f"the mask of {name!r} in {where!r} marks no object: no pixel is bright, or has a label")
    seen = own_frame.mask_to_model(mask)
    if not bool(seen.any()):
        raise InputError(f"the object of {name!r} in {where!r} lies outside of the central square that the model sees")
    return seen


def _label_map_or_bright(path: Path) -> Tensor:
    with opened_picture(path) as picture:
        if picture.mode == "P":
            labels = np.asarray(picture)
            return torch.from_numpy((labels != 0) & (labels != VOID))
    return load_mask(path)


def _coco_mask(masks: ObjectMasks, index: int, name: str, frame: Frame) -> Tensor:
    image = masks.content["images"][index]
    size = side(image.get("width")), side(image.get("height"))
    check_photo_size(repr(name), frame, size, f"its outlines in {masks.source!r}")
    union = np.zeros((frame.height, frame.width), dtype=bool)
    for number, annotation in enumerate(masks.content["annotations"]):
        if annotation.get("image_id") != image.get("id") or annotation.get("iscrowd"):
            continue
        union |= outline_pixels(annotation.get("segmentation"), f"{masks.source!r}: annotation {number}", frame)
    return torch.from_numpy(union)
