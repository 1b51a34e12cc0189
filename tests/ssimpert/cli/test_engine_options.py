"""``perturb`` with every engine and every set, and what contradicts what."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from skimage.metrics import structural_similarity

import ssimpert
from solvers import MeanSSIM, WindowSSIM
from ssimpert.cli.constraint_options import ConstraintOptions
from ssimpert.cli.constraints import OPTIONS, ConstraintName, build_constraint
from ssimpert.cli.engine_options import EngineOptions, SearchOptions, SolverOptions
from ssimpert.cli.engines import EngineAroundOriginal, EngineName
from ssimpert.cli.options import ModelOptions
from ssimpert.models import Classifier
from ssimpert.perturbation.engines.catalog import ENGINES_AROUND_ORIGINAL, Engine
from tests.ssimpert.cli.small_model import SIDE, Command, records

QUICK = ("--eps-rel", "3e-2", "--steps", "1")


def test_the_command_line_knows_every_engine() -> None:
    assert {engine.value for engine in EngineName} == set(get_args(Engine))
    assert {engine.value for engine in EngineAroundOriginal} == set(ENGINES_AROUND_ORIGINAL)


@pytest.mark.parametrize("constraint", [name.value for name in ConstraintName])
@pytest.mark.parametrize("engine", [name.value for name in EngineName])
def test_every_engine_runs_with_every_set(
    command: Command, small: Classifier, tmp_path: Path, engine: str, constraint: str
) -> None:
    words = ("perturb", "chelsea", "--engine", engine, "--constraint", constraint, *QUICK, "--out", tmp_path)
    (record,) = records(command, *words)
    assert record["settings"]["engine"] == engine
    array = np.load(tmp_path / "adversarial.npy")
    clean = ssimpert.load_image("chelsea", size=SIDE).numpy()
    assert not np.array_equal(array, clean)
    if engine == "recentred":
        assert record["result"]["violation"] is None
    else:
        assert record["result"]["violation"] < 1e-5


def test_mean_ssim_is_the_published_index(command: Command, small: Classifier, tmp_path: Path) -> None:
    words = ("perturb", "chelsea", "--constraint", "mean-ssim", "--threshold", "0.9", "--all-steps", "--steps", "3")
    records(command, *words, "--out", tmp_path)
    clean = ssimpert.load_image("chelsea", size=SIDE)[0].permute(1, 2, 0).numpy().astype(np.float64)
    array = np.load(tmp_path / "adversarial.npy")[0].transpose(1, 2, 0).astype(np.float64)
    kind = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    mean = structural_similarity(clean, array, channel_axis=-1, **kind)
    # With all steps on the largest margin the budget is spent.
    assert 0.9 - 1e-6 <= mean <= 0.91


def test_sets_are_built_of_their_own_defaults() -> None:
    mean = build_constraint(ConstraintName.MEAN_SSIM, {})
    assert isinstance(mean, MeanSSIM)
    assert (mean.threshold, mean.luminance) == (0.95, None)
    assert (mean.window.size, mean.window.stride, mean.window.border, mean.window.sigma) == (11, 1, "valid", 1.5)
    window = build_constraint(ConstraintName.WINDOW_SSIM, {"threshold": 0.9, "sigma": "2"})
    assert isinstance(window, WindowSSIM)
    assert (window.threshold, window.luminance) == (0.9, 1e-3)
    assert (window.window.size, window.window.stride, window.window.border, window.window.sigma) == (8, 8, "full", 2.0)
    uniform = build_constraint(ConstraintName.MEAN_SSIM, {"sigma": "none", "window_size": 7, "luminance": "0.01"})
    assert isinstance(uniform, MeanSSIM)
    assert (uniform.window.size, uniform.window.sigma, uniform.luminance) == (7, None, 0.01)


def test_all_steps_are_spent_or_the_first_success_ends_it(command: Command, small: Classifier, tmp_path: Path) -> None:
    words = ("perturb", "chelsea", "--constraint", "l2", "--radius", "3", "--steps", "4")
    (until,), (spent,) = (
        records(command, *words, flag, "--out", tmp_path / flag) for flag in ("--until-success", "--all-steps")
    )
    default = records(command, *words)[0]
    assert until == default | {name: until[name] for name in ("seconds", "history", "run")}
    assert until["result"]["success"]
    assert until["result"]["steps"] < spent["result"]["steps"]
    assert spent["result"]["margin_after"] > until["result"]["margin_after"]


@pytest.mark.parametrize(
    ("words", "engine"),
    [
        ((), "recentred"),
        (("--held",), "projected_gradient"),
        (("--constraint", "l2"), "projected_gradient"),
        (("--constraint", "l2", "--recentred"), "recentred"),
        (("--recentred", "--engine", "recentred"), "recentred"),
        (("--held", "--engine", "frank_wolfe"), "frank_wolfe"),
    ],
)
def test_the_engine_is_the_sets_own_unless_asked_for(
    command: Command, small: Classifier, tmp_path: Path, words: tuple[str, ...], engine: str
) -> None:
    (record,) = records(command, "perturb", "chelsea", *words, *QUICK, "--out", tmp_path)
    assert record["settings"]["engine"] == engine


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "frank_wolfe", "--recentred"), "--recentred contradicts --engine frank_wolfe"),
        (("--engine", "recentred", "--held"), "--held contradicts --engine recentred"),
        (("--engine", "frank_wolfe", "--faithful"), "--faithful is for --engine recentred"),
        (("--constraint", "l2", "--faithful"), "--faithful is for --constraint global-ssim, got --constraint l2"),
        (("--outside",), "--outside goes with --support"),
        (("--constraint", "mean-ssim", "--luminance", "0.01"), "can't project onto mean-ssim with --luminance 0.01"),
        (("--constraint", "mean-ssim", "--method", "mean_windows"), "by --method mean_windows"),
        (("--constraint", "mean-ssim", "--luminance", "split"), "must be a number, 'preserve' or 'none', got 'split'"),
        (("--constraint", "window-ssim", "--luminance", "none"), "must be a number, 'split' or 'preserve', got 'none'"),
        (("--constraint", "window-ssim", "--sigma", "wide"), "--sigma must be a number or 'none', got 'wide'"),
        (("--constraint", "l2", "--sigma", "1.5"), "--sigma does not belong to l2, which takes --radius"),
    ],
)
def test_contradictions_are_named_before_a_model_is_loaded(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr("ssimpert.models.load_model", lambda *_, **__: pytest.fail("work started"))
    code, _, err = command("perturb", "chelsea", *words, "--out", tmp_path)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("ssimpert: ")]
    assert message in line


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("perturb", (ModelOptions, ConstraintOptions, EngineOptions, SolverOptions)),
        ("compare", (ModelOptions, ConstraintOptions, EngineOptions, SolverOptions)),
        ("minimal", (ModelOptions, ConstraintOptions, SearchOptions, SolverOptions)),
    ],
)
def test_help_lists_every_option_with_its_defaults(command: Command, name: str, groups: tuple[type, ...]) -> None:
    code, out, _ = command(name, "--help")
    assert code == 0
    said = " ".join(out.replace("│", " ").split())
    for group in groups:
        for option in group.__dataclass_fields__:  # type: ignore[attr-defined]
            assert f"--{option.replace('_', '-')} " in said
    for text in (
        "Default 8 (window-ssim), 8 (product-ssim), 11 (mean-ssim).",
        "Default 0.5 (l2), 2/255 (linf), 50 (l1), 0.3 (feature-ball), 0.3 (perceptual-ball-constrained).",
        "perceptual-ball: the weight of the features' change. Default 10000.",
        "Default 0.95.",
    ):
        assert text in said


def test_every_option_of_a_set_is_an_option_of_the_commands() -> None:
    known = set(ConstraintOptions.__dataclass_fields__) - {"constraint"}
    assert known == {option for own in OPTIONS.values() for option in own}


def test_help_loads_no_numerical_library() -> None:
    code = (
        "import sys; sys.argv = ['ssimpert', 'perturb', '--help']\n"
        "from ssimpert import cli\n"
        "try: cli.main()\n"
        "finally: print(sorted({'torch', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_successes_are_drawn_back_unless_this_is_declined(command: Command, small: Classifier, tmp_path: Path) -> None:
    words = ("perturb", "chelsea", "--constraint", "l2", "--radius", "3", "--steps", "4", "--out")
    (drawn_back,) = records(command, *words, tmp_path / "drawn back")
    (whole,) = records(command, *words, tmp_path / "whole", "--no-shrink")
    assert [record["settings"]["shrink"] for record in (drawn_back, whole)] == [True, False]
    assert drawn_back["result"]["success"]
    assert drawn_back["result"]["l2_norm"] < whole["result"]["l2_norm"]
    share = drawn_back["result"]["shrink_share"]
    assert drawn_back["result"]["l2_norm"] == pytest.approx(share * whole["result"]["l2_norm"], rel=1e-3)


@pytest.mark.parametrize("other", ["--all-steps", "--faithful"])
def test_options_that_contradict_shrink_are_wrong_usage(command: Command, tmp_path: Path, other: str) -> None:
    code, _, error = command("perturb", "chelsea", "--shrink", other, "--out", tmp_path)
    assert code == 2
    assert other in error
    assert "--shrink" in error
