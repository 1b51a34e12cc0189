"""What ``perturb`` and ``compare`` are to do; checked before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssimpert.cli.constraints import ConstraintName
from ssimpert.cli.engines import EngineName, check_engine_fits, choose_engine
from ssimpert.cli.errors import UsageError
from ssimpert.cli.options import ConstraintOptions, EngineOptions, SolverOptions
from ssimpert.cli.region import Region, region_of

if TYPE_CHECKING:
    import solvers
    from solvers.constraints import Constraint
    from ssimpert.linearization import Margin
    from ssimpert.perturbation.engines.catalog import Engine


@dataclass(frozen=True)
class Goal:
    """The arguments of :func:`ssimpert.perturb`, but for model and images.

    Attributes:
        constraint, engine, faithful, steps, quantize, method, settings: as there.
        stop_at_success: as there.
        target: the class to aim at; None for any other than the image's own.
        region: where pixels may change; None for everywhere.
    """

    constraint: Constraint
    engine: Engine
    faithful: bool
    steps: int
    stop_at_success: bool
    target: int | None
    quantize: bool
    region: Region | None
    method: str
    settings: solvers.Settings


def goal_of(images: list[str], limit: ConstraintOptions, climb: EngineOptions, solver: SolverOptions) -> Goal:
    """The goal that the options describe.

    Raises:
        ProblemError: a constraint or setting out of range.
        UsageError: options that contradict one another.
        InputError: a mask that can't be used.
    """
    constraint, settings = limit.build(), solver.settings()
    engine = choose_engine(limit.constraint, climb.engine, climb.recentred)
    if climb.faithful:
        _check_faithful(limit.constraint, engine, with_support=bool(climb.support))
    if climb.quantize and climb.support:
        raise UsageError("--quantize may move pixels outside --support; drop one of them")
    return Goal(
        constraint,
        check_engine_fits(constraint, engine, solver.method),
        faithful=climb.faithful,
        steps=climb.steps,
        stop_at_success=climb.until_success,
        target=climb.target,
        quantize=climb.quantize,
        region=region_of(images, climb.support, outside=climb.outside),
        method=solver.method,
        settings=settings,
    )


def margin_of(target: int | None) -> Margin:
    """The goal of ``--target``."""
    from ssimpert.linearization import Targeted, Untargeted

    return Untargeted() if target is None else Targeted(target)


def _check_faithful(name: ConstraintName, engine: EngineName, *, with_support: bool) -> None:
    if name is not ConstraintName.GLOBAL_SSIM:
        raise UsageError(f"--faithful is for --constraint global-ssim, got --constraint {name.value}")
    if engine is not EngineName.RECENTRED:
        raise UsageError("--faithful is for --engine recentred; drop it, or --engine or --held")
    if with_support:
        raise UsageError("--faithful perturbs the whole image; drop it, or --support")
