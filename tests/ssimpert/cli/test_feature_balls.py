"""Balls of deep features from the command line: the linearised set, the penalised and the constrained method."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import ssimpert
from ssimpert.analysis import read_table
from ssimpert.cli.errors import UsageError
from ssimpert.cli.feature_balls import layers_from_option
from ssimpert.models import Classifier
from tests.ssimpert.cli.small_model import SIDE, Command, records

# Layers of the small network: its two activations.
LAYERS = (1, 3)
BY_NAME = ("--layers", "1,3")
PENALISED = ("--method", "perceptual-ball", *BY_NAME, "--steps", "20")
CONSTRAINED = ("--method", "perceptual-ball-constrained", *BY_NAME, "--radius", "2", "--steps", "5")
LINEARISED = ("--constraint", "feature-ball", *BY_NAME, "--radius", "2", "--steps", "3")


def clean() -> Tensor:
    return ssimpert.load_image("chelsea", size=SIDE).double()


def perturbed(folder: Path) -> Tensor:
    return torch.from_numpy(np.load(folder / "adversarial.npy")).double()


def features(model: Classifier, images: Tensor, *, unit_channel: bool) -> Tensor:
    """The features of the two activations, (B, F), as the README of LPIPS and the paper's mean squared error have
    them."""
    values, parts = (images.float() - 0.5) / 0.5, []
    for number, layer in enumerate(model.network):
        values = layer(values)
        if number in LAYERS:
            size = values[0, 0].numel()
            scaled = values / values.norm(dim=1, keepdim=True) if unit_channel else values / values.shape[1] ** 0.5
            parts.append((scaled / size**0.5).flatten(1))
    return torch.cat(parts, dim=1)


def feature_change(model: Classifier, folder: Path, *, unit_channel: bool) -> float:
    before, after = (features(model, images, unit_channel=unit_channel) for images in (clean(), perturbed(folder)))
    return float((after - before).norm())


def linear_change(model: Classifier, folder: Path) -> float:
    """``|J d|``, by forward differentiation."""
    moved = (perturbed(folder) - clean()).float()
    _, change = torch.func.jvp(lambda images: features(model, images, unit_channel=True), (clean().float(),), (moved,))
    return float(change.norm())


def test_the_penalised_ball_changes_the_label_and_records_its_weights(
    command: Command, small: Classifier, tmp_path: Path
) -> None:
    (record,) = records(command, "perturb", "chelsea", *PENALISED, "--gamma", "50", "--out", tmp_path)
    result, settings = record["result"], record["settings"]
    assert result["label_before"] != result["label_after"] == int(small(perturbed(tmp_path).float()).argmax())
    assert (settings["gamma"], settings["s"], settings["v"], settings["layers"]) == (50, 1, -2, ["1", "3"])
    assert (settings["lower_gamma"], settings["box"], settings["faithful"]) == (True, True, False)
    distance = feature_change(small, tmp_path, unit_channel=False)
    assert result["feature_distance"] == pytest.approx(distance, rel=1e-3)
    assert {path.name for path in tmp_path.iterdir()} == {
        "adversarial.npy",
        "adversarial.png",
        "result.json",
        "run.json",
    }


def test_faithful_is_the_papers_setting(command: Command, small: Classifier, tmp_path: Path) -> None:
    # The released code fails for the first class and for the last; the camera is of class 1.
    words = ("--method", "perceptual-ball", *BY_NAME, "--faithful")
    (record,) = records(command, "perturb", "camera", *words, "--out", tmp_path)
    settings = record["settings"]
    assert (settings["lower_gamma"], settings["box"], settings["faithful"]) == (False, False, True)
    assert (settings["gamma"], settings["s"], settings["v"], settings["steps"]) == (1e4, 1, -2, 100)
    assert settings["line_search"] == "none"
    assert record["result"]["perturbation"] == "perceptual ball (released)"


def test_the_constrained_ball_keeps_its_true_distance(command: Command, small: Classifier, tmp_path: Path) -> None:
    (record,) = records(command, "perturb", "chelsea", *CONSTRAINED, "--all-steps", "--out", tmp_path)
    assert record["settings"]["radius"] == [2]
    assert record["settings"]["solver"] == {"method": "auto", "eps_rel": 0.03, "max_iter": 200}
    assert record["result"]["margin_after"] > record["result"]["margin_before"]
    distance = feature_change(small, tmp_path, unit_channel=True)
    assert 0 < distance <= 2 + 1e-5
    assert record["result"]["feature_distance"] == pytest.approx(distance, rel=1e-3)


def test_the_linearised_set_is_kept_and_named_by_its_layers(
    command: Command, small: Classifier, tmp_path: Path
) -> None:
    words = (*LINEARISED, "--radius", "0.05", "--l2-radius", "0.8", "--all-steps")
    (record,) = records(command, "perturb", "chelsea", *words, "--out", tmp_path)
    ball, beside = record["settings"]["constraint"]["sets"]
    assert ball["jacobian"] == {"kind": "FeatureJacobian", "layers": ["1", "3"], "normalization": "unit-channel"}
    assert (ball["radius"], beside["p"], beside["radius"]) == (0.05, 2, 0.8)
    assert 0.02 < linear_change(small, tmp_path) <= 0.05 * (1 + 1e-4)
    assert float((perturbed(tmp_path) - clean()).norm()) <= 0.8 * (1 + 1e-6)


def test_minimal_finds_the_least_radius_of_the_linearised_set(
    command: Command, small: Classifier, tmp_path: Path
) -> None:
    words = ("minimal", "chelsea", "--constraint", "feature-ball", *BY_NAME, "--radius", "0.05", "--candidates", "1")
    quick = ("--steps", "1", "--rounds", "2", "--eps-rel", "0.1", "--max-iter", "30")
    (record,) = records(command, *words, *quick, "--curve", "2", "--out", tmp_path)
    result = record["result"]
    assert (result["success"], result["level_unit"]) == (True, "radius")
    assert result["level"] == pytest.approx(linear_change(small, tmp_path), rel=2e-3)
    curve = json.loads((tmp_path / "curve.json").read_text())
    assert curve["least_level"] == result["level"]
    margins = [row["margin"] for row in curve["curve"]]
    assert margins == sorted(margins)
    assert margins[-1] > 0


def test_minimal_finds_the_largest_weight_on_features(command: Command, small: Classifier, tmp_path: Path) -> None:
    words = ("minimal", "chelsea", "--method", "perceptual-ball", *BY_NAME, "--gamma", "50", "--steps", "10")
    (record,) = records(command, *words, "--rounds", "5", "--out", tmp_path)
    result = record["result"]
    assert (result["success"], result["level_unit"], result["rounds"]) == (True, "1 / gamma", 5)
    assert 0 < result["failed_level"] < result["level"]
    # At the weight that failed the method fails, and at the level it succeeds, without this search.
    for level, succeeds in ((result["failed_level"], False), (result["level"], True)):
        options = {"gamma": 1 / level, "lower_gamma": False, "iterations": 10}
        again = ssimpert.perceptual_ball_lbfgs(small, clean().float(), layers=["1", "3"], **options)
        assert bool(again.success) is succeeds
    assert torch.equal(again.adversarial.double(), perturbed(tmp_path))


def test_compare_writes_what_it_writes_for_an_ssim_ball(command: Command, small: Classifier, tmp_path: Path) -> None:
    common = ("--layer", "2", "--shifts", "0", "--csv")
    (other,) = records(command, "compare", "chelsea", *common, "--out", tmp_path / "ssim")
    of_ssim = read_table(tmp_path / "ssim" / "agreement.parquet")
    for name, words in (("penalised", (*PENALISED, "--gamma", "50")), ("linearised", LINEARISED)):
        (record,) = records(command, "compare", "chelsea", *words, *common, "--out", tmp_path / name)
        files = {path.name for path in (tmp_path / name).iterdir()}
        assert files == {path.name for path in (tmp_path / "ssim").iterdir()}
        assert files > {"agreement.csv", "figure.svg", "maps.png", "result.json"}
        assert record.keys() == other.keys()
        assert record["result"]["success"]
        assert record["l2_control"]["l2_norm"] == pytest.approx(record["result"]["l2_norm"], rel=1e-3)
        table = read_table(tmp_path / name / "agreement.parquet")
        assert set(table["model"]) == {"small"}
        assert set(table["layers"]) == {"1, 3"}
        assert set(table["constraint"]).isdisjoint(of_ssim["constraint"])
        assert list(table.columns) == list(of_ssim.columns)


def test_a_layer_that_is_not_there_is_named_before_any_image_is_perturbed(
    command: Command, small: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("perturb", "minimal_budget", "perceptual_ball_lbfgs", "perceptual_ball_constrained"):
        monkeypatch.setattr(f"ssimpert.perturbation.{name}", lambda *_, **__: pytest.fail("work started"))
    formulations = (("perceptual-ball",), ("perceptual-ball-constrained",))
    for words in (
        *(("perturb", "--method", *entry) for entry in formulations),
        ("minimal", "--constraint", "feature-ball"),
    ):
        code, _, err = command(words[0], "chelsea", *words[1:], "--layers", "1,nope", "--out", tmp_path)
        assert code == 2
        assert "'nope'" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--threshold", "0.9"), "--threshold does not belong to perceptual-ball, which takes --layers, --gamma"),
        (("--radius", "1"), "--radius does not belong to perceptual-ball, which takes --layers"),
        (("--engine", "frank_wolfe"), "--engine does not belong to perceptual-ball, which takes --steps, --target"),
        (("--held",), "--recentred/--held does not belong to perceptual-ball"),
        (("--all-steps",), "--until-success/--all-steps does not belong to perceptual-ball"),
        (("--support", "mask.png"), "--support does not belong to perceptual-ball"),
        (("--eps-rel", "0.1"), "--eps-rel does not belong to perceptual-ball, which takes no option of this kind"),
        (("--constraint", "l2"), "--constraint l2 contradicts --method perceptual-ball, which has no set"),
        (("--target", "3"), "--target 3 by perceptual-ball drives the logit of this class to a value"),
        (("--faithful", "--lower-gamma"), "--lower-gamma is no part of the published method"),
        (("--faithful", "--margin-term", "hinge"), "--margin-term hinge is no part of the published method"),
        (("--gamma", "-1"), "--gamma must be at least 0, got -1"),
    ],
)
def test_what_the_penalised_ball_does_not_take_is_refused_before_a_model_is_loaded(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    assert_refused(command, monkeypatch, ("--method", "perceptual-ball", *words, "--out", tmp_path), message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--method", "perceptual-ball-constrained", "--faithful"),
            "--faithful does not belong to perceptual-ball",
        ),
        (("--method", "perceptual-ball-constrained", "--gamma", "1"), "--gamma does not belong to perceptual-ball-con"),
        (("--method", "perceptual-ball-constrained", "--layers", "none"), "--layers none leaves perceptual-ball-con"),
        (("--method", "perceptual-ball-constrained", "--constraint", "l2"), "which keeps to a ball of features"),
        (("--constraint", "feature-ball", "--step-norm", "1"), "--step-norm does not belong to feature-ball, which"),
        (("--constraint", "feature-ball", "--radius", "0"), "--radius must be positive, got 0"),
        (("--constraint", "feature-ball", "--l2-radius", "wide"), "--l2-radius must be a number or 'none', got 'wide'"),
        (("--constraint", "feature-ball", "--l2-radius", "nan"), "--l2-radius must be a number or 'none', got 'nan'"),
        (("--constraint", "feature-ball", "--l2-radius", "-1/2"), "--l2-radius must be positive, got -0.5"),
        (
            ("--method", "perceptual-ball-constrained", "--shrink", "--all-steps"),
            "--shrink asks for the smallest perturbation, --all-steps for the largest margin",
        ),
        (("--constraint", "l2", "--layers", "1"), "--layers does not belong to l2, which takes --radius"),
        (("--constraint", "feature-ball", "--faithful"), "it is for --method perceptual-ball, too"),
    ],
)
def test_what_the_other_balls_do_not_take_is_refused_before_a_model_is_loaded(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    assert_refused(command, monkeypatch, (*words, "--out", tmp_path), message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "frank_wolfe"), "--engine does not belong to perceptual-ball, which takes --steps, --rounds"),
        (("--curve", "3"), "--curve 3 is for sets; take --constraint feature-ball, or drop --curve or --method"),
        (("--lower-gamma",), "minimal looks for gamma itself"),
        (("--gamma", "0"), "--gamma 0 leaves minimal no weight to begin with"),
        (("--support", "mask.png"), "--support does not belong to perceptual-ball"),
    ],
)
def test_what_minimal_does_not_take_with_the_penalised_ball_is_refused(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    words = ("--method", "perceptual-ball", *words)
    assert_refused(command, monkeypatch, (*words, "--out", tmp_path), message, name="minimal")


def assert_refused(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str | Path, ...],
    message: str,
    name: str = "perturb",
) -> None:
    monkeypatch.setattr("ssimpert.models.load_model", lambda *_, **__: pytest.fail("work started"))
    code, _, err = command(name, "chelsea", *words)
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if line.startswith("ssimpert: ")]
    assert message in line


def test_a_target_reaches_the_penalised_ball_with_the_logit_wanted(
    command: Command, small: Classifier, tmp_path: Path
) -> None:
    words = ("--gamma", "1", "--target", "2", "--wanted-margin", "1.5")
    (record,) = records(command, "perturb", "chelsea", *PENALISED, *words, "--out", tmp_path)
    assert (record["result"]["label_after"], record["result"]["success"]) == (2, True)
    logit = float(small(perturbed(tmp_path).float())[0, 2])
    assert abs(logit - 1.5) < abs(float(small(clean().float())[0, 2]) - 1.5)


def test_layers_are_given_with_commas_or_one_by_one() -> None:
    assert layers_from_option(["a.1, b", "c"]) == ("a.1", "b", "c")
    assert layers_from_option(None) is None
    assert layers_from_option(["none"]) == ()
    with pytest.raises(UsageError, match="has an empty name"):
        layers_from_option(["a,,b"])
    with pytest.raises(UsageError, match="names 'a' twice"):
        layers_from_option(["a", "a"])
