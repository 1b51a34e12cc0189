"""The engines by the names that the command line knows; :mod:`ssimpert.perturbation.engines.catalog` loads torch."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, cast

from ssimpert.cli.constraints import ConstraintName
from ssimpert.cli.errors import UsageError

if TYPE_CHECKING:
    from solvers.constraints import Constraint
    from ssimpert.perturbation.engines.catalog import Engine


class EngineName(StrEnum):
    """All engines."""

    PROJECTED_GRADIENT = "projected_gradient"
    SEQUENTIAL_CONVEX = "sequential_convex"
    FRANK_WOLFE = "frank_wolfe"
    RECENTRED = "recentred"


class HeldEngineName(StrEnum):
    """Those that keep to the set around the original image."""

    PROJECTED_GRADIENT = "projected_gradient"
    SEQUENTIAL_CONVEX = "sequential_convex"
    FRANK_WOLFE = "frank_wolfe"


def choose_engine(name: ConstraintName, engine: EngineName | None, recentred: bool | None) -> EngineName:
    """The engine that ``--engine`` and ``--recentred/--held`` ask for; without them the constraint's own.

    Raises:
        UsageError: they contradict one another.
    """
    if engine is None:
        if recentred is None:
            recentred = name is ConstraintName.GLOBAL_SSIM
        return EngineName.RECENTRED if recentred else EngineName.PROJECTED_GRADIENT
    if recentred is not None and recentred != (engine is EngineName.RECENTRED):
        flag = "--recentred" if recentred else "--held"
        raise UsageError(f"{flag} contradicts --engine {engine.value}; drop one of them")
    return engine


def check_engine_fits(constraint: Constraint, engine: EngineName | HeldEngineName, method: str) -> Engine:
    """The engine's name, for a set that it can keep to.

    Raises:
        UsageError: a mean SSIM that nothing projects onto.
    """
    import solvers
    from ssimpert.perturbation.engines.step_solver import certified

    projects = engine.value == EngineName.PROJECTED_GRADIENT.value
    if projects and isinstance(constraint, solvers.MeanSSIM) and certified(constraint, method) != "convex step":
        raise UsageError(
            f"--engine projected_gradient can't project onto mean-ssim with --luminance "
            f"{'none' if constraint.luminance is None else constraint.luminance} by --method {method}; take --engine "
            "sequential_convex or frank_wolfe, or --luminance none with --method auto"
        )
    return cast("Engine", engine.value)
