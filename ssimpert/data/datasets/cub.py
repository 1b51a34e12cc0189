"""CUB-200-2011 (birds) as a data set."""

from __future__ import annotations

from pathlib import Path

from ssimpert.data.annotation_numbers import check_area, four_numbers
from ssimpert.data.datasets.item import ObjectAnnotation
from ssimpert.data.datasets.layout import check_choice, file_names, need_folder, need_names, text_lines
from ssimpert.data.datasets.photo_dataset import PhotoAnnotation, PhotoDataset
from ssimpert.data.frame import Frame
from ssimpert.data.masks import load_mask
from ssimpert.errors import InputError

_SPLITS = {"train": ("1",), "test": ("0",), "all": ("0", "1")}
"""What train_test_split.txt says of the photos of each split."""


class CubDataset(PhotoDataset):
    """CUB-200-2011: photos of birds of 200 classes, with one box each, and with masks where they are given.

    Args:
        path: the folder CUB_200_2011, with images.txt and bounding_boxes.txt in it
        split: test, train or all
        masks: the folder segmentations; a pixel counts where at least three of the five annotators marked it
    """

    kind = "cub"

    def __init__(self, path: Path, split: str = "test", masks: Path | None = None) -> None:
        root = need_folder("CUB folder", path, "the folder CUB_200_2011")
        check_choice("split of CUB", split, tuple(_SPLITS))
        self._images = need_folder("CUB folder", root / "images", "a folder with images in it")
        photos = _table(root / "images.txt", 1)
        classes = _table(root / "classes.txt", 1)
        class_of = _table(root / "image_class_labels.txt", 1)
        boxes = _table(root / "bounding_boxes.txt", 4)
        is_train = _table(root / "train_test_split.txt", 1)
        for name, table in (
            ("image_class_labels.txt", class_of),
            ("bounding_boxes.txt", boxes),
            ("train_test_split.txt", is_train),
        ):
            missing = next((number for number in photos if number not in table), None)
            if missing is not None:
                raise InputError(f"{str(root / name)!r} lacks photo {missing}, which images.txt has")
        for number in photos:
            (part,) = is_train[number]
            if part not in _SPLITS["all"]:
                raise InputError(
                    f"{str(root / 'train_test_split.txt')!r}: photo {number} has {part!r}; 0 or 1 is valid"
                )
        chosen = [number for number in photos if is_train[number][0] in _SPLITS[split]]
        self._names = [photos[number][0] for number in chosen]
        self._classes = []
        self._boxes = []
        for number in chosen:
            (label,) = class_of[number]
            if label not in classes:
                raise InputError(f"photo {number} has class {label!r}, which {str(root / 'classes.txt')!r} lacks")
            self._classes.append(classes[label][0])
            path_of_boxes = root / "bounding_boxes.txt"
            x, y, width, height = four_numbers(path_of_boxes, int(number), boxes[number])
            self._boxes.append(check_area(path_of_boxes, int(number), (x, y, x + width, y + height)))
        self._tables = tuple(root / name for name in ("classes.txt", "image_class_labels.txt", "bounding_boxes.txt"))
        self._masks = None if masks is None else need_folder("CUB masks", masks, "the folder segmentations")
        _need_files("CUB photos", self._images, self._names)
        if self._masks is not None:
            _need_files("CUB masks", self._masks, [_mask_name(name) for name in self._names])

    def __len__(self) -> int:
        return len(self._names)

    def name_of(self, index: int) -> str:
        return Path(self._names[index]).stem

    def photo_of(self, index: int) -> Path:
        return self._images / self._names[index]

    def annotation_files(self, index: int) -> tuple[Path, ...]:
        return self._tables if self._masks is None else (*self._tables, self._masks / _mask_name(self._names[index]))

    def annotation_of(self, index: int, frame: Frame) -> PhotoAnnotation:
        name, mask, size = self._classes[index], None, (frame.width, frame.height)
        source = str(self._tables[2])
        if self._masks is not None:
            path = self._masks / _mask_name(self._names[index])
            mask = load_mask(path)
            source, size = str(path), (mask.shape[1], mask.shape[0])
        objects = (ObjectAnnotation(name, self._boxes[index], mask),) if size == (frame.width, frame.height) else ()
        return PhotoAnnotation((name,), objects, source, size, {"class": name})


def _table(path: Path, columns: int) -> dict[str, list[str]]:
    """A list of CUB: for the number at the beginning of each line the ``columns`` words after it."""
    found = {}
    for line, text in enumerate(text_lines("CUB list", path, "the folder CUB_200_2011, whole"), start=1):
        number, *words = text.split()
        if len(words) != columns or not number.isdecimal():
            raise InputError(f"{str(path)!r}, line {line}: {text!r}; a number and {columns} more are valid")
        if number in found:
            raise InputError(f"{str(path)!r}, line {line}: the number {number} is there twice")
        found[number] = words
    return found


def _mask_name(photo: str) -> str:
    return Path(photo).with_suffix(".png").as_posix()


def _need_files(what: str, root: Path, names: list[str]) -> None:
    by_folder: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        by_folder.setdefault(folder, []).append(file)
    there = file_names(root)
    for folder, files in by_folder.items():
        if folder and folder not in there:
            raise InputError(f"{what} {str(root)!r} lack the folder {folder!r}")
        need_names(what, root / folder, files)
