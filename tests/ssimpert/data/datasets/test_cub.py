"""CUB-200-2011 in its real layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssimpert.data.datasets.catalog import open_dataset
from ssimpert.errors import InputError
from tests.ssimpert.data.datasets.fixtures import write_cub

BIRDS = [
    ("001.Black_footed_Albatross", "Black_Footed_Albatross_0046_18", (8.0, 0.0, 16.0, 32.0), False),
    ("002.Laysan_Albatross", "Laysan_Albatross_0001_545", (0.0, 4.0, 10.0, 8.0), True),
    ("002.Laysan_Albatross", "Laysan_Albatross_0003_1033", (1.0, 1.0, 30.0, 30.0), False),
]


def test_boxes_classes_and_splits(tmp_path: Path) -> None:
    root = write_cub(tmp_path, BIRDS, 32)
    data = open_dataset("cub", {"path": root})
    assert [data.name_of(index) for index in range(len(data))] == [BIRDS[0][1], BIRDS[2][1]]
    item = data.item(0, 16)
    assert [(entry.class_name, entry.box) for entry in item.objects] == [("001.Black_footed_Albatross", (4, 0, 12, 16))]
    assert item.columns == {"class": "001.Black_footed_Albatross"}
    assert (item.identity, data.label_table) == (data.identity_of(0), None)
    assert [len(open_dataset("cub", {"path": root, "split": split})) for split in ("train", "all")] == [1, 3]


def test_masks_count_from_three_of_five_annotators_on(tmp_path: Path) -> None:
    root = write_cub(tmp_path, BIRDS, 32)
    levels = np.zeros((32, 32), dtype=np.uint8)
    levels[:, 8:12], levels[:, 12:16] = 102, 153  # two and three of five
    for folder, name, _, _ in BIRDS:
        path = tmp_path / "segmentations" / folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(path)
    options = {"path": root, "masks": tmp_path / "segmentations"}
    mask = open_dataset("cub", options).item(0, 16).objects[0].mask
    assert mask is not None
    assert mask.any(dim=0).nonzero().flatten().tolist() == [6, 7]
    Image.fromarray(levels[:16]).save(tmp_path / "segmentations" / BIRDS[0][0] / f"{BIRDS[0][1]}.png")
    with pytest.raises(InputError, match=r"has 32x32 pixels, objects in .*0046_18\.png' are of 32x16"):
        open_dataset("cub", options).item(0, 16)
    (tmp_path / "segmentations" / BIRDS[0][0] / f"{BIRDS[0][1]}.png").unlink()
    with pytest.raises(InputError, match=r"lacks 1 of the files listed: 'Black_Footed_Albatross_0046_18\.png'"):
        open_dataset("cub", options)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("bounding_boxes.txt", "1 0 0 5\n", r"bounding_boxes\.txt', line 1: '1 0 0 5'; a number and 4 more are valid"),
        ("bounding_boxes.txt", "1 0 0 5 5\n2 1 1 2 2\n", r"bounding_boxes\.txt' lacks photo 3"),
        ("bounding_boxes.txt", "1 0 0 0 5\n2 1 1 2 2\n3 1 1 2 2\n", "box 1 has no area"),
        ("image_class_labels.txt", "1 7\n2 1\n3 1\n", r"photo 1 has class '7', which .*classes\.txt' lacks"),
        ("train_test_split.txt", "1 0\n2 2\n3 0\n", r"train_test_split\.txt': photo 2 has '2'; 0 or 1 is valid"),
        ("images.txt", "1 a/b.jpg\n1 a/c.jpg\n", r"images\.txt', line 2: the number 1 is there twice"),
        ("images.txt", "1 no/photo.jpg\n", "lack the folder 'no'"),
    ],
)
def test_bad_lists_are_named_when_the_set_is_opened(tmp_path: Path, name: str, text: str, message: str) -> None:
    root = write_cub(tmp_path, BIRDS, 32)
    (root / name).write_text(text)
    with pytest.raises(InputError, match=message):
        open_dataset("cub", {"path": root})
