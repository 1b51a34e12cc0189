"""The engines by name, and which sets they can be used with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.perturbation.engines.frank_wolfe import frank_wolfe
from ssimpert.perturbation.engines.loop import Move
from ssimpert.perturbation.engines.projected_gradient import projected_gradient
from ssimpert.perturbation.engines.sequential_convex import sequential_convex
from ssimpert.perturbation.engines.step_solver import StepSolver, certified
from ssimpert.perturbation.goal import Goal

Engine = Literal["sequential_convex", "frank_wolfe", "projected_gradient", "recentred"]
# The engines whose every iterate lies in the set around the original images (B, C, H, W).
ENGINES_AROUND_ORIGINAL: dict[str, Callable[[Goal, StepSolver, Tensor], Move]] = {
    "sequential_convex": sequential_convex,
    "frank_wolfe": frank_wolfe,
    "projected_gradient": projected_gradient,
}


def check_projectable(constraint: Constraint, engine: str, method: str) -> None:
    """Raise :class:`InputError` where ``engine`` projects and nothing projects onto ``constraint`` by ``method``."""
    unprojectable = isinstance(constraint, solvers.MeanSSIM) and certified(constraint, method) != "convex step"
    if unprojectable and engine == "projected_gradient":
        raise InputError(
            f"nothing projects onto {constraint!r} by method {method!r}; take engine='sequential_convex' or "
            "'frank_wolfe', or luminance=None and method='auto'"
        )


def check_engine(engine: str) -> None:
    """Raise :class:`InputError` unless ``engine`` is one of :data:`Engine`."""
    if engine not in get_args(Engine):
        raise InputError(f"engine must be one of {', '.join(get_args(Engine))}, got {engine!r}")
