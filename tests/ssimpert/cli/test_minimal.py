"""``ssimpert minimal``: what its record says is true of the files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

import ssimpert
from ssimpert.models import Classifier
from tests.ssimpert.cli.small_model import SIDE, Command, records

QUICK = ("--steps", "3", "--rounds", "6", "--tolerance", "0.05", "--eps-rel", "1e-2")


def pixels(name: str) -> np.ndarray:
    """The clean image as scikit-image takes it, (H, W, 3) float64."""
    return ssimpert.load_image(name, size=SIDE, dtype=torch.float64)[0].permute(1, 2, 0).numpy()


def label_of(model: Classifier, array: np.ndarray) -> int:
    return int(model(torch.from_numpy(array.transpose(2, 0, 1)[None]).float()).argmax())


def index_map(clean: np.ndarray, array: np.ndarray) -> np.ndarray:
    """scikit-image's SSIM of the published window, the valid region."""
    kind = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    _, full = structural_similarity(clean, array, channel_axis=-1, full=True, **kind)
    return np.asarray(full[5:-5, 5:-5])


def contrast_distance(clean: np.ndarray, array: np.ndarray) -> float:
    """d2 over the whole image: pixels in [-1, 1], 9e-4 beside the sums of squares (Pochimireddy et al.)."""
    one, other = (2 * values - 1 - (2 * values - 1).mean() for values in (clean, array))
    square = ((one - other) ** 2).sum() / ((one**2).sum() + (other**2).sum() + 9e-4)
    return float(np.sqrt(square))


@pytest.mark.parametrize(
    ("constraint", "words", "measured"),
    [
        ("l2", (), lambda clean, array: np.linalg.norm(array - clean)),
        ("linf", (), lambda clean, array: np.abs(array - clean).max()),
        ("mean-ssim", (), lambda clean, array: 1 - index_map(clean, array).mean()),
        (
            "window-ssim",
            ("--window-size", "11", "--stride", "1", "--sigma", "1.5", "--border", "valid", "--luminance", "split"),
            None,
        ),
        ("global-ssim", (), contrast_distance),
    ],
)
def test_the_record_is_true_of_the_files(
    command: Command, small: Classifier, tmp_path: Path, constraint: str, words: tuple[str, ...], measured: object
) -> None:
    (record,) = records(command, "minimal", "chelsea", "--constraint", constraint, *words, *QUICK, "--out", tmp_path)
    assert record == json.loads((tmp_path / "result.json").read_text())
    assert {path.name for path in tmp_path.iterdir()} == {
        "adversarial.npy",
        "adversarial.png",
        "result.json",
        "run.json",
    }
    result, file, clean = record["result"], record["file"], pixels("chelsea")
    array = np.load(tmp_path / "adversarial.npy")[0].transpose(1, 2, 0).astype(np.float64)
    assert result["success"]
    assert label_of(small, clean) == result["label_before"]
    assert label_of(small, array) == result["label_after"] != result["label_before"]
    assert 0 <= result["failed_level"] < result["level"]
    assert 1 <= result["rounds"] <= 6
    if callable(measured):
        assert result["level"] == pytest.approx(measured(clean, array), rel=2e-3)
    else:
        assert index_map(clean, array).min() >= 1 - result["level"] - 1e-6
    assert result["l2_norm"] == pytest.approx(np.linalg.norm(array - clean), rel=1e-5)
    assert result["ssim"] == pytest.approx(index_map(clean, array).mean(), abs=1e-6)
    assert result["min_window_ssim"] == pytest.approx(index_map(clean, array).min(), abs=1e-5)
    with Image.open(tmp_path / "adversarial.png") as picture:
        written = np.asarray(picture) / 255
    assert file["label"] == label_of(small, written)
    assert file["success"] == (file["label"] != result["label_before"])
    assert file["ssim"] == pytest.approx(index_map(clean, written).mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("constraint", "unit"),
    [
        ("global-ssim", "distance d2"),
        ("window-ssim", "1 - SSIM of the least window"),
        ("mean-ssim", "1 - mean SSIM"),
        ("l1", "radius"),
    ],
)
@pytest.mark.parametrize("engine", ["projected_gradient", "sequential_convex", "frank_wolfe"])
def test_every_engine_runs_and_the_level_has_its_unit(
    command: Command, small: Classifier, tmp_path: Path, constraint: str, unit: str, engine: str
) -> None:
    words = ("--engine", engine, "--constraint", constraint, "--steps", "1", "--rounds", "1", "--eps-rel", "3e-2")
    (record,) = records(command, "minimal", "chelsea", *words, "--out", tmp_path)
    assert record["settings"]["engine"] == engine
    assert record["result"]["level_unit"] == unit
    assert record["result"]["rounds"] == 1


