"""Lists of photos in CSV files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssimpert.data.datasets.catalog import open_dataset
from ssimpert.errors import InputError
from tests.ssimpert.data.datasets.fixtures import write_photo


def write(folder: Path, text: str) -> Path:
    for number, name in enumerate(("a.png", "b.png")):
        write_photo(folder / "photos" / name, 32, 32, number)
    (folder / "list.csv").write_text(text)
    return folder / "list.csv"


def test_lines_of_one_photo_are_its_objects(tmp_path: Path) -> None:
    text = (
        "path,label,box,site\nphotos/a.png,cat,0 0 16 8,north\nphotos/b.png,dog,,south\n"
        'photos/a.png,dog,"16,8,32,32",north\n'
    )
    data = open_dataset("csv", {"path": write(tmp_path, text)})
    assert (len(data), data.name_of(0), data.has_objects, data.label_table) == (2, "photos/a.png", True, None)
    item = data.item(0, 16)
    assert [(entry.class_name, entry.box) for entry in item.objects] == [("cat", (0, 0, 8, 4)), ("dog", (8, 4, 16, 16))]
    assert (item.class_names, item.columns) == (("cat", "dog"), {"site": "north"})
    assert (data.item(1, 16).class_names, data.item(1, 16).objects) == (("dog",), ())
    assert item.identity == data.identity_of(0)


def test_spaces_around_the_names_of_columns_do_not_count(tmp_path: Path) -> None:
    item = open_dataset("csv", {"path": write(tmp_path, "path, label\nphotos/a.png, cat\n")}).item(0, 16)
    assert (item.class_names, item.columns) == (("cat",), {})


def test_paths_alone_are_enough(tmp_path: Path) -> None:
    data = open_dataset("csv", {"path": write(tmp_path, f"path\nphotos/b.png\n{tmp_path / 'photos' / 'a.png'}\n")})
    assert [data.name_of(0), data.name_of(1)] == ["photos/b.png", "photos/a.png"]
    assert not data.has_objects
    folder = open_dataset("folder", {"path": tmp_path / "photos"})
    assert data.identity_of(0) == folder.identity_of(1)  # the same pixels, without annotation


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file\nphotos/a.png\n", r"lacks the column 'path'; its first line is \['file'\]"),
        ("path,label,path\nphotos/a.png,cat,photos/b.png\n", "the column 'path' is there twice"),
        ("path,\nphotos/a.png,x\n", "column 2 has no name"),
        ("path,box\nphotos/a.png,0 0 1 1\n", "has the column 'box' and lacks the column 'label'"),
        ("path\nphotos/c.png\n", r"line 2: '.*c\.png' does not exist"),
        ("path,label\nphotos/a.png\n", "line 2: 2 values are needed"),
        ("path,label,box\nphotos/a.png,cat,0 0 8\n", r"box 2 has \['0', '0', '8'\]; four numbers are valid"),
        ("path,label,box\nphotos/a.png,cat,8 0 8 9\n", "box 2 has no area"),
        ("path,label,box\nphotos/a.png,,0 0 8 9\n", "line 2: the box '0 0 8 9' has no label"),
        ("path,site\nphotos/a.png,x\nphotos/a.png,y\n", "line 3: .* on an earlier line"),
    ],
)
def test_bad_lists_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_dataset("csv", {"path": write(tmp_path, text)})


def test_boxes_outside_of_the_photo_are_named(tmp_path: Path) -> None:
    data = open_dataset("csv", {"path": write(tmp_path, "path,label,box\nphotos/a.png,cat,0 0 33 8\n")})
    with pytest.raises(InputError, match=r"the box .*33.* of 'cat' leaves the photo .*32x32 pixels"):
        data.item(0, 16)


def test_labels_without_a_line_in_the_table_are_named(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("class,label\ncat,tabby\n")
    path = write(tmp_path, "path,label\nphotos/a.png,cta\n")
    with pytest.raises(InputError, match=r"photo '.*a\.png': unknown class 'cta'; did you mean cat"):
        open_dataset("csv", {"path": path, "label_table": table})
