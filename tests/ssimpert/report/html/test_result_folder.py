"""Folders that are no results, or not all of them, are told apart in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ssimpert.errors import InputError
from ssimpert.report.html.report_of_run import run_report
from ssimpert.report.html.result_folder import read_result_folder
from tests.ssimpert.report.html.small_results import find_photo, write_photo, write_run


def test_complete_results_come_in_the_order_of_the_run(tmp_path: Path) -> None:
    found = read_result_folder(write_run(tmp_path, ["b.png", "a.png"]))
    assert [photo.name for photo in found.photos] == ["b.png", "a.png"]
    assert found.incomplete == ()
    assert found.run["command"] == "compare"


def test_a_photos_own_folder_will_do(tmp_path: Path) -> None:
    write_photo(tmp_path / "one", 1, "a.png")
    found = read_result_folder(tmp_path / "one")
    assert [photo.name for photo in found.photos] == ["a.png"]
    assert found.run == {"command": "compare"}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda photo: (photo / "result.json").unlink(), "result.json is missing or no JSON"),
        (lambda photo: (photo / "result.json").write_text("{"), "result.json is missing or no JSON"),
        (lambda photo: (photo / "result.json").write_text("{}"), "result.json is no record of ssimpert"),
        (lambda photo: (photo / "maps.npz").unlink(), "maps.npz is missing or empty"),
        (lambda photo: (photo / "adversarial.npy").write_bytes(b""), "adversarial.npy is missing or empty"),
        (lambda photo: (photo / "adversarial.npy").write_bytes(b"junk"), "adversarial.npy' can't be read"),
        (lambda photo: (photo / "maps.npz").write_bytes(b"junk"), "is no file of maps"),
        (
            lambda photo: np.save(photo / "adversarial.npy", np.zeros((2, 2))),
            "is no perturbed photo: float64 of",
        ),
        (lambda photo: np.save(photo / "adversarial.npy", np.array([{}])), "adversarial.npy' can't be read"),
    ],
)
def test_a_photo_that_is_not_complete_is_named_with_what_is_missing(tmp_path: Path, spoil, reason: str) -> None:  # type: ignore[no-untyped-def]
    write_run(tmp_path, ["a.png", "b.png"])
    spoil(tmp_path / "2")
    view = run_report(tmp_path, find_photo)
    assert [photo.name for photo in view.photos] == ["a.png"]
    (warning,) = view.warnings
    assert warning.startswith("This report is partial: 1 of 2 photos are complete. Missing: b.png: ")
    assert reason in warning


def test_a_run_without_a_complete_photo_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, ["a.png"])
    (tmp_path / "1" / "result.json").unlink()
    with pytest.raises(InputError, match=r"no photo in .* is complete \(a.png: result.json is missing.*run the same"):
        read_result_folder(tmp_path)


def test_what_is_no_folder_of_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*nowhere"):
        read_result_folder(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; give the folder that ssimpert perturb, compare or minimal wrote"):
        read_result_folder(tmp_path / "file")
    with pytest.raises(InputError, match=r"has no results: neither run.json nor result.json; give the folder"):
        read_result_folder(tmp_path)
    write_run(tmp_path / "deeper", ["a.png"])
    with pytest.raises(InputError, match=r"did you mean .*deeper"):
        read_result_folder(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"photos": 3}))
    with pytest.raises(InputError, match="names no photos"):
        read_result_folder(tmp_path)


@pytest.mark.parametrize("label", ["../outside", "/etc", "..", "a/b"])
def test_no_photo_is_read_from_outside_the_folder(tmp_path: Path, label: str) -> None:
    write_photo(tmp_path / "outside", 1, "a.png")
    inside = write_run(tmp_path / "inside", ["b.png"])
    run = json.loads((inside / "run.json").read_text())
    run["photos"][label] = {"image": "a.png"}
    (inside / "run.json").write_text(json.dumps(run))
    found = read_result_folder(inside)
    assert [photo.name for photo in found.photos] == ["b.png"]
    assert "is not within" in found.incomplete[0]


def test_links_are_not_followed(tmp_path: Path) -> None:
    write_photo(tmp_path / "outside", 1, "a.png")
    inside = write_run(tmp_path / "inside", ["b.png", "c.png"])
    for file in (inside / "2").iterdir():
        file.unlink()
    (inside / "2").rmdir()
    (inside / "2").symlink_to(tmp_path / "outside")
    assert read_result_folder(inside).incomplete == ("c.png: its folder is a link, which is not followed",)
