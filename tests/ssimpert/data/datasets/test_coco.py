"""COCO in its real layout: polygons, run lengths, crowds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ssimpert.data.datasets.catalog import open_dataset
from ssimpert.errors import InputError
from tests.ssimpert.data.datasets.fixtures import write_coco


def content(**changes: Any) -> dict[str, Any]:
    """A photo of 32x32 pixels with a dog (polygon), a crowd of persons (run lengths), and one photo without object."""
    dog = {
        "id": 11, "image_id": 139, "category_id": 18, "iscrowd": 0, "area": 256.0, "bbox": [0.0, 0.0, 16.0, 16.0],
        "segmentation": [[0.0, 0.0, 16.0, 0.0, 16.0, 16.0, 0.0, 16.0]],
    }  # fmt: skip
    # Columns first: 16 columns of 32 rows without, 8 columns with, 8 columns without.
    crowd = {
        "id": 900100000139, "image_id": 139, "category_id": 1, "iscrowd": 1, "area": 256, "bbox": [16, 0, 8, 32],
        "segmentation": {"size": [32, 32], "counts": [512, 256, 256]},
    }  # fmt: skip
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": [
            {"id": 139, "file_name": "000000000139.jpg", "width": 32, "height": 32},
            {"id": 285, "file_name": "000000000285.jpg", "width": 32, "height": 32},
        ],
        "annotations": [dog, crowd],
        "categories": [
            {"id": 1, "name": "person", "supercategory": "person"},
            {"id": 18, "name": "dog", "supercategory": "animal"},
        ],
    } | changes


def test_outlines_crowds_and_boxes_arrive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = open_dataset("coco", {"path": write_coco(tmp_path, content())})
    assert (len(data), data.name_of(0), capsys.readouterr().out) == (2, "000000000139", "")
    item = data.item(0, 16)
    dog, crowd = item.objects
    assert (dog.class_name, dog.box, dog.crowd, dog.difficult) == ("dog", (0, 0, 8, 8), False, False)
    assert dog.mask is not None
    assert dog.mask.nonzero().tolist() == [[row, column] for row in range(8) for column in range(8)]
    assert (crowd.class_name, crowd.box, crowd.crowd) == ("person", (8, 0, 12, 16), True)
    assert crowd.mask is not None
    assert crowd.mask.nonzero().tolist() == [[row, column] for row in range(16) for column in range(8, 12)]
    assert item.class_names == ("dog", "person")
    assert data.item(1, 16).objects == ()
    plain = open_dataset("coco", {"path": tmp_path, "masks": False})
    assert [entry.mask for entry in plain.item(0, 16).objects] == [None, None]
    assert plain.identity_of(0) != data.identity_of(0) == item.identity


def test_a_box_without_area_is_no_box(tmp_path: Path) -> None:
    made = content()
    made["annotations"][0]["bbox"] = [0.0, 0.0, 16.0, 0.0]
    assert open_dataset("coco", {"path": write_coco(tmp_path, made)}).item(0, 16).objects[0].box is None


def changed(entry: str, key: str, value: Any) -> dict[str, Any]:
    made = content()
    made[entry][0][key] = value
    return made


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (changed("annotations", "image_id", 7), "annotation 11 is of image 7, which is missing"),
        (changed("annotations", "category_id", 7), "annotation 11 is of category 7, which is missing"),
        (changed("annotations", "bbox", [0, 0, -5, 4]), "box 11 has no area"),
        (changed("annotations", "bbox", [0, 0, 5]), r"annotation 11 has bbox \[0, 0, 5\]"),
        (changed("annotations", "iscrowd", 3), "annotation 11 has iscrowd 3"),
        (changed("annotations", "segmentation", []), r"annotation 11 has no outline: .* masks = false the boxes stand"),
        (changed("annotations", "id", 900100000139), "'annotations': the id 900100000139 is there twice"),
        (changed("images", "id", 285), "'images': the id 285 is there twice"),
        (changed("categories", "id", 18), "'categories': the id 18 is there twice"),
        (changed("images", "file_name", "000000000285.jpg"), "two photos that are called '000000000285'"),
        (changed("categories", "name", "persn"), "category 1: unknown class 'persn'; did you mean person"),
        (content(categories=None), "each entry of 'categories' needs a number"),
        (content(annotations=None), "is no COCO JSON file"),
    ],
)
def test_bad_content_is_named_when_the_set_is_opened(tmp_path: Path, made: dict[str, Any], message: str) -> None:
    write_coco(tmp_path, content())
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(made))
    with pytest.raises(InputError, match=message):
        open_dataset("coco", {"path": tmp_path})


def test_what_is_missing_is_named_when_the_set_is_opened(tmp_path: Path) -> None:
    write_coco(tmp_path, content())
    with pytest.raises(InputError, match="train2017' does not exist"):
        open_dataset("coco", {"path": tmp_path, "split": "train2017"})
    (tmp_path / "val2017" / "000000000285.jpg").unlink()
    with pytest.raises(InputError, match=r"lacks 1 of the files listed: '000000000285\.jpg'"):
        open_dataset("coco", {"path": tmp_path})
    (tmp_path / "annotations" / "instances_val2017.json").unlink()
    with pytest.raises(InputError, match=r"instances_val2017\.json' does not exist"):
        open_dataset("coco", {"path": tmp_path})


def test_boxes_without_outlines_are_enough_without_masks(tmp_path: Path) -> None:
    made = content()
    for entry in made["annotations"]:
        entry["segmentation"] = []
    dog, crowd = open_dataset("coco", {"path": write_coco(tmp_path, made), "masks": False}).item(0, 16).objects
    assert (dog.box, dog.mask, crowd.crowd) == ((0, 0, 8, 8), None, True)


def test_an_outline_that_does_not_fit_is_named(tmp_path: Path) -> None:
    made = changed("annotations", "segmentation", {"size": [16, 16], "counts": [256]})
    with pytest.raises(InputError, match="annotation 11 has run lengths of 16x16 pixels, its photo has 32x32"):
        open_dataset("coco", {"path": write_coco(tmp_path, made)}).item(0, 16)
    photo_size = changed("images", "width", 31)
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(photo_size))
    with pytest.raises(InputError, match=r"has 32x32 pixels, objects in .* are of 31x32"):
        open_dataset("coco", {"path": tmp_path}).item(0, 16)


def test_categories_of_ones_own_have_a_table_of_ones_own(tmp_path: Path) -> None:
    made = content(categories=[{"id": 1, "name": "crew"}, {"id": 18, "name": "hound"}])
    table = tmp_path / "own.csv"
    table.write_text("class,label\nhound,beagle\ncrew,\n")
    data = open_dataset("coco", {"path": write_coco(tmp_path, made), "label_table": table})
    assert data.item(0, 16).class_names == ("hound", "crew")
    assert table in data.files_of(0)
    before = data.identity_of(0)
    table.write_text("class,label\nhound,boxer\ncrew,\n")
    assert open_dataset("coco", {"path": tmp_path, "label_table": table}).identity_of(0) != before
