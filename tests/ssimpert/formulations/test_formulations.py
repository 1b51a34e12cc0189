"""The command line and studies build the same formulations from the same options."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from fractions import Fraction
from typing import Any

import pytest
import torch

import solvers
from ssimpert.cli.constraint_options import ConstraintOptions
from ssimpert.cli.constraints import build_constraint as build_from_typed
from ssimpert.cli.engine_options import SolverOptions
from ssimpert.cli.feature_balls import constrained_ball, penalised_ball
from ssimpert.errors import InputError
from ssimpert.formulations.constraint_sets import build_constraint
from ssimpert.formulations.feature_balls import ConstrainedBall, FeatureBallSet, PenalisedBall
from ssimpert.formulations.names import BallMethod, ConstraintName
from ssimpert.formulations.options import LEVEL_OPTION, OPTIONS, OptionFault, default_steps, solver_defaults
from ssimpert.study import FormulationSection

# What is typed for each set, and the same in a study.
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "global-ssim": ({"distance": 0.25}, {"distance": 0.25}),
    "window-ssim": (
        {"threshold": 0.5, "window_size": 7, "stride": 3, "sigma": "1.5", "border": "valid", "luminance": "split"},
        {"threshold": 0.5, "window": {"size": 7, "stride": 3, "sigma": 1.5, "border": "valid"}, "luminance": "split"},
    ),
    "product-ssim": ({"sigma": "none"}, {"window": {"sigma": "none"}}),
    "mean-ssim": (
        {"luminance": "preserve", "sigma": "none"},
        {"luminance": "preserve", "window": {"sigma": "none"}, "engine": "frank_wolfe"},
    ),
    "l2": ({"radius": 2.0}, {"radius": 2}),
    "linf": ({"radius": 3 / 255}, {"radius": "3/255"}),
    "l1": ({}, {}),
    "feature-ball": (
        {"layers": ["a,b"], "normalization": "mse", "l2_radius": "none"},
        {"layers": ["a", "b"], "normalization": "mse", "l2_radius": "none"},
    ),
}


def typed(values: dict[str, Any]) -> dict[str, Any]:
    options = {entry.name: None for entry in fields(ConstraintOptions) if entry.name != "constraint"}
    return options | values


@pytest.mark.parametrize("name", [name.value for name in ConstraintName])
def test_typed_options_and_those_of_a_study_make_the_same_set(name: str) -> None:
    on_command_line, in_study = PAIRS[name]
    for given, section in (({}, {}), (on_command_line, in_study)):
        engine = {"engine": "sequential_convex"} if name == "mean-ssim" else {}
        formulation = FormulationSection(name="x", constraint=name, **(engine | section))
        built = build_from_typed(ConstraintName(name), typed(given))
        same = formulation.constraint_at(formulation.levels[0])
        assert (type(built), vars(built)) == (type(same), vars(same))  # sets that may hold tensors have no equality


def test_perceptual_balls_are_the_same_too() -> None:
    given = dict(OPTIONS[BallMethod.PENALISED]) | {"layers": ["a,b"], "gamma": 2.0, "wanted_margin": 3.0}
    section = FormulationSection(
        name="x", constraint="perceptual-ball", layers=("a", "b"), gamma=2, wanted_margin=3, target="7", faithful=True
    )
    built = penalised_ball(given, wanted_given=True, faithful=True, target="7")
    assert built == section.constraint_at(2.0)
    assert isinstance(built, PenalisedBall)
    assert built.target == 7
    given = dict(OPTIONS[BallMethod.CONSTRAINED])
    settings = SolverOptions().settings(BallMethod.CONSTRAINED)
    constrained = constrained_ball(given, settings, stop_at_success=True, shrink=True, target="cup")
    of_study = FormulationSection(name="x", constraint="perceptual-ball-constrained", target="cup").constraint_at(0.3)
    assert isinstance(of_study, ConstrainedBall)
    assert constrained == of_study


def test_solver_and_steps_have_one_default_each() -> None:
    for formulation in OPTIONS:
        eps_rel, max_iter = solver_defaults(formulation)
        settings = SolverOptions().settings(formulation)
        assert (settings.eps_rel, settings.max_iter) == (eps_rel, max_iter)
    assert default_steps(BallMethod.PENALISED) == default_steps(BallMethod.PENALISED, searches=True) == 100
    assert (default_steps(ConstraintName.L2), default_steps(ConstraintName.L2, searches=True)) == (20, 10)


def test_every_formulation_has_one_level() -> None:
    assert {formulation.value: LEVEL_OPTION[formulation] for formulation in OPTIONS} == {
        "global-ssim": "distance",
        "window-ssim": "threshold",
        "product-ssim": "threshold",
        "mean-ssim": "threshold",
        "l2": "radius",
        "linf": "radius",
        "l1": "radius",
        "feature-ball": "radius",
        "perceptual-ball": "gamma",
        "perceptual-ball-constrained": "radius",
    }


def test_a_fault_names_the_option_as_the_reader_knows_it() -> None:
    values = dict(OPTIONS[ConstraintName.FEATURE_BALL]) | {"l2_radius": -1.0}
    with pytest.raises(OptionFault, match=r"^l2_radius must be positive, got -1$") as caught:
        build_constraint(ConstraintName.FEATURE_BALL, values)
    assert caught.value.option == "l2_radius"
    with pytest.raises(InputError, match=r"^--l2-radius must be positive, got -1$"):
        build_from_typed(ConstraintName.FEATURE_BALL, typed({"l2_radius": "-1"}))


def test_sets_are_what_solvers_makes() -> None:
    ball = build_constraint(ConstraintName.LINF, {"radius": Fraction(2, 255)})
    assert vars(ball) == vars(solvers.LpBall(torch.inf, 2 / 255))
    values = dict(OPTIONS[ConstraintName.WINDOW_SSIM])
    expected = solvers.WindowSSIM(0.95, solvers.Window(8, 8, "full", None), luminance=1e-3)
    assert build_constraint(ConstraintName.WINDOW_SSIM, values) == expected
    features = build_constraint(ConstraintName.FEATURE_BALL, dict(OPTIONS[ConstraintName.FEATURE_BALL]))
    assert features == FeatureBallSet(0.3, None, "unit-channel", 1.0)


def test_options_load_no_torch() -> None:
    code = (
        "import sys, ssimpert.formulations.constraint_sets, ssimpert.formulations.feature_balls\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
