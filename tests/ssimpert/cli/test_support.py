"""``--support``: where pixels may change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ssimpert.analysis
from ssimpert.errors import InputError
from ssimpert.models import Classifier
from ssimpert.perturbation import PerturbResult
from tests.ssimpert.cli.small_model import SIDE, Command, records

QUICK = ("--constraint", "l2", "--radius", "1", "--all-steps", "--steps", "1")
Masks = Callable[[Path], list[Path]]
CHELSEA = (300, 451)  # height and width of the sample


def mask_file(
    path: Path, rows: slice, columns: slice, shape: tuple[int, int] = (SIDE, SIDE), bright: int = 255
) -> Path:
    """A grey picture, ``bright`` at the rows and columns; elsewhere 0, or 127 where bright is 128."""
    grey = np.full(shape, 127 if bright == 128 else 0, np.uint8)
    grey[rows, columns] = bright
    Image.fromarray(grey).save(path)
    return path


def change(folder: Path, name: str) -> np.ndarray:
    """The array's difference to the clean image, (3, H, W), in the image's own precision."""
    return np.load(folder / "adversarial.npy")[0] - ssimpert.load_image(name, size=SIDE)[0].numpy()


@pytest.mark.parametrize("engine", ["projected_gradient", "recentred"])
@pytest.mark.parametrize("outside", [False, True])
def test_other_pixels_stay_exactly_as_they_were(
    command: Command, small: Classifier, tmp_path: Path, engine: str, outside: bool
) -> None:
    # 128 is bright and 127 is not.
    mask = mask_file(tmp_path / "mask.png", slice(4, 15), slice(10, 30), bright=128)
    flags = ("--outside",) if outside else ()
    words = ("perturb", "chelsea", *QUICK, "--engine", engine, "--support", mask, *flags, "--out", tmp_path / "out")
    (record,) = records(command, *words)
    may_change = np.zeros((SIDE, SIDE), bool)
    may_change[4:15, 10:30] = True
    may_change ^= outside
    delta = change(tmp_path / "out", "chelsea")
    assert (delta[:, ~may_change] == 0).all()
    assert (delta[:, may_change] != 0).mean() > 0.9
    assert record["settings"]["support"] == pytest.approx(may_change.mean())


def test_each_image_has_its_own_mask_or_all_share_one(command: Command, small: Classifier, tmp_path: Path) -> None:
    top = mask_file(tmp_path / "top.png", slice(0, 16), slice(None))
    left = mask_file(tmp_path / "left.png", slice(None), slice(0, 16))
    names = ("chelsea", "coffee")
    records(command, "perturb", *names, *QUICK, "--support", top, "--support", left, "--out", tmp_path / "own")
    assert (change(tmp_path / "own" / "chelsea", "chelsea")[:, 16:] == 0).all()
    assert (change(tmp_path / "own" / "coffee", "coffee")[:, :, 16:] == 0).all()
    assert (change(tmp_path / "own" / "coffee", "coffee")[:, 16:, :16] != 0).any()
    records(command, "perturb", *names, *QUICK, "--support", top, "--out", tmp_path / "shared")
    for name in names:
        assert (change(tmp_path / "shared" / name, name)[:, 16:] == 0).all()


def test_a_mask_of_the_photos_own_size_stays_in_register(command: Command, small: Classifier, tmp_path: Path) -> None:
    # Chelsea's central square reaches from column 75 to 375; this is its right half.
    mask = mask_file(tmp_path / "mask.png", slice(None), slice(225, None), CHELSEA)
    records(command, "perturb", "chelsea", *QUICK, "--support", mask, "--out", tmp_path / "out")
    moved = (change(tmp_path / "out", "chelsea") != 0).any(axis=(0, 1))
    # The shorter side is not a multiple of the model's: the border may fall one pixel beside the middle.
    assert not moved[: SIDE // 2 - 1].any()
    assert moved[SIDE // 2 + 1 :].all()


@pytest.mark.parametrize("engine", ["projected_gradient", "recentred"])
def test_the_control_that_is_compared_is_confined_too(
    command: Command, small: Classifier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str
) -> None:
    compared: list[PerturbResult] = []

    def compare(*args: Any, **options: Any) -> None:
        control = honest(*args, **options | {"shifts": 0}).control
        assert control is not None
        compared.append(control)
        raise InputError("seen enough")

    honest = ssimpert.analysis.compare
    monkeypatch.setattr("ssimpert.analysis.compare", compare)
    mask = mask_file(tmp_path / "mask.png", slice(None), slice(0, 10))
    words = ("compare", "chelsea", "--engine", engine, "--steps", "1", "--support", mask, "--out", tmp_path / "out")
    code, _, err = command(*words)
    assert code == 1, err
    assert "seen enough" in err
    (control,) = compared
    assert (control.delta[..., 10:] == 0).all()
    assert (control.delta[..., :10] != 0).any()


@pytest.mark.parametrize(
    ("masks_in", "code", "message"),
    [
        (lambda folder: [folder / "absent.png"], 1, "absent.png"),
        (lambda folder: [_text(folder / "text.png")], 1, "text.png"),
        (lambda folder: [mask_file(folder / "dark.png", slice(0), slice(0))], 1, "dark.png"),
        (lambda folder: [mask_file(folder / "wide.png", slice(9), slice(9), (300, 600))], 1, "600x300 pixels, image"),
        (lambda folder: [mask_file(folder / f"{k}.png", slice(9), slice(9)) for k in range(3)], 2, "got 3 masks"),
    ],
)
def test_bad_masks_are_named_before_a_model_is_loaded(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, masks_in: Masks, code: int, message: str
) -> None:
    monkeypatch.setattr("ssimpert.models.load_model", lambda *_, **__: pytest.fail("work started"))
    masks = [word for mask in masks_in(tmp_path) for word in ("--support", mask)]
    got, _, err = command("perturb", "chelsea", "coffee", *masks, "--out", tmp_path / "out")
    assert got == code, err
    assert message in err.splitlines()[-1]


def test_a_bright_mask_leaves_nothing_outside(command: Command, tmp_path: Path) -> None:
    bright = mask_file(tmp_path / "bright.png", slice(None), slice(None))
    code, _, err = command("perturb", "chelsea", "--support", bright, "--outside", "--out", tmp_path / "out")
    assert code == 1
    assert "bright.png' is bright everywhere" in err


@pytest.mark.parametrize("flag", ["--faithful", "--quantize"])
def test_what_would_not_keep_to_the_support_is_refused(command: Command, tmp_path: Path, flag: str) -> None:
    mask = mask_file(tmp_path / "mask.png", slice(9), slice(9))
    code, _, err = command("perturb", "chelsea", flag, "--support", mask, "--out", tmp_path / "out")
    assert code == 2
    assert flag in err
    assert "--support" in err


def _text(path: Path) -> Path:
    path.write_text("not a picture")
    return path


def test_minimal_keeps_to_its_mask_and_so_does_the_curve(command: Command, small: Classifier, tmp_path: Path) -> None:
    mask = mask_file(tmp_path / "mask.png", slice(0, 20), slice(None))
    words = ("minimal", "chelsea", "--constraint", "l2", "--rounds", "2", "--steps", "2", "--curve", "2")
    (record,) = records(command, *words, "--support", mask, "--out", tmp_path / "out")
    assert (change(tmp_path / "out", "chelsea")[:, 20:] == 0).all()
    assert record["settings"]["support"] == pytest.approx(20 / SIDE)
    assert (tmp_path / "out" / "curve.json").exists()
    code, _, err = command(*words, "--outside", "--out", tmp_path / "out")
    assert code == 2
    assert "--outside goes with --support" in err
