"""ImageNet-S (Gao et al. 2021, arXiv 2106.03149) as a data set: ImageNet's photos with masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ssimpert.data.datasets.imagenet import is_synset, photos_by_synset
from ssimpert.data.datasets.item import ObjectAnnotation
from ssimpert.data.datasets.layout import check_choice, file_names, need_folder, need_names, text_lines
from ssimpert.data.datasets.photo_dataset import PhotoAnnotation, PhotoDataset, tight_box
from ssimpert.data.decoding import opened_picture
from ssimpert.data.frame import Frame
from ssimpert.errors import InputError

SPLITS = ("validation", "train-semi")
"""The splits with public masks."""
CLASS_COUNTS = (50, 300, 919)
OTHER, IGNORED = 0, 1000
"""The numbers of pixels of no class, and of pixels that do not count."""


class ImageNetSDataset(PhotoDataset):
    """Photos of ImageNet-S, with the masks of their classes and the boxes around these masks.

    Args:
        path: the folder ImageNetS50, ImageNetS300 or ImageNetS919
        split: validation or train-semi
        categories: the file ImageNetS_categories_im*.txt with the synsets; default the names of the split's folders
    """

    kind = "imagenet-s"

    def __init__(self, path: Path, split: str = "validation", categories: Path | None = None) -> None:
        root = need_folder("ImageNet-S folder", path, "the folder ImageNetS50, ImageNetS300 or ImageNetS919")
        check_choice("split of ImageNet-S", split, SPLITS)
        photos = need_folder("ImageNet-S folder", root / split, f"a folder with {split} in it")
        wanted = f"a folder with {split}-segmentation in it"
        self._masks = need_folder("ImageNet-S folder", root / f"{split}-segmentation", wanted)
        self._photos = photos_by_synset(photos)
        if not self._photos:
            raise InputError(f"ImageNet-S folder {str(photos)!r} holds no photos in folders of synsets")
        self._categories = categories
        self._synsets = _categories(photos, categories)
        mask_names: dict[str, list[str]] = {}
        for photo in self._photos:
            mask_names.setdefault(photo.parent.name, []).append(photo.stem + ".png")
        for synset, names in mask_names.items():
            if synset not in self._synsets:
                raise InputError(f"synset {synset!r} of {str(photos)!r} is not in {str(categories)!r}")
            need_folder("ImageNet-S masks", self._masks / synset, "a folder of masks for each synset")
            need_names("ImageNet-S masks", self._masks / synset, names)

    def name_of(self, index: int) -> str:
        photo = self._photos[index]
        return f"{photo.parent.name}/{photo.stem}"

    def annotation_files(self, index: int) -> tuple[Path, ...]:
        photo = self._photos[index]
        mask = self._masks / photo.parent.name / (photo.stem + ".png")
        return (mask,) if self._categories is None else (mask, self._categories)

    def annotation_of(self, index: int, frame: Frame) -> PhotoAnnotation:
        synset, path = self._photos[index].parent.name, self.annotation_files(index)[0]
        with opened_picture(path) as picture:
            colours = np.asarray(picture.convert("RGB")).astype(np.int64)
        numbers = colours[:, :, 0] + 256 * colours[:, :, 1]
        height, width = numbers.shape
        objects = []
        for number in np.unique(numbers).tolist():
            if number in (OTHER, IGNORED):
                continue
            if number > len(self._synsets):
                raise InputError(f"mask {str(path)!r} has class {number}; 1 to {len(self._synsets)} are valid")
            mask = torch.from_numpy(numbers == number)
            objects.append(ObjectAnnotation(self._synsets[number - 1], tight_box(mask), mask))
        if synset not in {entry.class_name for entry in objects}:
            shown = ", ".join(entry.class_name for entry in objects) or "no object"
            raise InputError(f"mask {str(path)!r} has {shown}, but the photo's class is {synset!r}")
        if (width, height) != (frame.width, frame.height):
            objects = []  # the size is refused with both sizes
        return PhotoAnnotation((synset,), tuple(objects), str(path), (width, height), {"class": synset})


def _categories(photos: Path, categories: Path | None) -> list[str]:
    """The synsets in the order of their numbers, which is the alphabetical one; number 1 comes first."""
    if categories is not None:
        found = text_lines("ImageNet-S categories", categories, "a file ImageNetS_categories_im*.txt")
        wrong = [name for name in found if not is_synset(name)]
        if wrong:
            raise InputError(f"ImageNet-S categories {str(categories)!r} has {wrong[0]!r}, which is no synset")
        return sorted(found)
    found = sorted(name for name in file_names(photos) if is_synset(name))
    if len(found) not in CLASS_COUNTS:
        raise InputError(
            f"ImageNet-S folder {str(photos)!r} has {len(found)} synsets, and masks number all 50, 300 or 919; "
            "give the option 'categories', the file ImageNetS_categories_im*.txt"
        )
    return found
