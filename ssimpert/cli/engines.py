"""The names of the engines for the command line. :mod:`ssimpert.perturbation.engines.catalog` would load torch."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, cast

from ssimpert.cli.errors import UsageError
from ssimpert.formulations.names import ConstraintName
from ssimpert.formulations.options import is_recentred

if TYPE_CHECKING:
    from solvers.constraints import Constraint
    from ssimpert.cli.feature_balls import FeatureBallSet
    from ssimpert.perturbation.engines.catalog import Engine


class EngineName(StrEnum):
    """All engines."""

    PROJECTED_GRADIENT = "projected_gradient"
    SEQUENTIAL_CONVEX = "sequential_convex"
    FRANK_WOLFE = "frank_wolfe"
    RECENTRED = "recentred"


class EngineAroundOriginal(StrEnum):
    """The engines that keep to the set around the original image."""

    PROJECTED_GRADIENT = "projected_gradient"
    SEQUENTIAL_CONVEX = "sequential_convex"
    FRANK_WOLFE = "frank_wolfe"


def choose_engine(name: ConstraintName, engine: EngineName | None, recentred: bool | None) -> EngineName:
    """The engine that ``--engine`` and ``--recentred/--held`` ask for; without them the constraint's default engine.

    Raises:
        UsageError: the two options contradict one another.
    """
    if engine is None:
        if recentred is None:
            recentred = is_recentred(name)
        return EngineName.RECENTRED if recentred else EngineName.PROJECTED_GRADIENT
    if recentred is not None and recentred != (engine is EngineName.RECENTRED):
        flag = "--recentred" if recentred else "--held"
        raise UsageError(f"{flag} contradicts --engine {engine.value}; drop one of them")
    return engine


def check_engine_fits(
    constraint: Constraint | FeatureBallSet, engine: EngineName | EngineAroundOriginal, method: str
) -> Engine:
    """The name of ``engine`` as :func:`ssimpert.perturb` takes it, if the engine can keep to ``constraint``.

    Raises:
        UsageError: the engine projects, and nothing projects onto this mean SSIM.
    """
    import solvers
    from ssimpert.perturbation.engines.step_solver import certified

    is_projecting = engine.value == EngineName.PROJECTED_GRADIENT.value
    if is_projecting and isinstance(constraint, solvers.MeanSSIM) and certified(constraint, method) != "convex step":
        raise UsageError(
            f"--engine projected_gradient can't project onto mean-ssim with --luminance "
            f"{'none' if constraint.luminance is None else constraint.luminance} by --method {method}; take --engine "
            "sequential_convex or frank_wolfe, or --luminance none with --method auto"
        )
    return cast("Engine", engine.value)
