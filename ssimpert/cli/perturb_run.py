"""What ``perturb`` and ``compare`` are to do, from their options; checked before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssimpert.cli.constraints import ConstraintName
from ssimpert.cli.engines import EngineName, check_engine_fits, choose_engine
from ssimpert.cli.errors import UsageError
from ssimpert.cli.options import ConstraintOptions, EngineOptions, SolverOptions
from ssimpert.cli.region import Region, region_from_options

if TYPE_CHECKING:
    import solvers
    from solvers.constraints import Constraint
    from ssimpert.linearization import Margin
    from ssimpert.perturbation.engines.catalog import Engine


@dataclass(frozen=True)
class PerturbRun:
    """The arguments of :func:`ssimpert.perturb`, without model and images.

    Attributes:
        constraint, engine, faithful, steps, quantize, method, settings: as in :func:`ssimpert.perturb`.
        stop_at_success, shrink: as in :func:`ssimpert.perturb`.
        target: the class to aim at; None for any class but the image's own.
        region: where pixels may change; None for everywhere.
    """

    constraint: Constraint
    engine: Engine
    faithful: bool
    steps: int
    stop_at_success: bool
    shrink: bool | None
    target: int | None
    quantize: bool
    region: Region | None
    method: str
    settings: solvers.Settings


def perturb_run_from_options(
    images: list[str],
    constraint_options: ConstraintOptions,
    engine_options: EngineOptions,
    solver_options: SolverOptions,
) -> PerturbRun:
    """The run that the options describe, for ``images`` by their names.

    Raises:
        ProblemError: a constraint or a setting is out of range.
        UsageError: options contradict one another.
        InputError: a mask can't be used.
    """
    constraint, settings = constraint_options.build(), solver_options.settings()
    engine = choose_engine(constraint_options.constraint, engine_options.engine, engine_options.recentred)
    if engine_options.faithful:
        _check_faithful(constraint_options.constraint, engine, with_support=bool(engine_options.support))
    if engine_options.quantize and engine_options.support:
        raise UsageError("--quantize may move pixels outside --support; drop one of them")
    if engine_options.shrink and not engine_options.until_success:
        raise UsageError("--shrink asks for the smallest perturbation, --all-steps for the largest margin; drop one")
    if engine_options.shrink and engine_options.faithful:
        raise UsageError("--faithful ends where its last step ends; drop it, or --shrink")
    return PerturbRun(
        constraint,
        check_engine_fits(constraint, engine, solver_options.method),
        faithful=engine_options.faithful,
        steps=engine_options.steps,
        stop_at_success=engine_options.until_success,
        shrink=engine_options.shrink,
        target=engine_options.target,
        quantize=engine_options.quantize,
        region=region_from_options(images, engine_options.support, outside=engine_options.outside),
        method=solver_options.method,
        settings=settings,
    )


def margin_for_target(target: int | None) -> Margin:
    """The margin that ``--target`` asks for; without a target any class but the image's own."""
    from ssimpert.linearization import Targeted, Untargeted

    return Untargeted() if target is None else Targeted(target)


def _check_faithful(name: ConstraintName, engine: EngineName, *, with_support: bool) -> None:
    if name is not ConstraintName.GLOBAL_SSIM:
        raise UsageError(f"--faithful is for --constraint global-ssim, got --constraint {name.value}")
    if engine is not EngineName.RECENTRED:
        raise UsageError("--faithful is for --engine recentred; drop it, or --engine or --held")
    if with_support:
        raise UsageError("--faithful perturbs the whole image; drop it, or --support")
