"""``ssimpert report``: what the commands wrote becomes a page, and what can't be is told in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssimpert.models import Classifier
from ssimpert.report.html.report_of_run import run_report
from tests.ssimpert.cli.small_model import Command
from tests.ssimpert.report.html.small_results import write_run


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo of 40x32 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    path = tmp_path / "photo $x$ <b>.png"
    Image.fromarray(pixels).save(path)
    return path


def perturbed(command: Command, photo: Path, *words: str) -> Path:
    out = photo.parent / "results"
    code, _, err = command(words[0], photo, *words[1:], "--out", out)
    assert code in (0, 3), err
    return out


@pytest.mark.parametrize(
    ("words", "titles"),
    [
        (
            ("perturb", "--constraint", "window-ssim", "--window-size", "7", "--stride", "2", "--steps", "2"),
            ["Margin over steps", "Convergence of the solver"],
        ),
        (("compare", "--layer", "0", "--steps", "2"), ["Margin over steps"]),
        (
            ("minimal", "--constraint", "l2", "--radius", "1", "--rounds", "3", "--curve", "3"),
            ["Margin over steps", "Margin over levels"],
        ),
    ],
    ids=lambda value: value[0],
)
def test_what_a_command_wrote_becomes_a_page(
    small: Classifier,
    command: Command,
    photo: Path,
    words: tuple[str, ...],
    titles: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    views: list[Any] = []
    monkeypatch.setattr(
        "ssimpert.report.html.report_of_run.run_report",
        lambda *given: views.append(run_report(*given)) or views[-1],  # type: ignore[func-returns-value]
    )
    out = perturbed(command, photo, *words)
    code, printed, err = command("report", out, "-o", photo.parent / "report.html")
    assert code == 0, err
    assert "report.html (0." in printed
    (view,) = views
    (shown,) = view.photos
    assert shown.photo is not None
    assert {*titles} <= {plot.title for plot in shown.plots}
    assert view.warnings == ()
    page = (photo.parent / "report.html").read_text(encoding="utf-8")
    assert "photo $x$ &lt;b&gt;.png" in page
    assert "<b>.png" not in page


def test_a_photo_that_moved_is_found_in_another_folder_by_its_content(
    small: Classifier, command: Command, photo: Path, tmp_path: Path
) -> None:
    out = perturbed(command, photo, "perturb", "--steps", "1", "--constraint", "l2", "--radius", "1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    photo.rename(elsewhere / photo.name)
    code, _, err = command("report", out)
    assert code == 0
    assert "The clean photo of 1 of 1 photo was not found" in err
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "--photos FOLDER names a folder to look in" in page
    assert "<img-comparison-slider " not in page
    code, _, err = command("report", out, "--photos", elsewhere, "--force")
    assert (code, err) == (0, "")
    assert "<img-comparison-slider " in (out / "report.html").read_text(encoding="utf-8")
    Image.new("RGB", (40, 32)).save(elsewhere / photo.name)
    command("report", out, "--photos", elsewhere, "--force")
    assert "is another photo than the one that was perturbed" in (out / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of two photos that are gone."""
    return write_run(tmp_path / "results", ["gone.png", "lost.png"])


def test_a_partial_run_says_so_on_the_page_and_in_the_terminal(command: Command, results: Path) -> None:
    (results / "2" / "result.json").unlink()
    code, _, err = command("report", results)
    assert code == 0
    assert "This report is partial: 1 of 2 photos are complete. Missing: lost.png: result.json is missing" in err
    assert "This report is partial" in (results / "report.html").read_text(encoding="utf-8")


def test_an_output_file_that_exists_is_kept_unless_forced(command: Command, results: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.html"
    output.write_text("mine")
    code, _, err = command("report", results, "-o", output)
    assert (code, output.read_text()) == (1, "mine")
    assert "exists; give another file by -o, or --force to replace it" in err
    assert command("report", results, "-o", output, "--force")[0] == 0
    assert output.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_what_can_not_be_written_or_read_is_one_line(command: Command, results: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "empty").mkdir()
    cases = [
        ((results, "-o", tmp_path / "folder.html"), 1, "a folder has this name"),
        ((results, "-o", tmp_path / "folder.html", "--force"), 1, "a folder has this name"),
        ((results, "-o", tmp_path / "report.pdf"), 2, "must end in .html or .htm"),
        ((results, "-o", tmp_path / "nowhere" / "report.html"), 1, "there is no folder"),
        ((results, "--photos", tmp_path / "nowhere"), 1, "is no folder"),
        ((tmp_path / "nowhere",), 1, "there is no folder"),
        ((tmp_path / "empty",), 1, "has no results: neither run.json nor result.json"),
        ((results / "run.json", "-o", tmp_path / "a.html"), 1, "is a file; give the folder"),
    ]
    for words, wanted, reason in cases:
        code, out, err = command("report", *words)
        assert (code, out) == (wanted, ""), words
        assert reason in err
        assert err.count("\n") == 1, err
    assert not (tmp_path / "a.html").exists()


def test_the_commands_own_record_is_left_as_it_was(command: Command, results: Path) -> None:
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    command("report", results)
    assert {path: path.read_bytes() for path in before} == before
    assert json.loads((results / "run.json").read_bytes())["command"] == "compare"
