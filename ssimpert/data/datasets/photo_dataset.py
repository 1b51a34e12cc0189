"""Data sets of photo files: identity and frame of a photo with its annotation, the same for every reader."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ssimpert.data.box_files import check_photo_size
from ssimpert.data.datasets.item import Dataset, Item, ObjectAnnotation
from ssimpert.data.datasets.label_map import label_table_digest
from ssimpert.data.decoding import DecodedPicture
from ssimpert.data.frame import Frame
from ssimpert.data.photos import decode_photo, framed_photo


@dataclass(frozen=True, eq=False)
class PhotoAnnotation:
    """What a data set says of a photo.

    Attributes:
        class_names: the classes that the photo shows.
        objects: with boxes and masks in pixels of the photo.
        source: what the annotation was read from, for errors.
        size: the photo's width and height in pixels as the annotation gives them; ``None`` where it does not.
        columns: what tables are clustered by.
    """

    class_names: tuple[str, ...] = ()
    objects: tuple[ObjectAnnotation, ...] = ()
    source: str = ""
    size: tuple[int | None, int | None] = (None, None)
    columns: dict[str, str] = field(default_factory=dict)


class PhotoDataset(Dataset):
    """Photos with annotations. A reader says where photos are, and reads the annotation of one photo.

    Attributes:
        upright: whether a camera's EXIF rotation is applied. The published data sets were annotated, and are commonly
            read, without it.
    """

    upright: ClassVar[bool] = False
    _photos: Sequence[Path]  # in the order of the items; a reader without such a list has these three methods itself

    def __len__(self) -> int:
        return len(self._photos)

    def name_of(self, index: int) -> str:
        return self._photos[index].stem

    def photo_of(self, index: int) -> Path | str:
        """The photo: a file, or a sample's name."""
        return self._photos[index]

    def annotation_files(self, index: int) -> tuple[Path, ...]:
        """The files of the annotation of an item."""
        return ()

    def annotation_of(self, index: int, frame: Frame) -> PhotoAnnotation:
        """The annotation of an item; ``frame`` has the photo's size."""
        return PhotoAnnotation()

    def files_of(self, index: int) -> tuple[Path, ...]:
        table = (self.label_table,) if isinstance(self.label_table, Path) else ()
        return (Path(self.photo_of(index)), *self.annotation_files(index), *table)

    def identity_of(self, index: int) -> str:
        decoded, annotation = self._read(index)
        return self._identity(decoded, annotation)

    def item(self, index: int, size: int) -> Item:
        decoded, annotation = self._read(index)
        photo = framed_photo(self.photo_of(index), decoded, size)
        return Item(
            name=self.name_of(index),
            identity=self._identity(decoded, annotation),
            image=photo.image[0],
            frame=photo.frame,
            class_names=annotation.class_names,
            objects=objects_to_model(annotation.objects, photo.frame),
            columns=annotation.columns,
        )

    def _read(self, index: int) -> tuple[DecodedPicture, PhotoAnnotation]:
        decoded = decode_photo(self.photo_of(index), upright=self.upright)
        frame = Frame(*decoded.size)
        annotation = self.annotation_of(index, frame)
        what = f"objects in {annotation.source!r}"
        check_photo_size(repr(str(self.photo_of(index))), frame, annotation.size, what, upright=self.upright)
        return decoded, annotation

    def _identity(self, decoded: DecodedPicture, annotation: PhotoAnnotation) -> str:
        return photo_identity(decoded, annotation, self._label_table_digest)

    @cached_property
    def _label_table_digest(self) -> str:
        return label_table_digest(self.label_table)


def photo_identity(decoded: DecodedPicture, annotation: PhotoAnnotation, label_table_digest: str = "") -> str:
    """The hexadecimal SHA-256 of a photo's pixels and of its annotation.

    Args:
        decoded: the photo in its own size.
        annotation: what the data set says of the photo.
        label_table_digest: the hash of the table of labels, which decides what the annotation means to a model.
    """
    pixels = np.ascontiguousarray(decoded.pixels)
    objects = [[entry.class_name, entry.box, entry.difficult, entry.crowd] for entry in annotation.objects]
    content: dict[str, Any] = {
        "pixels": [pixels.dtype.str, pixels.shape],
        "classes": annotation.class_names,
        "objects": objects,
        "columns": annotation.columns,
        "labels": label_table_digest,
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    digest.update(pixels.data)
    for entry in annotation.objects:
        digest.update(b"-" if entry.mask is None else np.packbits(entry.mask.numpy()).tobytes())
    return digest.hexdigest()


def objects_to_model(objects: Sequence[ObjectAnnotation], frame: Frame) -> tuple[ObjectAnnotation, ...]:
    """Objects in pixels of the photo, as objects in pixels of the model's image.

    Boxes are clipped to the image. An object that has no part in the image is left out.
    """
    carried = []
    for entry in objects:
        mask = None if entry.mask is None else frame.mask_to_model(entry.mask)
        box = None
        if entry.box is not None:
            boxes = frame.boxes_to_model([entry.box]).boxes
            x0, y0, x1, y1 = boxes[0].tolist() if len(boxes) else (0.0,) * 4
            box = (x0, y0, x1, y1) if len(boxes) else None
        if box is not None or (mask is not None and bool(mask.any())):
            carried.append(ObjectAnnotation(entry.class_name, box, mask, entry.difficult, entry.crowd))
    return tuple(carried)


def tight_box(mask: torch.Tensor) -> tuple[float, float, float, float] | None:
    """The smallest box (x0, y0, x1, y1) around the pixels of a mask (H, W); ``None`` for an empty mask."""
    rows, columns = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
