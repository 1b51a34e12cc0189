"""ImageNet's validation photos in both layouts, with the devkit's .mat and the XML files of boxes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ssimpert.data.datasets.catalog import open_dataset
from ssimpert.errors import InputError
from tests.ssimpert.data.datasets.fixtures import voc_xml, write_devkit, write_photo

SYNSETS = [("n01443537", "goldfish, Carassius auratus"), ("n01440764", "tench, Tinca tinca")]
NAMES = [f"ILSVRC2012_val_{number:08d}" for number in (1, 2, 3)]
LABELS = [2, 1, 2]


@pytest.fixture
def flat(tmp_path: Path) -> dict[str, Path]:
    """Three photos of 32x32 pixels in one folder, the devkit, and the boxes."""
    boxes = tmp_path / "bbox" / "val"
    boxes.mkdir(parents=True)
    for number, (name, label) in enumerate(zip(NAMES, LABELS, strict=True)):
        write_photo(tmp_path / "val" / f"{name}.JPEG", 32, 32, number)
        synset = SYNSETS[label - 1][0]
        (boxes / f"{name}.xml").write_text(voc_xml(name, 32, 32, [(synset, (1, 1, 16, 8), 0)]))
    return {"path": tmp_path / "val", "devkit": write_devkit(tmp_path, SYNSETS, LABELS), "boxes": boxes}


def test_classes_are_those_of_the_devkit_and_boxes_are_read(flat: dict[str, Path]) -> None:
    data = open_dataset("imagenet", flat)
    assert (len(data), data.name_of(0), data.has_objects, data.label_table) == (3, NAMES[0], True, None)
    item = data.item(0, 16)
    assert item.class_names == ("n01440764",)
    assert item.columns == {"class": "tench"}
    assert [(entry.class_name, entry.box) for entry in item.objects] == [("n01440764", (0, 0, 8, 4))]
    assert data.item(1, 16).class_names == ("n01443537",)
    assert item.identity == data.identity_of(0) != data.identity_of(2)


def test_photos_in_folders_of_synsets_need_no_devkit(flat: dict[str, Path], tmp_path: Path) -> None:
    before = open_dataset("imagenet", flat).item(0, 16)
    for name, label in zip(NAMES, LABELS, strict=True):
        target = tmp_path / "sorted" / SYNSETS[label - 1][0] / f"{name}.JPEG"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(flat["path"] / f"{name}.JPEG", target)
    data = open_dataset("imagenet", {"path": tmp_path / "sorted"})
    assert [data.name_of(index) for index in range(3)] == [NAMES[0], NAMES[2], NAMES[1]]
    item = data.item(0, 16)
    assert (item.class_names, item.objects, data.has_objects) == (before.class_names, (), False)
    assert item.identity != before.identity  # no boxes
    again = open_dataset("imagenet", {**flat, "path": tmp_path / "sorted"})
    assert again.identity_of(0) == before.identity


def test_what_is_missing_is_named_when_the_set_is_opened(flat: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"photos without folders of synsets; give the option 'devkit'"):
        open_dataset("imagenet", {"path": flat["path"]})
    with pytest.raises(InputError, match=r"meta\.mat' does not exist"):
        open_dataset("imagenet", {**flat, "devkit": tmp_path})
    with pytest.raises(InputError, match=r"holds neither photos nor folders of synsets"):
        open_dataset("imagenet", {**flat, "path": flat["devkit"]})
    (flat["boxes"] / f"{NAMES[1]}.xml").unlink()
    with pytest.raises(InputError, match=f"lacks 1 of the files listed: '{NAMES[1]}.xml'"):
        open_dataset("imagenet", flat)
    truth = flat["devkit"] / "data" / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("2\n1\n")
    with pytest.raises(InputError, match=rf"photo '{NAMES[2]}\.JPEG' has no class in .*2 lines"):
        open_dataset("imagenet", flat)
    truth.write_text("2\n1\n7\n")
    with pytest.raises(InputError, match=r"line 3: '7' is none of the 2 classes"):
        open_dataset("imagenet", flat)
    (flat["devkit"] / "data" / "meta.mat").write_bytes(b"no matrix")
    with pytest.raises(InputError, match=r"meta\.mat' holds no synsets"):
        open_dataset("imagenet", flat)


def test_boxes_of_another_class_are_refused(flat: dict[str, Path]) -> None:
    (flat["boxes"] / f"{NAMES[0]}.xml").write_text(voc_xml("x", 32, 32, [("n01443537", (1, 1, 9, 9), 0)]))
    with pytest.raises(InputError, match=r"00000001\.xml' has n01443537, but the photo's class is 'n01440764'"):
        open_dataset("imagenet", flat).item(0, 16)
