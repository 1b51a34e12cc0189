"""Photos in bulk from the command line: what can't be used is reported and skipped, what was done is said."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssimpert.data import load_image
from ssimpert.models import Classifier
from tests.ssimpert.cli.small_model import SIDE, Command

QUICK = ("--constraint", "l2", "--radius", "1", "--all-steps", "--steps", "1")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """img2, img10 (CMYK), a damaged file and a pipe."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "img2.png")
    Image.fromarray(noise[:, ::-1].copy()).convert("CMYK").save(folder / "img10.tif")
    Image.fromarray(noise[::-1].copy()).save(folder / "more" / "b.png")
    (folder / "damaged.png").write_bytes(b"\x89PNG")
    os.mkfifo(folder / "pipe.png")
    return folder


def printed_lines(text: str) -> list[str]:
    """The lines of stderr; a progress bar that is not on a terminal leaves an empty line."""
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("name", ["perturb", "minimal"])
def test_what_can_not_be_used_is_skipped_and_the_rest_is_done(
    name: str, command: Command, small: Classifier, photos: Path, tmp_path: Path
) -> None:
    options = QUICK if name == "perturb" else ("--constraint", "l2", "--steps", "1", "--rounds", "2")
    code, out, err = command(name, photos, *options, "--out", tmp_path / "out", "--json")
    assert code == 1
    assert [Path(record["image"]).name for record in json.loads(out)] == ["img2.png", "img10.tif"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["img10", "img2", "run.json"]
    lines = err.splitlines()
    assert f"skipped: '{photos}/pipe.png' is a named pipe (FIFO)" in lines
    assert f"skipped: '{photos}/damaged.png' is not an image file that Pillow can read" in lines
    assert "2 photos were skipped; the reasons are above" in lines
    assert not [line for line in lines if line.startswith("ssimpert: ")]


def test_strict_stops_before_a_model_is_loaded_or_a_photo_perturbed(
    command: Command, small: Classifier, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssimpert.perturbation.perturb", lambda *_, **__: pytest.fail("work started"))
    code, _, err = command(
        "perturb", photos / "img2.png", photos / "damaged.png", "--strict", "--out", tmp_path / "out"
    )
    assert code == 1
    assert err.splitlines()[-1].startswith("ssimpert: ")
    assert "damaged.png" in err
    monkeypatch.setattr("ssimpert.models.load_model", lambda *_, **__: pytest.fail("work started"))
    code, _, err = command("perturb", photos, "--strict", "--out", tmp_path / "out")
    assert code == 1
    assert err == f"ssimpert: '{photos}/pipe.png' is a named pipe (FIFO)\n"


def test_where_no_photo_is_left_one_error_says_so(
    command: Command, small: Classifier, photos: Path, tmp_path: Path
) -> None:
    code, _, err = command("perturb", photos / "damaged.png", "--out", tmp_path / "out")
    assert code == 1
    assert err == f"ssimpert: '{photos}/damaged.png' is not an image file that Pillow can read\n"
    code, _, err = command("perturb", photos / "damaged.png", photos / "pipe.png", "--out", tmp_path / "out")
    assert code == 1
    assert err.splitlines()[-1] == "ssimpert: no photo is left: 2 photos were skipped"


def test_what_was_done_is_said_once_and_recorded(
    command: Command, small: Classifier, photos: Path, tmp_path: Path
) -> None:
    code, out, err = command("perturb", f"{photos}/img*", *QUICK, "--out", tmp_path / "out", "--json")
    assert code == 0
    first, second = json.loads(out)
    done = ["resized from 60x40 to 48x32 pixels", "cut to the central 32x32 pixels"]
    sha256 = hashlib.sha256((photos / "img2.png").read_bytes()).hexdigest()
    content = {"sha256": sha256, "mask_sha256": None, "objects_sha256": None}
    assert first["photo"] == {"width": 60, "height": 40, "seen_box": [10, 0, 50, 40], "notes": done, **content}
    inks = "converted from inks (CMYK) by the plain formula (1 - ink)(1 - black), since it has no usable profile"
    assert second["photo"]["notes"] == [inks, *done]
    *notes, first_done, second_done = printed_lines(err)
    assert notes == [
        f"'{photos}/img2.png': {'; '.join(done)}",
        f"'{photos}/img10.tif': {'; '.join([inks, *done])}",
    ]
    assert first_done.startswith(f"1/2 {photos}/img2.png: ")
    assert second_done.startswith(f"2/2 {photos}/img10.tif: ")


def test_python_and_the_command_line_see_the_same_pixels(
    command: Command, small: Classifier, photos: Path, tmp_path: Path
) -> None:
    command(
        "perturb",
        photos / "img2.png",
        "--constraint",
        "linf",
        "--radius",
        "1e-6",
        *QUICK[4:],
        "--out",
        tmp_path / "out",
    )
    found = load_image(tmp_path / "out" / "adversarial.npy")
    assert (found - load_image(photos / "img2.png", size=SIDE)).abs().max() < 1e-5


def test_folders_within_and_each_photos_mask_keep_their_order(
    command: Command, small: Classifier, photos: Path, tmp_path: Path
) -> None:
    sides = {}
    for name in ("left", "right", "top"):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[(slice(0, 16) if name == "top" else slice(None)), (slice(16, 32) if name == "right" else slice(0, 16))] = (
            255
        )
        sides[name] = tmp_path / f"{name}.png"
        Image.fromarray(mask).save(sides[name])
    names = ("more/b.png", "damaged.png", "img2.png")
    words = [photos / name for name in names]
    masks = [word for side in sides.values() for word in ("--support", side)]
    code, out, _ = command("perturb", *words, *masks, *QUICK, "--out", tmp_path / "out", "--json")
    assert code == 1
    assert [Path(record["image"]).name for record in json.loads(out)] == ["b.png", "img2.png"]
    for name, photo, kept in (("b", "more/b.png", np.s_[:, :, 16:]), ("img2", "img2.png", np.s_[:, 16:, :])):
        change = np.load(tmp_path / "out" / name / "adversarial.npy")[0] - load_image(photos / photo, SIDE)[0].numpy()
        assert (change[kept] == 0).all()
        assert (change != 0).any()


@pytest.mark.parametrize("name", ["\x1b[31mred.png", "[red]x.png", os.fsdecode(b"\xff.png"), "two\nlines.png"])
def test_no_name_reaches_the_terminal_as_a_control_character(
    name: str, command: Command, small: Classifier, tmp_path: Path
) -> None:
    for folder, content in (("good", None), ("bad", b"x")):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / name
        if content is None:
            Image.effect_noise((40, 40), 50).save(tmp_path / "a.png")
            (tmp_path / "a.png").rename(path)
        else:
            path.write_bytes(content)
    code, _, err = command("perturb", tmp_path / "bad", tmp_path / "good", *QUICK, "--out", tmp_path / "out", "--json")
    assert code == 1
    lines = printed_lines(err)
    assert len(lines) == 4  # skipped, what was done to the good one, its outcome, and the number of those skipped
    assert all(line.isprintable() for line in lines)
    assert "red]x" in err or "\\" in err
