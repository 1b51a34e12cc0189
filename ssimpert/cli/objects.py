"""The objects in the photos of ``compare``: boxes of ``--boxes`` and masks of ``--masks``, in the model's pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssimpert.cli.terminal import say
from ssimpert.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ssimpert.data import ObjectMasks, Photo, PhotoBoxes

OBJECT_PANEL = "Objects"


@dataclass(frozen=True)
class ObjectOptions:
    """Where the photos' objects are."""

    boxes: Annotated[
        Path | None,
        typer.Option(
            "--boxes",
            metavar="FILE",
            help="Boxes of the objects, in the photo's pixels: a VOC XML file, a folder of such files, or a COCO JSON "
            "file. The boxes are resized and cut like the photo. Every map gets the share of its sum in the boxes, "
            "the pointing hit, and the best overlap with a box.",
            rich_help_panel=OBJECT_PANEL,
        ),
    ] = None
    masks: Annotated[
        Path | None,
        typer.Option(
            "--masks",
            metavar="FOLDER",
            help="Masks of the objects: a folder of PNG files named like the photos, or a COCO JSON file with outlines "
            "(extra coco). In a PNG file with a palette every label but 0 and 255 is the object, in others the bright "
            "pixels (128 or more of 255). Beside --boxes: the sum and the pointing hit are of the masks, the overlap "
            "is with the boxes.",
            rich_help_panel=OBJECT_PANEL,
        ),
    ] = None


@dataclass(frozen=True, eq=False)
class Objects:
    """What ``--boxes`` and ``--masks`` name, read.

    Attributes:
        boxes: the boxes of photos; None without ``--boxes``.
        masks: where the masks are; None without ``--masks``.
        files: the two paths as given.
    """

    boxes: tuple[PhotoBoxes, ...] | None
    masks: ObjectMasks | None
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, eq=False)
class SeenObjects:
    """The objects in one photo, in the model's pixels.

    Attributes:
        boxes: (k, 4), k at least 1; None without ``--boxes``.
        mask: (S, S) bool, with a True pixel. Without ``--masks`` it is the union of the boxes.
    """

    boxes: Tensor | None
    mask: Tensor

    def content_hash(self) -> str:
        """The SHA-256 of boxes and mask, in hexadecimal digits."""
        boxes = b"" if self.boxes is None else self.boxes.double().numpy().tobytes()
        return hashlib.sha256(boxes + self.mask.numpy().tobytes()).hexdigest()


def objects_from_options(options: ObjectOptions) -> Objects | None:
    """What the options name, read before a model is loaded; None without both options.

    Raises:
        InputError: a file or a folder can't be used.
    """
    if options.boxes is None and options.masks is None:
        return None
    from ssimpert.data import find_masks, load_boxes

    return Objects(
        boxes=None if options.boxes is None else load_boxes(options.boxes),
        masks=None if options.masks is None else find_masks(options.masks),
        files=tuple(path for path in (options.boxes, options.masks) if path is not None),
    )


def seen_objects(objects: Objects | None, photo: Photo) -> SeenObjects | None:
    """The objects in ``photo``; boxes that the model does not see are named on stderr.

    Raises:
        InputError: the photo has no boxes or no mask, or the model sees nothing of them.
    """
    if objects is None:
        return None
    boxes = None if objects.boxes is None else _seen_boxes(objects.boxes, photo)
    if objects.masks is not None:
        from ssimpert.data import mask_of_photo

        return SeenObjects(boxes, mask_of_photo(photo.name, objects.masks, photo.frame))
    from ssimpert.analysis.localization.boxes import box_masks

    assert boxes is not None
    (mask,) = box_masks([boxes], 1, photo.frame.model_height, photo.frame.model_width)
    if not bool(mask.any()):
        raise InputError(f"{photo.name!r}: its boxes are so small that they hold no pixel's centre for the model")
    return SeenObjects(boxes, mask)


def comparison_keywords(seen: list[SeenObjects | None], device: torch.device) -> dict[str, Any]:
    """The objects of all photos as keywords of :func:`ssimpert.compare`: ``masks`` and ``boxes``."""
    import torch

    found = [entry for entry in seen if entry is not None]
    if not found:
        return {}
    boxes = [entry.boxes for entry in found if entry.boxes is not None]
    return {
        "masks": torch.stack([entry.mask for entry in found]).to(device),
        "boxes": [rows.to(device) for rows in boxes] or None,
    }


def _seen_boxes(annotations: tuple[PhotoBoxes, ...], photo: Photo) -> Tensor:
    from ssimpert.data import boxes_of_photo

    entry = boxes_of_photo(photo.name, annotations, photo.frame)
    if len(entry.boxes) == 0:
        raise InputError(f"{photo.name!r} has no box in {entry.source!r}")
    framed = photo.frame.boxes_to_model(entry.boxes)
    count = len(entry.boxes)
    if len(framed.boxes) == 0:
        raise InputError(
            f"{photo.name!r}: its {count} boxes in {entry.source!r} lie outside of the part that the model sees"
        )
    vanished, clipped = len(framed.vanished), len(framed.clipped)
    parts = [f"{vanished} outside of the part that the model sees (left out)"] if vanished else []
    parts += [f"{clipped} partly outside (clipped)"] if clipped else []
    if parts:
        say(f"{photo.name!r}: of {count} boxes, {', '.join(parts)}")
    return framed.boxes
