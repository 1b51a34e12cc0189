"""PASCAL VOC 2007 and 2012 as a data set."""

from __future__ import annotations

from pathlib import Path

from ssimpert.data.datasets.item import ObjectAnnotation
from ssimpert.data.datasets.label_map import read_label_table
from ssimpert.data.datasets.layout import check_choice, need_file, need_folder, need_names
from ssimpert.data.datasets.photo_dataset import PhotoAnnotation, PhotoDataset
from ssimpert.data.frame import Frame
from ssimpert.data.voc_xml import read_voc_xml
from ssimpert.errors import InputError
from ssimpert.validation import check_count

SPLITS = {2007: ("train", "val", "trainval", "test"), 2012: ("train", "val", "trainval")}
"""The lists of each year with public annotations."""


class VocDataset(PhotoDataset):
    """PASCAL VOC: photos with the boxes of their objects, of 20 classes; difficult objects are marked.

    Args:
        path: the folder that holds VOCdevkit, or VOCdevkit itself
        year: 2007 or 2012
        split: train, val or trainval, or test of 2007
        label_table: a CSV file that says which of a model's labels belong to each class; default the shipped one for
            ImageNet's labels
    """

    kind = "voc"

    def __init__(self, path: Path, year: int = 2007, split: str = "test", label_table: Path | None = None) -> None:
        year = check_count("year", year)
        if year not in SPLITS:
            raise InputError(f"year must be 2007 or 2012, got {year}")
        root = need_folder("VOC folder", path, "the folder that holds VOCdevkit")
        devkit = root if root.name == "VOCdevkit" else root / "VOCdevkit"
        need_folder("VOC devkit", devkit, "a folder with VOCdevkit in it")
        self._base = need_folder(f"VOC {year}", devkit / f"VOC{year}", f"a devkit with VOC{year} in it")
        check_choice(f"split of VOC {year}", split, SPLITS[year])
        for folder in ("ImageSets/Main", "JPEGImages", "Annotations"):
            need_folder("VOC folder", self._base / folder, "a whole devkit")
        need_file("VOC list", self._base / "ImageSets" / "Main" / f"{split}.txt", "a devkit with this list")
        from torchvision.datasets import VOCDetection  # slow to import

        listed = VOCDetection(str(devkit.parent), year=str(year), image_set=split)
        self._photos = [Path(name) for name in listed.images]
        self._xml = [Path(name) for name in listed.annotations]
        need_names("VOC folder", self._base / "JPEGImages", [file.name for file in self._photos])
        need_names("VOC folder", self._base / "Annotations", [file.name for file in self._xml])
        self.label_table = label_table or "voc"
        self._table = read_label_table(self.label_table)

    def annotation_files(self, index: int) -> tuple[Path, ...]:
        return (self._xml[index],)

    def annotation_of(self, index: int, frame: Frame) -> PhotoAnnotation:
        path = self._xml[index]
        content = read_voc_xml(path)
        for entry in content.objects:
            self._table.check_class(entry.name, repr(str(path)))
        return PhotoAnnotation(
            class_names=tuple(dict.fromkeys(entry.name for entry in content.objects)),
            objects=tuple(
                ObjectAnnotation(entry.name, entry.box, difficult=entry.difficult) for entry in content.objects
            ),
            source=str(path),
            size=(content.width, content.height),
        )
