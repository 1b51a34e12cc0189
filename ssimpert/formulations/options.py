"""The options of every formulation with their defaults, and the defaults of engines and solvers."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from ssimpert.errors import InputError
from ssimpert.formulations.names import BallMethod, ConstraintName, Formulation, MarginTermName, NormalizationName

NameOption = Callable[[str], str]
"""How a message calls an option: ``l2_radius`` in a study, ``--l2-radius`` on the command line."""


class OptionFault(InputError):
    """The value of an option of a formulation can't be used.

    Attributes:
        option: the option at fault.
        write: the message, from a function that names options.
    """

    def __init__(self, option: str, write: Callable[[NameOption], str]) -> None:
        self.option, self.write = option, write
        super().__init__(write(str))


OPTIONS: dict[Formulation, dict[str, Any]] = {
    ConstraintName.GLOBAL_SSIM: {"distance": 0.005},
    ConstraintName.WINDOW_SSIM: {
        "threshold": 0.95,
        "window_size": 8,
        "stride": 8,
        "sigma": None,
        "border": "full",
        "luminance": 1e-3,
    },
    ConstraintName.PRODUCT_SSIM: {
        "threshold": 0.95,
        "window_size": 8,
        "stride": 8,
        "sigma": None,
        "border": "full",
    },
    # The published index: Wang et al., TIP 2004.
    ConstraintName.MEAN_SSIM: {
        "threshold": 0.95,
        "window_size": 11,
        "stride": 1,
        "sigma": 1.5,
        "border": "valid",
        "luminance": None,
    },
    ConstraintName.L2: {"radius": 0.5},
    ConstraintName.LINF: {"radius": Fraction(2, 255)},
    ConstraintName.L1: {"radius": 50.0},
    ConstraintName.FEATURE_BALL: {
        "radius": 0.3,
        "layers": None,
        "normalization": NormalizationName.UNIT_CHANNEL,
        # Alone in the pixel box a feature ball has flat directions without end.
        "l2_radius": 1.0,
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
"""The options of each formulation, with their defaults. ``None`` stands for "none", or for the model's own choice."""

LEVEL_OPTION: dict[Formulation, str] = {
    formulation: next(name for name in ("distance", "threshold", "gamma", "radius") if name in options)
    for formulation, options in OPTIONS.items()
}
"""The option that says how large the set of a formulation is."""

LP_ORDER = {ConstraintName.L2: 2.0, ConstraintName.LINF: math.inf, ConstraintName.L1: 1.0}

DEFAULT_STEPS = 20
"""The most steps of an engine, and of the constrained perceptual ball."""
PENALISED_STEPS = 100
"""The most iterations of the penalised perceptual ball, for each weight that is tried."""

SEARCH_STEPS = 10
"""The most steps at each level of a search for the least level."""
# Each step towards a ball of features is a problem with derivatives of the network.
FEATURE_SEARCH_STEPS: dict[Formulation, int] = {
    ConstraintName.FEATURE_BALL: 5,
    BallMethod.CONSTRAINED: 5,
    BallMethod.PENALISED: PENALISED_STEPS,
}
# The relative width at which a bracket of levels is closed.
SEARCH_TOLERANCE, FEATURE_SEARCH_TOLERANCE = 0.005, 0.05

# The tolerance and the number of iterations of each convex step: of most sets, and of balls of features, whose products
# cost a pass of the network each.
EPS_REL, MAX_ITER = 1e-3, 2000
FEATURE_EPS_REL, FEATURE_MAX_ITER = 0.03, 200
# A search tries many balls that are too small. Close to the least radius more iterations make the steps no better: on
# chelsea at 0.6 of the least radius, five steps of 25, 50 and 200 iterations end at margins of -0.114, -0.114 and
# -0.126, in 34, 47 and 162 seconds of a processor.
FEATURE_SEARCH_MAX_ITER = 25
FEATURE_FORMULATIONS = (ConstraintName.FEATURE_BALL, BallMethod.CONSTRAINED)


def formulation_named(name: str) -> Formulation:
    """The formulation of this name, which must exist."""
    return BallMethod(name) if name in set(BallMethod) else ConstraintName(name)


def solver_defaults(formulation: Formulation, *, searches: bool = False) -> tuple[float, int]:
    """The relative tolerance and the largest number of iterations of each convex step; ``searches``: in a search for
    the least level."""
    if formulation not in FEATURE_FORMULATIONS:
        return EPS_REL, MAX_ITER
    return FEATURE_EPS_REL, FEATURE_SEARCH_MAX_ITER if searches else FEATURE_MAX_ITER


def search_tolerance(formulation: Formulation) -> float:
    """The relative width at which a bracket of levels is closed."""
    return FEATURE_SEARCH_TOLERANCE if formulation in FEATURE_SEARCH_STEPS else SEARCH_TOLERANCE


def is_recentred(name: ConstraintName) -> bool:
    """Whether the default engine of this set is the re-centred one: for GlobalSSIM, as published."""
    return name is ConstraintName.GLOBAL_SSIM


def default_steps(formulation: Formulation, *, searches: bool = False) -> int:
    """The most steps of a formulation; ``searches``: at each level of a search for the least level."""
    if formulation is BallMethod.PENALISED:
        return PENALISED_STEPS
    return FEATURE_SEARCH_STEPS.get(formulation, SEARCH_STEPS) if searches else DEFAULT_STEPS
