"""VOC in its real layout: boxes in the model's pixels, difficult objects, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssimpert.data import load_image
from ssimpert.data.datasets.catalog import open_dataset
from ssimpert.errors import InputError
from tests.ssimpert.data.datasets.fixtures import write_voc

PHOTOS = {
    "000001": (64, 32, [("dog", (17, 1, 32, 16), 0), ("person", (1, 1, 16, 32), 0), ("dog", (33, 17, 40, 32), 1)]),
    "000002": (32, 48, [("cat", (1, 9, 32, 40), 0)]),
}


def test_boxes_arrive_in_the_models_pixels(tmp_path: Path) -> None:
    write_voc(tmp_path, PHOTOS)
    data = open_dataset("voc", {"path": tmp_path, "year": 2007, "split": "test"})
    assert (len(data), data.name_of(1), data.has_objects) == (2, "000002", True)
    base = tmp_path / "VOCdevkit" / "VOC2007"
    assert data.files_of(0) == (base / "JPEGImages" / "000001.jpg", base / "Annotations" / "000001.xml")
    item = data.item(0, 16)
    # 64x32 is halved to 32x16; the central square begins at column 8. VOC's xmin 17 to xmax 32 is [16, 32).
    assert (item.frame.resized_width, item.frame.left) == (32, 8)
    # The person, columns 0 to 8 of the halved photo, is cut off.
    dog, other = item.objects
    assert (dog.class_name, dog.box, dog.difficult, dog.crowd, dog.mask) == ("dog", (0, 0, 8, 8), False, False, None)
    assert (other.box, other.difficult) == ((8, 8, 12, 16), True)
    assert item.class_names == ("dog", "person")
    assert item.image.equal(load_image(data.files_of(0)[0], 16)[0])
    assert item.identity == data.identity_of(0)


def test_the_identity_is_of_pixels_and_annotation(tmp_path: Path) -> None:
    write_voc(tmp_path / "a", PHOTOS)
    before = open_dataset("voc", {"path": tmp_path / "a"}).identity_of(0)
    assert open_dataset("voc", {"path": tmp_path / "a" / "VOCdevkit"}).identity_of(0) == before
    width, height, objects = PHOTOS["000001"]
    (name, box, _), *others = objects
    for changed in ([(name, box, 1), *others], [("cat", box, 0), *others], [(name, (18, 1, 32, 16), 0), *others]):
        write_voc(tmp_path / "b", {"000001": (width, height, changed)})
        assert open_dataset("voc", {"path": tmp_path / "b"}).identity_of(0) != before
    write_voc(tmp_path / "c", {"000002": PHOTOS["000002"], "000001": PHOTOS["000001"]})
    assert open_dataset("voc", {"path": tmp_path / "c"}).identity_of(1) != before  # other noise


def test_opening_decodes_no_photo(tmp_path: Path) -> None:
    write_voc(tmp_path, PHOTOS)
    for photo in (tmp_path / "VOCdevkit" / "VOC2007" / "JPEGImages").iterdir():
        photo.write_bytes(b"no picture")
    data = open_dataset("voc", {"path": str(tmp_path)})
    assert [data.name_of(index) for index in range(len(data))] == ["000001", "000002"]
    with pytest.raises(InputError, match=r"000001\.jpg"):
        data.item(0, 16)


def test_what_is_missing_is_named_when_the_set_is_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"VOC folder '.*nowhere' does not exist"):
        open_dataset("voc", {"path": tmp_path / "nowhere"})
    with pytest.raises(InputError, match="VOCdevkit' does not exist"):
        open_dataset("voc", {"path": tmp_path})
    write_voc(tmp_path, PHOTOS)
    with pytest.raises(InputError, match="VOC2012' does not exist"):
        open_dataset("voc", {"path": tmp_path, "year": 2012, "split": "val"})
    with pytest.raises(InputError, match="year must be 2007 or 2012, got 2010"):
        open_dataset("voc", {"path": tmp_path, "year": 2010})
    with pytest.raises(InputError, match="split of VOC 2007 must be one of train, val, trainval, test, got 'tset'"):
        open_dataset("voc", {"path": tmp_path, "split": "tset"})
    with pytest.raises(InputError, match=r"val\.txt' does not exist"):
        open_dataset("voc", {"path": tmp_path, "split": "val"})
    (tmp_path / "VOCdevkit" / "VOC2007" / "Annotations" / "000002.xml").unlink()
    with pytest.raises(InputError, match=r"Annotations' lacks 1 of the files listed: '000002\.xml'"):
        open_dataset("voc", {"path": tmp_path})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", r"000001\.xml' is no readable XML file"),
        ("<html></html>", "its root is <html>"),
        (
            "<annotation><object><name>dgo</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
            "</bndbox></object></annotation>",
            r"000001\.xml': unknown class 'dgo'; did you mean dog",
        ),
        (
            "<annotation><size><width>30</width><height>32</height></size></annotation>",
            r"has 64x32 pixels, objects in '.*000001\.xml' are of 30x32",
        ),
        (
            "<annotation><object><name>dog</name><difficult>yes</difficult><bndbox><xmin>1</xmin><ymin>1</ymin>"
            "<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>",
            "box 0 has difficult = 'yes'",
        ),
    ],
)
def test_bad_annotations_name_file_and_value(tmp_path: Path, text: str, message: str) -> None:
    write_voc(tmp_path, PHOTOS)
    (tmp_path / "VOCdevkit" / "VOC2007" / "Annotations" / "000001.xml").write_text(text)
    with pytest.raises(InputError, match=message):
        open_dataset("voc", {"path": tmp_path}).item(0, 16)
