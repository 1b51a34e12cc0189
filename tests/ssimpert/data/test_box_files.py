"""Boxes of VOC XML and COCO JSON files, in one convention; files that can't be used are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ssimpert.data import Frame, boxes_of_photo, load_boxes
from ssimpert.errors import InputError

OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def voc(path: Path, *objects: tuple[Any, ...], size: tuple[int, int] = (40, 30), file_name: str | None = None) -> Path:
    """A VOC XML file; each object is a name, xmin, ymin, xmax, ymax."""
    name = path.with_suffix(".jpg").name if file_name is None else file_name
    body = "".join(OBJECT.format(*entry) for entry in objects)
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    path.write_text(f"<annotation><filename>{name}</filename>{sides}{body}</annotation>")
    return path


def coco(path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> Path:
    content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "cup"}]}
    path.write_text(json.dumps(content))
    return path


def test_voc_counts_pixels_from_one_and_includes_the_ends(tmp_path: Path) -> None:
    (entry,) = load_boxes(voc(tmp_path / "cat.xml", ("cat", 1, 1, 1, 1), ("dog", 5, 6, 40, 30)))
    # The first pixel alone, and a box to the last column and row.
    assert entry.boxes.tolist() == [[0, 0, 1, 1], [4, 5, 40, 30]]
    assert entry.labels == ("cat", "dog")
    assert (entry.file_name, entry.width, entry.height) == ("cat.jpg", 40, 30)


def test_coco_has_width_and_height_and_groups_are_left_out(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "a/x.jpg", "width": 40, "height": 30}, {"id": 8, "file_name": "y.png"}]
    annotations = [
        {"image_id": 7, "bbox": [1.5, 2, 3, 4.25], "category_id": 3},
        {"image_id": 7, "bbox": [0, 0, 40, 30], "category_id": 3, "iscrowd": 1},
        {"image_id": 7, "bbox": [0, 0, 1, 1], "category_id": 9},
    ]
    first, second = load_boxes(coco(tmp_path / "a.json", images, annotations))
    assert first.boxes.tolist() == [[1.5, 2, 4.5, 6.25], [0, 0, 1, 1]]
    assert first.labels == ("cup", "9")
    assert second.boxes.shape == (0, 4)
    assert (second.width, second.height) == (None, None)


def test_photos_find_their_boxes_by_name_stem_and_folder(tmp_path: Path) -> None:
    frame = Frame(40, 30, 16)
    images = [{"id": k, "file_name": name} for k, name in enumerate(("a/x.jpg", "b/x.jpg", "chelsea.png", "z.jpg"))]
    entries = load_boxes(coco(tmp_path / "a.json", images, []))
    assert boxes_of_photo("photos/b/x.jpg", entries, frame).file_name == "b/x.jpg"
    assert boxes_of_photo("chelsea", entries, frame).file_name == "chelsea.png"
    assert boxes_of_photo("other/z.png", entries, frame).file_name == "z.jpg"
    with pytest.raises(InputError, match=r"'x\.jpg' may be any of 'a/x\.jpg', 'b/x\.jpg'"):
        boxes_of_photo("x.jpg", entries, frame)
    with pytest.raises(InputError, match=r"'w\.jpg' has no boxes in '.*a\.json'"):
        boxes_of_photo("w.jpg", entries, frame)


def test_a_folder_of_voc_files_and_a_single_file_of_another_name(tmp_path: Path) -> None:
    voc(tmp_path / "a.xml", ("cat", 1, 1, 2, 2))
    voc(tmp_path / "b.xml", ("cat", 3, 3, 4, 4), file_name="C:\\photos\\b.JPG")
    entries = load_boxes(tmp_path)
    assert [entry.file_name for entry in entries] == ["a.jpg", "C:\\photos\\b.JPG"]
    assert boxes_of_photo("b.png", entries, Frame(40, 30)).boxes.tolist() == [[2, 2, 4, 4]]
    assert boxes_of_photo("chelsea", entries[:1], Frame(40, 30)) is entries[0]


def test_boxes_of_a_photo_of_another_size_are_refused(tmp_path: Path) -> None:
    entries = load_boxes(voc(tmp_path / "a.xml", ("cat", 1, 1, 2, 2)))
    with pytest.raises(InputError, match=r"'a\.jpg' has 50x30 pixels, its boxes in .* are of 40x30 pixels"):
        boxes_of_photo("a.jpg", entries, Frame(50, 30))
    with pytest.raises(InputError, match=r"30x40 pixels \(after its EXIF rotation\)"):
        boxes_of_photo("a.jpg", entries, Frame(30, 40))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.xml", "<annotation><object></object></annotation>", "box 0 has [None, None, None, None]"),
        ("a.xml", "<annotation>" + OBJECT.format("x", 9, 1, 3, 4) + "</annotation>", "box 0 has no area"),
        ("a.xml", "<annotation>" + OBJECT.format("x", "nan", 1, 3, 4) + "</annotation>", "box 0 has no area"),
        ("a.xml", "<html></html>", "its root is <html>, not <annotation>"),
        ("a.xml", "not XML", "is no readable XML file"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "b">]><annotation>&b;</annotation>', "declares a document type or entities"),
        ("a.json", "[1, 2]", "needs the lists 'images' and 'annotations'"),
        ("a.json", '{"images": [], "annotations": [3]}', "needs the lists"),
        ("a.json", "{", "is no readable JSON file"),
        ("a.json", "[" * 100000, "is no readable JSON file"),
        ("a.json", '{"images": [{"id": 1}], "annotations": [{"image_id": 2}]}', "of image 2, which 'images' lacks"),
        ("a.json", '{"images": [{"id": 1}], "annotations": [{"image_id": [2]}]}', "of image [2], which 'images' lacks"),
        ("a.json", '{"images": [{"id": 1}], "annotations": [{"image_id": 1, "bbox": [1, 2]}]}', "bbox [1, 2]"),
        ("a.json", '{"images": [{"id": 1}], "annotations": [{"image_id": 1, "bbox": [1, 2, 0, 4]}]}', "has no area"),
        ("a.json", '{"images": [{"id": 1}], "annotations": [{"image_id": 1, "bbox": [1, 2, "w", 4]}]}', "four numbers"),
        ("a.csv", "1,2,3,4", "must end in .xml (VOC) or .json (COCO)"),
        (".", "", "is a folder without .xml files"),
        ("none.xml", None, "does not exist"),
    ],
)
def test_files_that_hold_no_boxes_are_named(name: str, content: str | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content:
        path.write_text(content)
    with pytest.raises(InputError) as caught:
        load_boxes(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
