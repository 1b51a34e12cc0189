"""``ssimpert minimal``: the least level that changes the decision, and the margin at levels around this level."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssimpert.cli.engines import check_engine_fits
from ssimpert.cli.options import ConstraintOptions, SearchOptions, SolverOptions
from ssimpert.cli.perturb_run import margin_for_target
from ssimpert.cli.photo_loop import ProcessPhoto, WriteFiles
from ssimpert.cli.progress import Stage
from ssimpert.cli.region import Region, region_from_options

if TYPE_CHECKING:
    from torch import Tensor

    import solvers
    from solvers.constraints import Constraint
    from ssimpert.cli.workspace import Workspace
    from ssimpert.perturbation import MinimalBudgetResult
    from ssimpert.perturbation.budget_search.bracketing import Brackets
    from ssimpert.perturbation.engines.catalog import Engine

# The curve reaches from the least level divided by this factor to the least level times this factor.
CURVE_FACTOR = 4.0


@dataclass(frozen=True)
class MinimalRun:
    """The arguments of :func:`ssimpert.minimal_budget`, without model and images.

    Attributes:
        constraint, engine, steps, rounds, tolerance: as in :func:`ssimpert.minimal_budget`.
        candidates, method, settings: as in :func:`ssimpert.minimal_budget`.
        target: the class to aim at; None for any class but the image's own.
        region: where pixels may change; None for everywhere.
    """

    constraint: Constraint
    engine: Engine
    steps: int
    rounds: int
    tolerance: float
    candidates: int
    target: int | None
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
        InputError: an option of the search is out of range, or a mask can't be used.
    """
    from ssimpert.perturbation.budget_search.attempt import check_level_options
    from ssimpert.validation import check_count, check_share

    constraint, settings = constraint_options.build(), solver_options.settings()
    engine = check_engine_fits(constraint, search_options.engine, solver_options.method)
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


def minimal_photo(workspace: Workspace, minimal_run: MinimalRun, curve: int | None) -> ProcessPhoto:
    """What finds the least level of one photo, and the margins at ``curve`` levels around it (None: no curve)."""

    def process_photo(index: int, image: Tensor, stage: Stage) -> WriteFiles:
        result = find_minimal(workspace, minimal_run, index, image, stage)
        points = None if curve is None else find_curve(workspace, minimal_run, result, index, image, curve, stage)

        def write_files(folder: Path) -> dict[str, Any]:
            record = workspace.write_perturbation(index, image, result, folder)
            record["result"]["level_unit"] = result.settings["level"]
            if points is not None:
                record["files"] += write_curve(workspace, minimal_run, result, index, points, folder)
            return record

        return write_files

    return process_photo


def find_minimal(
    workspace: Workspace, minimal_run: MinimalRun, index: int, image: Tensor, stage: Stage
) -> MinimalBudgetResult:
    """The least level of one photo.

    Args:
        workspace: the photos and the model.
        minimal_run: the other arguments of :func:`ssimpert.minimal_budget`.
        index: which photo, from 0.
        image: the photo, (1, 3, S, S) in [0, 1].
        stage: told of every level tried.
    """
    from ssimpert.perturbation import minimal_budget

    def observer(brackets: Brackets) -> None:
        stage("looking for the least level", int(brackets.rounds[0]), minimal_run.rounds)

    return minimal_budget(
        workspace.classifier,
        image,
        minimal_run.constraint,
        steps=minimal_run.steps,
        rounds=minimal_run.rounds,
        tolerance=minimal_run.tolerance,
        candidates=minimal_run.candidates,
        margin=margin_for_target(minimal_run.target),
        engine=minimal_run.engine,
        support=workspace.support(index),
        method=minimal_run.method,
        settings=minimal_run.settings,
        observer=observer,
    )


def find_curve(
    workspace: Workspace,
    minimal_run: MinimalRun,
    result: MinimalBudgetResult,
    index: int,
    image: Tensor,
    count: int,
    stage: Stage,
) -> list[tuple[float, float]]:
    """One photo's margins at several levels: pairs of level and margin.

    The levels rise geometrically from a quarter of the least level to four times this level, or to the largest level
    that makes sense. Where no least level was found, or the least level is 0, they are around the constraint's own
    level.

    Args:
        workspace: the photos and the model.
        minimal_run: how the least level was searched; the curve uses the same options.
        result: the least level of the photo.
        index: which photo, from 0.
        image: the photo, (1, 3, S, S) in [0, 1].
        count: how many levels, at least 2.
        stage: told that the levels are tried.
    """
    from ssimpert.perturbation import margin_curve
    from ssimpert.perturbation.budget_search.levels import family_of

    stage("trying levels", 0, None)
    family, least_level = family_of(minimal_run.constraint), float(result.level[0])
    centre = least_level if least_level > 0 else family.first  # a NaN is not > 0
    levels = geometric_levels(centre / CURVE_FACTOR, min(CURVE_FACTOR * centre, family.largest), count)
    margins = margin_curve(
        workspace.classifier,
        image,
        minimal_run.constraint,
        levels,
        steps=minimal_run.steps,
        margin=margin_for_target(minimal_run.target),
        engine=minimal_run.engine,
        support=workspace.support(index),
        method=minimal_run.method,
        settings=minimal_run.settings,
    )[:, 0].tolist()
    return list(zip(levels, margins, strict=True))


def write_curve(
    workspace: Workspace,
    minimal_run: MinimalRun,
    result: MinimalBudgetResult,
    index: int,
    points: list[tuple[float, float]],
    folder: Path,
) -> list[str]:
    """Write curve.json, curve.png and curve.svg of one photo, and return these names.

    Args:
        workspace: the photos and the model.
        minimal_run: how the least level was searched.
        result: the least level of the photo.
        index: which photo, from 0.
        points: pairs of level and margin, from :func:`find_curve`.
        folder: an existing folder for the files.
    """
    from ssimpert.cli.outputs import write_json
    from ssimpert.perturbation.budget_search.levels import family_of
    from ssimpert.report.figure import save_figure
    from ssimpert.report.margin_figure import margin_figure

    family, least_level = family_of(minimal_run.constraint), float(result.level[0])
    record: dict[str, Any] = {
        "image": workspace.names[index],
        "model": workspace.model_name,
        "level_unit": family.unit,
        "least_level": least_level,
        "settings": result.settings,
        "curve": [{"level": level, "margin": value} for level, value in points],
    }
    write_json(record, folder / "curve.json")
    levels, margins = [level for level, _ in points], [margin for _, margin in points]
    figure = margin_figure(levels, margins, unit=family.unit, least=least_level)
    for ending in ("png", "svg"):
        save_figure(figure, folder / f"curve.{ending}")
    return ["curve.json", "curve.png", "curve.svg"]


def geometric_levels(first: float, last: float, count: int) -> list[float]:
    """``count`` levels, at least 2, from ``first`` to ``last``, each the level before times a constant factor."""
    factor = (last / first) ** (1 / (count - 1))
    return [first * factor**k for k in range(count - 1)] + [last]
