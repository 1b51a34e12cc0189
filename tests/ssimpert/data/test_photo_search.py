"""Photos in bulk: names, files, folders and patterns, each photo once, what can't be used with its reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from ssimpert.data import find_photos
from ssimpert.data.photo_search import natural_order
from ssimpert.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photos/ with img2, img10, a damaged file, an array, a note, a hidden file, and a folder within."""
    photos = tmp_path / "photos"
    (photos / "more" / "deep").mkdir(parents=True)
    picture = Image.new("RGB", (16, 16))
    for name in ("img10.png", "img2.PNG", "more/a.jpg", "more/deep/b.png", ".hidden.png"):
        picture.save(photos / name)
    for name in ("bad.png", "notes.txt", "values.npy"):
        (photos / name).write_text("x")
    monkeypatch.chdir(tmp_path)
    return photos


def test_a_folder_gives_its_pictures_in_natural_order(folder: Path) -> None:
    found = find_photos(["photos"])
    assert found.names == ("photos/bad.png", "photos/img2.PNG", "photos/img10.png", "photos/values.npy")
    assert found.faults == ()
    assert found.remarks == (
        "'photos': left out 2 files ('.hidden.png', 'notes.txt'): hidden, or no picture by the name",
    )


def test_folders_within_are_searched_on_request(folder: Path) -> None:
    found = find_photos(["photos"], recursive=True)
    assert found.names[-1] == "photos/values.npy"
    assert set(found.names) >= {"photos/more/a.jpg", "photos/more/deep/b.png"}
    nothing_here = find_photos(["photos/more/deep", "chelsea", "."])
    assert nothing_here.names == ("photos/more/deep/b.png", "chelsea")
    assert nothing_here.faults[0].startswith("'.' is a folder without pictures; with --recursive")


def test_a_quoted_pattern_is_expanded(folder: Path) -> None:
    assert find_photos(["photos/img*.*"]).names == ("photos/img2.PNG", "photos/img10.png")
    assert find_photos(["photos/**/*.jpg"]).names == ("photos/more/a.jpg",)
    assert find_photos(["photos/mor?"]).names == ("photos/more/a.jpg",)
    assert find_photos(["photos/*.webp", "camera"]).faults == ("'photos/*.webp' matches no file",)


def test_a_file_of_that_name_goes_before_a_pattern_and_a_sample(folder: Path) -> None:
    Image.new("RGB", (16, 16)).save(folder / "[red]x.png")
    Image.new("RGB", (16, 16)).save("chelsea", format="PNG")
    Path("coffee").mkdir()
    found = find_photos(["photos/[red]x.png", "chelsea", "coffee", "rocket"])
    assert found.names == ("photos/[red]x.png", "chelsea", "coffee", "rocket")
    assert not found.faults


def test_a_photo_that_is_named_twice_is_taken_once(folder: Path) -> None:
    os.symlink(folder / "img2.PNG", folder / "link.png")
    found = find_photos(["photos/img2.PNG", "chelsea", "./photos/img2.PNG", "chelsea", "photos/link.png", "photos"])
    assert found.names == ("photos/img2.PNG", "chelsea", "photos/bad.png", "photos/img10.png", "photos/values.npy")
    assert found.remarks[0] == "'./photos/img2.PNG' is the same photo as 'photos/img2.PNG', and is taken once"
    assert sum("taken once" in remark for remark in found.remarks) == 5


def test_links_to_folders_are_not_followed(folder: Path) -> None:
    os.symlink(folder, folder / "more" / "circle")
    os.symlink(folder, folder / "more" / "circle.png")
    found = find_photos(["photos"], recursive=True)
    assert len(found.names) == 6
    assert found.faults == ("'photos/more/circle.png' is a folder",)


def test_strict_stops_at_the_first_fault(folder: Path) -> None:
    with pytest.raises(InputError, match=r"^'photos/none\.png' does not exist$"):
        find_photos(["photos/img2.PNG", "photos/none.png", "nowhere.png"], strict=True)
    found = find_photos(["photos/img2.PNG", "photos/none.png", "nowhere.png", "chelsey", ""])
    assert found.names == ("photos/img2.PNG",)
    assert found.faults[:2] == ("'photos/none.png' does not exist", "'nowhere.png' does not exist")
    assert "did you mean" in found.faults[2]
    assert found.faults[3] == "'' is no name"


def test_no_argument_and_no_list_are_refused() -> None:
    with pytest.raises(InputError, match="no photo is given"):
        find_photos([])
    with pytest.raises(InputError, match="arguments must be a list of names"):
        find_photos("chelsea")
    with pytest.raises(InputError, match="strict must be True or False"):
        find_photos(["chelsea"], strict="yes")  # type: ignore[arg-type]


def test_numbers_in_names_count_by_their_value() -> None:
    names = ["b", "a10b2", "a2", "a10b10", "10", "9", "A1", "a02"]
    assert sorted(names, key=natural_order) == ["A1", "a02", "a2", "a10b2", "a10b10", "b", "9", "10"]