def test_the_table_has_a_row_for_each_image(command: Command, small: Classifier, tmp_path: Path) -> None:
    words = ("minimal", "chelsea", "coffee", "--constraint", "l2", *QUICK, "--out", tmp_path)
    found = records(command, *words)
    code, out, err = command(*words)
    assert code == 0, err
    for heading in ("image", "label: before → after", "level", "l2 norm", "SSIM", "least window", "rounds"):
        assert heading in out
    for record in found:
        result = record["result"]
        (row,) = [line for line in out.splitlines() if record["image"] in line]
        assert f"{result['label_before_name']} → {result['label_after_name']}" in row
        for cell in (f"{result['level']:.4g}", f"{result['ssim']:.6f}", f"{result['rounds']}"):
            assert cell in row


def test_a_level_that_is_not_found_is_null_and_none(command: Command, small: Classifier, tmp_path: Path) -> None:
    words = ("minimal", "chelsea", "--constraint", "linf", "--radius", "1e-6", "--steps", "1", "--rounds", "1")
    (record,) = records(command, *words, "--out", tmp_path)
    assert record["result"]["level"] is None
    assert record["result"]["failed_level"] == 1e-6
    assert record["result"]["success"] is False
    code, out, _ = command(*words, "--out", tmp_path)
    assert code == 3
    assert "goal not reached (no level up to 1e-06 changes the decision)" in out
    assert "none" in out


def test_the_target_is_aimed_at(command: Command, small: Classifier, tmp_path: Path) -> None:
    words = ("minimal", "chelsea", "--constraint", "l2", *QUICK)
    (free,) = records(command, *words, "--out", tmp_path / "free")
    target = next(k for k in range(5) if k not in (free["result"]["label_before"], free["result"]["label_after"]))
    (aimed,) = records(command, *words, "--target", str(target), "--out", tmp_path / "aimed")
    assert aimed["result"]["label_after"] == target
    assert aimed["result"]["level"] > free["result"]["level"]


def test_the_curve_is_of_levels_around_the_least_one(command: Command, small: Classifier, tmp_path: Path) -> None:
    words = ("minimal", "chelsea", "--constraint", "l2", *QUICK, "--curve", "5", "--out", tmp_path)
    (record,) = records(command, *words)
    curve = json.loads((tmp_path / "curve.json").read_text())
    least = record["result"]["level"]
    assert curve["least_level"] == least
    assert curve["level_unit"] == "radius"
    levels = [point["level"] for point in curve["curve"]]
    assert levels == pytest.approx([least / 4, least / 2, least, 2 * least, 4 * least])
    margins = [point["margin"] for point in curve["curve"]]
    assert margins == sorted(margins)
    assert margins[0] < 0 < margins[-1]
    # The curve at the least level is at least as high as the perturbation that was found there.
    assert margins[2] >= record["result"]["margin_after"] > 0
    assert curve["least_level_reached_by_curve"] <= least
    assert "l2 norm" in curve["conditions"]
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.width == 1200
    assert "<svg" in (tmp_path / "curve.svg").read_text()


@pytest.mark.parametrize(
    ("radius", "target", "levels"),
    [("1e-6", None, [0.25e-6, 1e-6, 4e-6]), ("0.64", "own", [0.16, 0.4, 1.0])],
    ids=["not found", "not needed"],
)
def test_a_curve_without_a_least_level_is_around_the_sets_own_and_ends_where_levels_do(
    command: Command, small: Classifier, tmp_path: Path, radius: str, target: str | None, levels: list[float]
) -> None:
    own = small.predict(ssimpert.load_image("chelsea", size=SIDE)).item()
    aim = () if target is None else ("--target", str(own))
    words = ("--constraint", "linf", "--radius", radius, *aim, "--steps", "1", "--rounds", "1", "--curve", "3")
    code, _, err = command("minimal", "chelsea", *words, "--out", tmp_path)
    assert code == (3 if target is None else 0), err
    curve = json.loads((tmp_path / "curve.json").read_text())
    assert curve["least_level"] == (None if target is None else 0)
    assert [point["level"] for point in curve["curve"]] == pytest.approx(levels)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--engine", "recentred"), 2, "recentred"),
        (("--curve", "1"), 2, "--curve"),
        (("--rounds", "0"), 2, "--rounds"),
        (("--tolerance", "2"), 2, "tolerance must lie strictly between 0 and 1, got 2.0"),
        (("--constraint", "mean-ssim", "--luminance", "0.01"), 2, "can't project onto mean-ssim"),
        (("--quantize",), 2, "No such option"),
    ],
)
def test_wrong_options_are_named_before_a_model_is_loaded(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.setattr("ssimpert.models.load_model", lambda *_, **__: pytest.fail("work started"))
    got, _, err = command("minimal", "chelsea", *words, "--out", tmp_path)
    assert got == code, err
    assert message in err
