"""The formulations of the command line and their options, and from options to a constraint set."""

from __future__ import annotations

import math
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from ssimpert.cli.errors import UsageError
from ssimpert.cli.feature_balls import BallMethod, FeatureBallSet, MarginTermName, NormalizationName, feature_ball_set
from ssimpert.cli.numbers import number_from_text

if TYPE_CHECKING:
    from solvers.constraints import Constraint


class ConstraintName(StrEnum):
    """The constraint sets that the command line offers."""

    GLOBAL_SSIM = "global-ssim"
    WINDOW_SSIM = "window-ssim"
    PRODUCT_SSIM = "product-ssim"
    MEAN_SSIM = "mean-ssim"
    L2 = "l2"
    LINF = "linf"
    L1 = "l1"
    FEATURE_BALL = "feature-ball"


# A formulation is a set, or a method that has no set or its own.
Formulation = ConstraintName | BallMethod
# The options of each formulation, with their defaults.
OPTIONS: dict[Formulation, dict[str, Any]] = {
    ConstraintName.GLOBAL_SSIM: {"distance": 0.005},
    ConstraintName.WINDOW_SSIM: {
        "threshold": 0.95,
        "window_size": 8,
        "stride": 8,
        "sigma": "none",
        "border": "full",
        "luminance": "1e-3",
    },
    ConstraintName.PRODUCT_SSIM: {
        "threshold": 0.95,
        "window_size": 8,
        "stride": 8,
        "sigma": "none",
        "border": "full",
    },
    # The published index: Wang et al., TIP 2004.
    ConstraintName.MEAN_SSIM: {
        "threshold": 0.95,
        "window_size": 11,
        "stride": 1,
        "sigma": "1.5",
        "border": "valid",
        "luminance": "none",
    },
    ConstraintName.L2: {"radius": 0.5},
    ConstraintName.LINF: {"radius": Fraction(2, 255)},
    ConstraintName.L1: {"radius": 50.0},
    ConstraintName.FEATURE_BALL: {
        "radius": 0.3,
        "layers": None,
        "normalization": NormalizationName.UNIT_CHANNEL,
        # Alone in the pixel box a feature ball has flat directions without end.
        "l2_radius": "1",
    },
    # The weights of Elliott, Law, Russell, CVPR 2021.
    BallMethod.PENALISED: {
        "layers": None,
        "gamma": 1e4,
        "pixel_weight": 1.0,
        "wanted_margin": -2.0,
        "margin_term": MarginTermName.EQUALITY,
        "lower_gamma": None,
    },
    BallMethod.CONSTRAINED: {
        "radius": 0.3,
        "layers": None,
        "normalization": NormalizationName.UNIT_CHANNEL,
        "step_norm": 0.25,
    },
}
LP_ORDER = {ConstraintName.L2: 2.0, ConstraintName.LINF: math.inf, ConstraintName.L1: 1.0}


def option_help(option: str, text: str, default: str | None = None) -> str:
    """What ``--help`` says of an option: the formulations that take it, ``text``, and the default for each.

    ``default`` is for options whose default is no value of its own.
    """
    defaults = {name.value: _shown(options[option]) for name, options in OPTIONS.items() if option in options}
    distinct = set(defaults.values())
    if default is None:
        default = (
            distinct.pop() if len(distinct) == 1 else ", ".join(f"{entry} ({name})" for name, entry in defaults.items())
        )
    return f"{', '.join(defaults)}: {text}. Default {default}."


def values_of(formulation: Formulation, given: dict[str, Any]) -> dict[str, Any]:
    """The options of ``formulation``, each as given, or its default.

    ``given`` has every option of every formulation, ``None`` where the user did not give it.

    Raises:
        UsageError: an option of another formulation; the message names the option.
    """
    own = OPTIONS[formulation]
    for option, value in given.items():
        if value is not None and option not in own:
            flags = ", ".join(f"--{own_option.replace('_', '-')}" for own_option in own)
            raise UsageError(
                f"--{option.replace('_', '-')} does not belong to {formulation.value}, which takes {flags}"
            )
    return own | {option: entry for option, entry in given.items() if entry is not None}


def build_constraint(name: ConstraintName, given: dict[str, Any]) -> Constraint | FeatureBallSet:
    """The set called ``name``; ``given`` has every option of every set, ``None`` where the user did not give it.

    Raises:
        UsageError: an option of another set; the message names the option.
        ProblemError, InputError: a value out of range; the message names the option.
    """
    value = values_of(name, given)
    if name is ConstraintName.FEATURE_BALL:
        return feature_ball_set(value)
    import solvers  # here and not above, since it loads torch, which --help does not need

    if name is ConstraintName.GLOBAL_SSIM:
        return solvers.GlobalSSIM(value["distance"])
    if name in LP_ORDER:
        return solvers.LpBall(LP_ORDER[name], float(value["radius"]))
    window = solvers.Window(value["window_size"], value["stride"], value["border"], parse_sigma(value["sigma"]))
    if name is ConstraintName.WINDOW_SSIM:
        return solvers.WindowSSIM(value["threshold"], window, luminance=parse_luminance(value["luminance"]))
    if name is ConstraintName.PRODUCT_SSIM:
        return solvers.ProductSSIM(value["threshold"], window)
    return solvers.MeanSSIM(value["threshold"], window, luminance=parse_mean_luminance(value["luminance"]))


def parse_sigma(text: str) -> float | None:
    """The value of ``--sigma``: a number, or ``None`` for "none", which means uniform weights."""
    return None if text == "none" else number_from_text("--sigma", text, "a number or 'none'")


def parse_luminance(text: str) -> float | Literal["split", "preserve"]:
    """The value of ``--luminance`` for window-ssim: "split", "preserve" or a number."""
    if text == "split":
        return "split"
    if text == "preserve":
        return "preserve"
    return number_from_text("--luminance of window-ssim", text, "a number, 'split' or 'preserve'")


def parse_mean_luminance(text: str) -> float | Literal["preserve"] | None:
    """The value of ``--luminance`` for mean-ssim: ``None`` for "none", "preserve" or a number."""
    if text == "none":
        return None
    if text == "preserve":
        return "preserve"
    return number_from_text("--luminance of mean-ssim", text, "a number, 'preserve' or 'none'")


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
