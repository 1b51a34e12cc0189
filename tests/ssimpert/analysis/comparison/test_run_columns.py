"""The columns that say which run a row is of: of every formulation, and of what tells two sets of one kind apart."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import solvers
from ssimpert.analysis import RUN_COLUMNS, compare, write_table
from ssimpert.analysis.comparison.run_columns import run_columns
from ssimpert.linearization import FeatureJacobian
from tests.ssimpert.analysis.example import WithMean, example_images, example_result

TILES = solvers.Window.uniform(8, stride=8)
GAUSSIAN = solvers.Window.gaussian(1.5, 11, border="valid")


def columns(constraint: Any = None, settings: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """The columns of one image's run."""
    result: Any = SimpleNamespace(constraint=constraint, settings=settings or {}, label=torch.zeros(1), **fields)
    found = run_columns(nn.Identity(), result, seed=7)
    assert tuple(found) == RUN_COLUMNS
    return {name: value for name, (value,) in found.items()}


@pytest.mark.parametrize(
    ("constraint", "name", "level", "unit"),
    [
        (solvers.GlobalSSIM(0.25), "GlobalSSIM", 0.25, "distance d2"),
        (solvers.LpBall(2, 0.5), "l2", 0.5, "radius"),
        (solvers.LpBall(math.inf, 0.125), "linf", 0.125, "radius"),
        (solvers.WindowSSIM(0.75, TILES, luminance=1e-3), "WindowSSIM", 0.25, "1 - SSIM of the least window"),
        (solvers.ProductSSIM(0.75, TILES), "ProductSSIM", 0.25, "1 - SSIM of the least window"),
        (solvers.MeanSSIM(0.75, GAUSSIAN), "MeanSSIM", 0.25, "1 - mean SSIM"),
    ],
)
def test_every_set_has_its_name_and_its_level(constraint: Any, name: str, level: float, unit: str) -> None:
    found = columns(constraint, {"engine": "projected_gradient"})
    assert (found["constraint"], found["level"], found["level_unit"]) == (name, level, unit)
    assert (found["model"], found["engine"], found["seed"]) == ("Identity", "projected_gradient", 7)


def test_threshold_window_border_and_luminance_tell_two_sets_of_windows_apart() -> None:
    tiles, gaussian = (
        columns(solvers.WindowSSIM(0.75, TILES, luminance=1e-3)),
        columns(solvers.WindowSSIM(0.5, GAUSSIAN, luminance="split")),
    )
    names = ("threshold", "window", "border", "luminance")
    assert [tiles[name] for name in names] == [0.75, "8x8, stride 8", "full", "0.001"]
    assert [gaussian[name] for name in names] == [0.5, "11x11, stride 1, sigma 1.5", "valid", "split"]
    ball = columns(solvers.LpBall(2, 1.0))
    assert math.isnan(ball["threshold"])
    assert [ball[name] for name in names[1:]] == ["", "", ""]


def test_a_recentred_level_is_of_each_step_and_released_engines_say_so() -> None:
    settings = {"engine": "recentred", "recentred": True, "faithful": True}
    found = columns(solvers.GlobalSSIM(0.005), settings)
    assert (found["level_unit"], found["engine"]) == ("distance d2 of each step", "recentred (released)")


def test_least_levels_are_each_images_own() -> None:
    level = torch.tensor([0.25], dtype=torch.float64)
    settings = {"level": "1 - SSIM of the least window", "engine": "frank_wolfe"}
    found = columns(solvers.WindowSSIM(0.95, TILES, luminance="split"), settings, level=level)
    assert (found["level"], found["threshold"]) == (0.25, 0.75)


def test_perceptual_balls_have_their_weight_or_radius_and_their_layers() -> None:
    penalised = {"method": "perceptual_ball_lbfgs", "gamma": 1e4, "layers": ["a.1", "b"], "faithful": False}
    found = columns(None, penalised, gamma=torch.tensor([12.5]))
    assert (found["constraint"], found["level"], found["level_unit"]) == ("perceptual ball", 12.5, "gamma")
    assert (found["layers"], found["engine"]) == ("a.1, b", "perceptual_ball_lbfgs")
    # A quantised result has the settings alone.
    assert columns(None, penalised)["level"] == 1e4
    assert columns(None, penalised | {"faithful": True})["engine"] == "perceptual_ball_lbfgs (released)"
    bounded = {"method": "perceptual_ball_constrained", "radius": [0.5], "layers": ["b"], "normalization": "mse"}
    found = columns(None, bounded)
    assert (found["constraint"], found["level"], found["level_unit"]) == ("feature distance", 0.5, "radius (mse)")
    assert (found["layers"], found["engine"]) == ("b", "perceptual_ball_constrained")


def test_a_linearised_ball_has_its_layers_also_within_an_l2_ball() -> None:
    jacobian = FeatureJacobian(lambda image: image, lambda image: image, layers=("a.1", "b"))
    ball = solvers.FeatureBall([0.5, 0.25], jacobian)
    result: Any = SimpleNamespace(
        constraint=solvers.Intersection([ball, solvers.LpBall(2, 1.0)]), settings={}, label=torch.zeros(2)
    )
    found = run_columns(nn.Identity(), result, 0)
    assert found["constraint"] == ["FeatureBall and l2"] * 2
    assert (found["level"], found["layers"]) == ([0.5, 0.25], ["a.1, b"] * 2)


def test_a_comparison_writes_the_columns_as_table_json_and_csv(tmp_path: Any) -> None:
    model, image = WithMean(), example_images(2)
    ours = example_result(model, image, name="ours")
    ours.constraint, ours.settings = solvers.LpBall(2, 0.5), {"engine": "frank_wolfe", "steps": 1}
    view = compare(model, image, ours, control=None, shifts=0, seed=3)
    table = view.table(["cat", "dog"])
    assert set(RUN_COLUMNS) < set(table.columns)
    # The rows of controls belong to the run, too.
    assert set(table["constraint"]) == {"l2"}
    assert {"local std", "ours"} < set(table["method"])
    assert (set(table["level"]), set(table["seed"])) == ({0.5}, {3})
    assert table["level"].dtype == table["threshold"].dtype == float
    assert view.to_json()["run"]["level"] == [0.5, 0.5]
    assert view.to_json()["run"]["threshold"] == [None, None]
    write_table(table, tmp_path / "agreement.csv")
    again = pd.read_csv(tmp_path / "agreement.csv", keep_default_na=False, na_values={"value": "", "p_value": ""})
    assert list(again.columns) == list(table.columns)
    assert again["value"].tolist() == pytest.approx(table["value"].tolist(), rel=0, abs=0)
    assert [path.name for path in tmp_path.iterdir()] == ["agreement.csv"]
    own = view.table(columns={"level": [0.9, 0.8]})
    assert set(own["level"]) == {0.9, 0.8}
    assert set(own["level_unit"]) == {""}
