"""``ssimpert minimal``: the least level that changes the decision, and the margin at levels around this level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssimpert.cli.class_names import margin_for_target
from ssimpert.cli.engines import check_engine_fits
from ssimpert.cli.exit_codes import options_are_at_fault
from ssimpert.cli.options import ConstraintOptions, SearchOptions, SolverOptions
from ssimpert.cli.progress import progress_bar
from ssimpert.cli.region import Region, region_from_options
from ssimpert.cli.terminal import print_line

if TYPE_CHECKING:
    import solvers
    from solvers.constraints import Constraint
    from ssimpert.cli.workspace import Workspace
    from ssimpert.perturbation import MinimalBudgetResult
    from ssimpert.perturbation.engines.catalog import Engine

# The curve reaches from the least level divided by this factor to the least level times this factor.
CURVE_FACTOR = 4.0


@dataclass(frozen=True)
class MinimalRun:
    """The arguments of :func:`ssimpert.minimal_budget`, without model and images.

    Attributes:
        constraint, engine, steps, rounds, tolerance: as in :func:`ssimpert.minimal_budget`.
        candidates, method, settings: as in :func:`ssimpert.minimal_budget`.
        target: the class to aim at, by its name or number; None for any class but the image's own.
        region: where pixels may change; None for everywhere.
    """

    constraint: Constraint
    engine: Engine
    steps: int
    rounds: int
    tolerance: float
    candidates: int
    target: str | None
    method: str
    settings: solvers.Settings
    region: Region | None


def minimal_run_from_options(
    images: list[str],
    constraint_options: ConstraintOptions,
    search_options: SearchOptions,
    solver_options: SolverOptions,
) -> MinimalRun:
    """The run that the options describe, for ``images`` by their names; checked before a model is loaded.

    Raises:
        ProblemError: a constraint or a setting is out of range.
        UsageError: options contradict one another.
        UsageError: an option of the search is out of range.
        InputError: a mask can't be used.
    """
    from ssimpert.perturbation.budget_search.attempt import check_level_options
    from ssimpert.validation import check_count, check_share

    constraint, settings = constraint_options.build(), solver_options.settings()
    engine = check_engine_fits(constraint, search_options.engine, solver_options.method)
    with options_are_at_fault():
        check_count("steps", search_options.steps)
        check_count("rounds", search_options.rounds)
        check_share("tolerance", search_options.tolerance)
        check_level_options(constraint, engine)
    return MinimalRun(
        constraint,
        engine,
        steps=search_options.steps,
        rounds=search_options.rounds,
        tolerance=search_options.tolerance,
        candidates=search_options.candidates,
        target=search_options.target,
        method=solver_options.method,
        settings=settings,
        region=region_from_options(images, search_options.support, outside=search_options.outside),
    )


def find_minimal(workspace: Workspace, minimal_run: MinimalRun) -> MinimalBudgetResult:
    """The least levels of all images, with a progress bar."""
    from ssimpert.perturbation import minimal_budget

    with progress_bar("looking for the least level", None):
        return minimal_budget(
            workspace.classifier,
            workspace.batch,
            minimal_run.constraint,
            steps=minimal_run.steps,
            rounds=minimal_run.rounds,
            tolerance=minimal_run.tolerance,
            candidates=minimal_run.candidates,
            margin=margin_for_target(minimal_run.target, workspace.classifier),
            engine=minimal_run.engine,
            support=workspace.support(minimal_run.region),
            method=minimal_run.method,
            settings=minimal_run.settings,
        )


def write_curve(
    workspace: Workspace, minimal_run: MinimalRun, result: MinimalBudgetResult, index: int, count: int
) -> None:
    """Write one image's margins at several levels: curve.json, curve.png and curve.svg.

    The levels rise geometrically from a quarter of the least level to four times this level, or to the largest level
    that makes sense. Where no least level was found, or the least level is 0, they are around the constraint's own
    level.

    Args:
        workspace: the images, the model, and the folders for the files.
        minimal_run: how the least levels were searched; the curve uses the same options.
        result: the least levels of all images.
        index: which image, from 0.
        count: how many levels, at least 2.
    """
    import torch

    from ssimpert.cli.outputs import write_json
    from ssimpert.perturbation import margin_curve
    from ssimpert.perturbation.budget_search.levels import family_of
    from ssimpert.report.conditions import conditions
    from ssimpert.report.figure import save_figure
    from ssimpert.report.margin_figure import margin_figure

    family, least_level = family_of(minimal_run.constraint), float(result.level[index])
    centre = least_level if least_level > 0 else family.first  # a NaN is not > 0
    levels = geometric_levels(centre / CURVE_FACTOR, min(CURVE_FACTOR * centre, family.largest), count)
    support = workspace.support(minimal_run.region)
    found = result.select(torch.tensor([index]))
    margins = margin_curve(
        workspace.classifier,
        workspace.batch[index : index + 1],
        minimal_run.constraint,
        levels,
        steps=minimal_run.steps,
        margin=margin_for_target(minimal_run.target, workspace.classifier),
        engine=minimal_run.engine,
        support=None if support is None else support[index : index + 1],
        method=minimal_run.method,
        settings=minimal_run.settings,
        found=found,
    )[:, 0].tolist()
    reached = [level for level, margin in zip(levels, margins, strict=True) if margin > 0]
    windows = f"Levels of {conditions(found)}."
    record: dict[str, Any] = {
        "image": workspace.names[index],
        "model": workspace.model_name,
        "level_unit": family.unit,
        "least_level": least_level,
        "least_level_reached_by_curve": min(reached, default=None),
        "conditions": windows,
        "settings": result.settings,
        "curve": [{"level": level, "margin": value} for level, value in zip(levels, margins, strict=True)],
    }
    folder = workspace.folders[index]
    write_json(record, folder / "curve.json")
    figure = margin_figure(levels, margins, unit=family.unit, least=least_level, note=windows)
    for ending in ("png", "svg"):
        save_figure(figure, folder / f"curve.{ending}")
    if reached and least_level > 0 and reached[0] < least_level * (1 - minimal_run.tolerance):
        print_line(
            f"{workspace.names[index]}: the curve reaches the goal at level {reached[0]:.4g} already, below the least "
            f"level found, {least_level:.4g}; begin the search there to find a lesser one",
            to_stderr=True,
        )


def geometric_levels(first: float, last: float, count: int) -> list[float]:
    """``count`` levels, at least 2, from ``first`` to ``last``, each the level before times a constant factor."""
    factor = (last / first) ** (1 / (count - 1))
    return [first * factor**k for k in range(count - 1)] + [last]
