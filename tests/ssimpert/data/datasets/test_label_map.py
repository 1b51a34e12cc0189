"""The tables of labels: what is shipped, checked against WordNet's synsets of ImageNet, and a user's own."""

from __future__ import annotations

import csv
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest
from timm.data import ImageNetInfo

from ssimpert.data.datasets.label_map import SHIPPED_TABLES, label_map, read_label_table
from ssimpert.errors import InputError
from ssimpert.models.labels import class_labels

IMAGENET = class_labels(1000)
VOC = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car",
    "cat", "chair", "cow", "diningtable", "dog", "horse", "motorbike",
    "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip


def rows(table: str) -> list[dict[str, str]]:
    text = (files("ssimpert.data.datasets") / f"{table}_imagenet_labels.csv").read_text()
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.parametrize("table", SHIPPED_TABLES)
def test_each_label_is_the_one_of_its_synset_and_is_sourced(table: str) -> None:
    synsets = ImageNetInfo().label_names()
    for row in rows(table):
        assert row["source"]
        if row["label"]:
            assert IMAGENET[synsets.index(row["synset"])] == row["label"]
        else:
            assert (row["synset"], row["source"][:12]) == ("", "ImageNet-1k ")
    assert max(Counter(row["label"] for row in rows(table) if row["label"]).values()) == 1


def test_voc_and_coco_map_to_imagenet() -> None:
    voc = label_map("voc", IMAGENET)
    assert list(voc) == VOC
    assert voc.without_label == ()
    # ImageNet's dogs are 151 to 268, and its birds 7 to 24, 80 to 100 and 127 to 146: 59 in all.
    assert voc["dog"] == set(range(151, 269))
    assert voc["bird"] == {*range(7, 25), *range(80, 101), *range(127, 147)}
    assert voc["cat"] == {281, 282, 283, 284, 285}
    assert voc["train"] == {466, 547, 565, 705, 820}
    coco = label_map("coco", IMAGENET)
    assert len(coco) == 80
    assert coco["zebra"] == {340}
    assert coco["mouse"] == {673}
    assert coco["sandwich"] == {933}
    assert coco["hot dog"] == {934}
    assert 517 not in coco["bird"]  # the crane that lifts loads; the bird is 134
    assert coco.without_label == (
        "fire hydrant", "stop sign", "giraffe", "suitcase", "frisbee", "snowboard", "kite", "baseball bat",
        "baseball glove", "skateboard", "surfboard", "fork", "carrot", "donut", "cake", "scissors", "toothbrush",
    )  # fmt: skip
    assert [coco[name] for name in ("dog", "bird", "cat", "train")] == [
        voc[name] for name in ("dog", "bird", "cat", "train")
    ]


def test_a_model_of_the_data_sets_own_classes_needs_no_table() -> None:
    found = label_map("voc", ("background", *VOC))
    assert {name: set(numbers) for name, numbers in found.items()} == {
        name: {number} for number, name in enumerate(VOC, start=1)
    }
    assert label_map("voc", ("cat", "dog"))["bird"] == frozenset()


def test_a_model_with_other_labels_is_refused() -> None:
    with pytest.raises(InputError, match=r"'voc' maps to ImageNet-1k, and names 'airliner', .*model's 2 labels"):
        label_map("voc", ("class 0", "class 1"))
    renamed = tuple(name for name in IMAGENET if name != "tabby")
    with pytest.raises(InputError, match="names 'tabby'"):
        label_map("coco", renamed)


def test_a_table_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("class,note,label\ncat,a,tabby\ncat,b,tiger cat\nunicorn,c,\n", encoding="utf-8-sig")
    found = label_map(path, IMAGENET)
    assert {name: set(numbers) for name, numbers in found.items()} == {"cat": {281, 282}, "unicorn": set()}
    assert read_label_table(path).check_class("unicorn", "here") == "unicorn"
    with pytest.raises(InputError, match="here: unknown class 'cta'; did you mean cat"):
        read_label_table(path).check_class("cta", "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class,name\ncat,tabby\n", "lacks the column 'label'"),
        ("class,label\n,tabby\n", "line 2: the class is empty"),
        ("class,label\ncat,tabby\ndog,tabby\n", "line 3: label 'tabby' belongs to class 'cat' already"),
        ("class,label\n", "has no line"),
        ('class,label\n"cat,tabby\n', "no readable CSV file"),
    ],
)
def test_bad_tables_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        label_map(path, IMAGENET)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv' does not exist"):
        label_map(tmp_path / "nowhere.csv", IMAGENET)
    with pytest.raises(InputError, match="unknown label table 'cocoa'; did you mean coco"):
        label_map("cocoa", IMAGENET)
