"""COCO's instances (2014, 2017, or any set in this format) as a data set."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssimpert.data.annotation_numbers import check_area, four_numbers, side
from ssimpert.data.box_files import read_coco
from ssimpert.data.coco_outlines import outline_pixels, require_pycocotools
from ssimpert.data.datasets.item import ObjectAnnotation
from ssimpert.data.datasets.label_map import read_label_table
from ssimpert.data.datasets.layout import check_different, need_file, need_folder, need_names
from ssimpert.data.datasets.photo_dataset import PhotoAnnotation, PhotoDataset
from ssimpert.data.frame import Frame
from ssimpert.errors import InputError
from ssimpert.validation import check_flag


class CocoDataset(PhotoDataset):
    """COCO: photos with boxes and masks of their objects, of 80 classes; crowds are marked. Needs pycocotools.

    Args:
        path: the folder that holds the split's photos and the folder annotations
        split: such as val2017: photos in val2017, objects in annotations/instances_val2017.json
        masks: whether the outlines are read; without them the boxes stand for the objects
        label_table: a CSV file that says which of a model's labels belong to each class; default the shipped one for
            ImageNet's labels
    """

    kind = "coco"

    def __init__(self, path: Path, split: str = "val2017", masks: bool = True, label_table: Path | None = None) -> None:
        root = need_folder("COCO folder", path, "the folder with val2017 and annotations in it")
        if not isinstance(split, str) or not split:
            raise InputError(f"split of COCO must be a name such as val2017, got {split!r}")
        self._folder = need_folder("COCO photos", root / split, f"a folder with {split} in it")
        name = root / "annotations" / f"instances_{split}.json"
        self._json = need_file("COCO annotations", name, "a folder with this file in it")
        self._masks = check_flag("masks", masks)
        require_pycocotools()
        self.label_table = label_table or "coco"
        self._coco = _indexed(self._json)
        self._classes = _class_names(self._json, self._coco.cats, read_label_table(self.label_table).check_class)
        _check_annotations(self._json, self._coco, self._masks)
        self._images = list(self._coco.imgs.values())
        need_names("COCO photos", self._folder, [image["file_name"] for image in self._images])

    def __len__(self) -> int:
        return len(self._images)

    def name_of(self, index: int) -> str:
        return Path(self._images[index]["file_name"]).stem

    def photo_of(self, index: int) -> Path:
        return self._folder / str(self._images[index]["file_name"])

    def annotation_files(self, index: int) -> tuple[Path, ...]:
        return (self._json,)

    def annotation_of(self, index: int, frame: Frame) -> PhotoAnnotation:
        image = self._images[index]
        size = side(image.get("width")), side(image.get("height"))
        found = self._coco.imgToAnns.get(image["id"], [])
        fits = size == (frame.width, frame.height)  # else both sizes are said in the error that follows
        return PhotoAnnotation(
            class_names=tuple(dict.fromkeys(self._classes[entry["category_id"]] for entry in found)),
            objects=tuple(self._object(entry, frame) for entry in found) if fits else (),
            source=str(self._json),
            size=size,
        )

    def _object(self, entry: dict[str, Any], frame: Frame) -> ObjectAnnotation:
        what = f"{str(self._json)!r}: annotation {entry['id']}"
        mask = None
        if self._masks:
            mask = torch.from_numpy(np.ascontiguousarray(outline_pixels(entry.get("segmentation"), what, frame)))
        return ObjectAnnotation(
            self._classes[entry["category_id"]], _box(self._json, entry), mask, crowd=bool(entry.get("iscrowd", 0))
        )


def _indexed(path: Path) -> Any:
    """The file as pycocotools indexes it: by image, by annotation and by category."""
    content = read_coco(path)
    for name in ("annotations", "categories"):
        entries = content.get(name)
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and isinstance(entry.get("id"), int) for entry in entries
        ):
            raise InputError(f"{str(path)!r}: each entry of {name!r} needs a number as its 'id'")
    for entry in content["annotations"]:
        for name in ("image_id", "category_id"):
            if not isinstance(entry.get(name), int | str):
                raise InputError(f"{str(path)!r}: annotation {entry['id']} has {name} {entry.get(name)!r}")
    for entry in content["images"]:
        if not isinstance(entry.get("file_name"), str):
            raise InputError(f"{str(path)!r}: image {entry['id']} has file_name {entry.get('file_name')!r}")
    # pycocotools keeps the last of two entries with one number, and the first is lost.
    for name in ("images", "annotations", "categories"):
        check_different(f"{str(path)!r}, {name!r}", "the id", [entry["id"] for entry in content[name]])
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _class_names(path: Path, categories: dict[Any, dict[str, Any]], check: Any) -> dict[Any, str]:
    names = {}
    for number, entry in categories.items():
        names[number] = check(str(entry.get("name")), f"{str(path)!r}, category {number}")
    return names


def _check_annotations(path: Path, coco: Any, masks: bool) -> None:
    """Raise :class:`InputError` for an annotation of an unknown image or category, or with an unusable box.

    With ``masks`` an annotation without an outline is refused, too. Files that were made for detection have none.
    """
    for entry in coco.dataset["annotations"]:
        where = f"{str(path)!r}: annotation {entry['id']}"
        for key, there, what in (("image_id", coco.imgs, "image"), ("category_id", coco.cats, "category")):
            if entry[key] not in there:
                raise InputError(f"{where} is of {what} {entry[key]!r}, which is missing")
        if entry.get("iscrowd", 0) not in (0, 1):
            raise InputError(f"{where} has iscrowd {entry['iscrowd']!r}; 0 or 1 is valid")
        if masks and not entry.get("segmentation"):
            raise InputError(
                f"{where} has no outline: its 'segmentation' is {entry.get('segmentation')!r}; with the option masks = "
                "false the boxes stand for the objects"
            )
        _box(path, entry)


def _box(path: Path, entry: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """The box of an annotation; ``None`` for a box without width or height, such as two objects of train2017 have."""
    values = entry.get("bbox")
    if not isinstance(values, list) or len(values) != 4:
        raise InputError(f"{str(path)!r}: annotation {entry['id']} has bbox {values!r}; [x, y, width, height] is valid")
    x, y, width, height = four_numbers(path, entry["id"], values)
    if 0 in (width, height):
        return None
    return check_area(path, entry["id"], (x, y, x + width, y + height))
