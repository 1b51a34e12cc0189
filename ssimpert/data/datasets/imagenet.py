"""ImageNet's validation photos (ILSVRC 2012) as a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssimpert.data.datasets.item import ObjectAnnotation
from ssimpert.data.datasets.layout import file_names, need_file, need_folder, need_names, text_lines
from ssimpert.data.datasets.photo_dataset import PhotoAnnotation, PhotoDataset
from ssimpert.data.frame import Frame
from ssimpert.data.voc_xml import read_voc_xml
from ssimpert.errors import InputError

PHOTO_ENDINGS = (".jpeg", ".jpg", ".png")
_GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_DEVKIT = f"the folder ILSVRC2012_devkit_t12, with data/meta.mat and data/{_GROUND_TRUTH}"


class ImageNetDataset(PhotoDataset):
    """ImageNet's validation photos, with the class of each, and with boxes where they are given.

    Args:
        path: the folder of ILSVRC2012_val_*.JPEG files, or of one folder for each synset (n01440764, ...)
        devkit: the folder ILSVRC2012_devkit_t12; needed where the photos lie in one folder
        boxes: the folder of the XML files with the boxes (ILSVRC2012_val_00000001.xml, ...)
    """

    kind = "imagenet"

    def __init__(self, path: Path, devkit: Path | None = None, boxes: Path | None = None) -> None:
        root = need_folder("ImageNet folder", path, "the folder of the validation photos")
        described = {} if devkit is None else read_devkit(devkit)
        self._photos = photos_by_synset(root)
        if self._photos:
            self._synsets = [photo.parent.name for photo in self._photos]
            known = {synset for synset, _ in described.values()}
            unknown = [synset for synset in self._synsets if described and synset not in known]
            if unknown:
                raise InputError(f"ImageNet folder {str(root)!r} has {unknown[0]!r}, which is no synset of the devkit")
        else:
            names = sorted(name for name in file_names(root) if Path(name).suffix.lower() in PHOTO_ENDINGS)
            if not names:
                raise InputError(
                    f"ImageNet folder {str(root)!r} holds neither photos nor folders of synsets such as n01440764"
                )
            if devkit is None:
                raise InputError(
                    f"ImageNet folder {str(root)!r} has photos without folders of synsets; give the option 'devkit', "
                    f"{_DEVKIT}"
                )
            self._photos = [root / name for name in names]
            self._synsets = _ground_truth(devkit, names, described)
        self._words = {synset: words.split(",")[0].strip() for synset, words in described.values()}
        self._devkit_files = () if devkit is None else (devkit / "data" / "meta.mat", devkit / "data" / _GROUND_TRUTH)
        self._boxes: Path | None = None
        if boxes is not None:
            self._boxes = need_folder("boxes of ImageNet", boxes, "the folder of ILSVRC2012_val_*.xml files")
            need_names("boxes of ImageNet", self._boxes, [photo.stem + ".xml" for photo in self._photos])
        self.has_objects = boxes is not None

    def annotation_files(self, index: int) -> tuple[Path, ...]:
        return self._devkit_files if self._boxes is None else (self._xml(index), *self._devkit_files)

    def annotation_of(self, index: int, frame: Frame) -> PhotoAnnotation:
        synset = self._synsets[index]
        columns = {"class": self._words.get(synset, synset)}
        if self._boxes is None:
            return PhotoAnnotation((synset,), columns=columns)
        path = self._xml(index)
        content = read_voc_xml(path)
        if synset not in {entry.name for entry in content.objects}:
            found = ", ".join(dict.fromkeys(entry.name for entry in content.objects)) or "no object"
            raise InputError(f"{str(path)!r} has {found}, but the photo's class is {synset!r}")
        return PhotoAnnotation(
            class_names=(synset,),
            objects=tuple(
                ObjectAnnotation(entry.name, entry.box, difficult=entry.difficult) for entry in content.objects
            ),
            source=str(path),
            size=(content.width, content.height),
            columns=columns,
        )

    def _xml(self, index: int) -> Path:
        assert self._boxes is not None
        return self._boxes / (self._photos[index].stem + ".xml")


def photos_by_synset(root: Path) -> list[Path]:
    """The photos in the folders of ``root`` that are called like a synset, in order; none where there is no folder."""
    folders = sorted(name for name in file_names(root) if is_synset(name) and (root / name).is_dir())
    return [
        root / folder / name
        for folder in folders
        for name in sorted(file_names(root / folder))
        if Path(name).suffix.lower() in PHOTO_ENDINGS
    ]


def is_synset(name: str) -> bool:
    """Whether ``name`` looks like a noun of WordNet: n and eight digits."""
    return len(name) == 9 and name[0] == "n" and name[1:].isdecimal()


def read_devkit(devkit: Path) -> dict[int, tuple[str, str]]:
    """The 1000 classes of the devkit's ``data/meta.mat``, its synsets without children.

    Returns:
        For each ILSVRC2012_ID, which counts from 1, the synset and its words, such as ``"tench, Tinca tinca"``.

    Raises:
        InputError: there is no such file, or another content.
    """
    need_folder("ImageNet devkit", devkit, _DEVKIT)
    path = need_file("ImageNet devkit", devkit / "data" / "meta.mat", _DEVKIT)
    from scipy.io import loadmat  # slow to import
    from scipy.io.matlab import MatReadError

    try:
        entries: Any = loadmat(path, squeeze_me=True)["synsets"]
        found = {
            int(entry["ILSVRC2012_ID"]): (str(entry["WNID"]), str(entry["words"]))
            for entry in entries.ravel()
            if int(entry["num_children"]) == 0
        }
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, IndexError, MatReadError) as error:
        raise InputError(f"ImageNet devkit {str(path)!r} holds no synsets ({error})") from error
    if not found or not all(is_synset(synset) for synset, _ in found.values()):
        raise InputError(f"ImageNet devkit {str(path)!r} holds no synsets")
    return found


def _ground_truth(devkit: Path, names: list[str], classes: dict[int, tuple[str, str]]) -> list[str]:
    """The synset of each photo, by the number at the end of its name: line 1 is of ILSVRC2012_val_00000001."""
    path = devkit / "data" / _GROUND_TRUTH
    lines = text_lines("ImageNet devkit", path, _DEVKIT)
    found = []
    for name in names:
        number = Path(name).stem.rpartition("_")[2]
        if not number.isdecimal() or not 1 <= int(number) <= len(lines):
            raise InputError(f"photo {name!r} has no class in {str(path)!r}, which has {len(lines)} lines")
        line = lines[int(number) - 1]
        if not line.isdecimal() or int(line) not in classes:
            raise InputError(f"{str(path)!r}, line {int(number)}: {line!r} is none of the {len(classes)} classes")
        found.append(classes[int(line)][0])
    return found
