"""``ssimpert minimal``: the least level that changes the decision, and the margin at levels around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssimpert.cli.engines import check_engine_fits
from ssimpert.cli.goal import margin_of
from ssimpert.cli.options import ConstraintOptions, SearchOptions, SolverOptions
from ssimpert.cli.region import Region, region_of
from ssimpert.cli.run import Run, progress_bar

if TYPE_CHECKING:
    import solvers
    from solvers.constraints import Constraint
    from ssimpert.perturbation import MinimalBudgetResult
    from ssimpert.perturbation.engines.catalog import Engine

# The curve reaches from the least level divided by this to the least level times it.
AROUND = 4.0


@dataclass(frozen=True)
class Quest:
    """The arguments of :func:`ssimpert.minimal_budget`, but for model and images; ``target`` is a class or None, and
    ``region`` says where pixels may change, None for everywhere."""

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


def quest_of(images: list[str], limit: ConstraintOptions, search: SearchOptions, solver: SolverOptions) -> Quest:
    """What the options describe; checked before a model is loaded.

    Raises:
        ProblemError, UsageError, InputError: an option out of range, or two that don't go together.
    """
    from ssimpert.perturbation.budget_search.attempt import check_level_options

    constraint, settings = limit.build(), solver.settings()
    engine = check_engine_fits(constraint, search.engine, solver.method)
    check_level_options(constraint, search.steps, search.rounds, search.tolerance, engine)
    return Quest(
        constraint,
        engine,
        steps=search.steps,
        rounds=search.rounds,
        tolerance=search.tolerance,
        candidates=search.candidates,
        target=search.target,
        method=solver.method,
        settings=settings,
        region=region_of(images, search.support, outside=search.outside),
    )


def find_minimal(run: Run, quest: Quest) -> MinimalBudgetResult:
    """The least levels of all images."""
    from ssimpert.perturbation import minimal_budget

    with progress_bar("looking for the least level", None):
        return minimal_budget(
            run.classifier,
            run.batch,
            quest.constraint,
            steps=quest.steps,
            rounds=quest.rounds,
            tolerance=quest.tolerance,
            candidates=quest.candidates,
            margin=margin_of(quest.target),
            engine=quest.engine,
            support=run.support(quest.region),
            method=quest.method,
            settings=quest.settings,
        )


def write_curve(run: Run, quest: Quest, result: MinimalBudgetResult, index: int, count: int) -> None:
    """Write one image's margins at ``count`` levels: curve.json, curve.png and curve.svg.

    The levels rise geometrically from a quarter of the least level to four times it, or to the largest that makes
    sense; around the constraint's own level where no least one was found, or the goal needs none.
    """
    from ssimpert.cli.outputs import write_json
    from ssimpert.perturbation import margin_curve
    from ssimpert.perturbation.budget_search.levels import family_of
    from ssimpert.report.figure import save_figure
    from ssimpert.report.margin_figure import margin_figure

    family, least = family_of(quest.constraint), float(result.level[index])
    centre = least if least > 0 else family.first  # a NaN is not > 0
    levels = geometric(centre / AROUND, min(AROUND * centre, family.largest), count)
    support = run.support(quest.region)
    margins = margin_curve(
        run.classifier,
        run.batch[index : index + 1],
        quest.constraint,
        levels,
        steps=quest.steps,
        margin=margin_of(quest.target),
        engine=quest.engine,
        support=None if support is None else support[index : index + 1],
        method=quest.method,
        settings=quest.settings,
    )[:, 0].tolist()
    record: dict[str, Any] = {
        "image": run.names[index],
        "model": run.model_name,
        "level_unit": family.unit,
        "least_level": least,
        "settings": result.settings,
        "curve": [{"level": level, "margin": value} for level, value in zip(levels, margins, strict=True)],
    }
    folder = run.folders[index]
    write_json(record, folder / "curve.json")
    figure = margin_figure(levels, margins, unit=family.unit, least=least)
    for ending in ("png", "svg"):
        save_figure(figure, folder / f"curve.{ending}")


def geometric(first: float, last: float, count: int) -> list[float]:
    """``count`` numbers, at least 2, from ``first`` to ``last``, each a constant factor more than the one before."""
    factor = (last / first) ** (1 / (count - 1))
    return [first * factor**k for k in range(count - 1)] + [last]
