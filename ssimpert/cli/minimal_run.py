"""``ssimpert minimal``: the least level that changes the decision, and the margin at levels around this level."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssimpert.cli.class_names import margin_for_target, recorded_target, target_number
from ssimpert.cli.constraint_options import ConstraintOptions
from ssimpert.cli.constraints import values_of
from ssimpert.cli.engine_options import SearchOptions, SolverOptions
from ssimpert.cli.engines import check_engine_fits
from ssimpert.cli.errors import UsageError
from ssimpert.cli.exit_codes import options_are_at_fault
from ssimpert.cli.feature_balls import (
    BallMethod,
    ConstrainedBall,
    FeatureBallSet,
    PerceptualBall,
    constrained_ball,
    penalised_ball,
)
from ssimpert.cli.perturb_run import SOLVER_OPTIONS_TAKEN, check_ball_set, refuse_others, set_around
from ssimpert.cli.photo_loop import ProcessPhoto, WriteFiles
from ssimpert.cli.progress import Stage
from ssimpert.cli.region import Region, region_from_options

if TYPE_CHECKING:
    from torch import Tensor

    import solvers
    from solvers.constraints import Constraint
    from ssimpert.cli.workspace import Workspace
    from ssimpert.models import Classifier
    from ssimpert.perturbation import MinimalBudgetResult
    from ssimpert.perturbation.budget_search.bracketing import Brackets
    from ssimpert.perturbation.engines.catalog import Engine

# The curve reaches from the least level divided by this factor to the least level times this factor.
CURVE_FACTOR = 4.0
# The picture of a curve is as wide as every other figure: 1200 pixels.
CURVE_DPI = 150
# The options of the search that the perceptual balls take.
SEARCH_OPTIONS_TAKEN = ("steps", "rounds", "tolerance", "target")


@dataclass(frozen=True)
class MinimalRun:
    """The arguments of :func:`ssimpert.minimal_budget`, without model and images.

    Attributes:
        constraint: as in :func:`ssimpert.minimal_budget`; or a set that needs the model, or a perceptual ball, which
            takes no engine.
        engine, steps, rounds, tolerance: as in :func:`ssimpert.minimal_budget`.
        candidates, method, settings: as in :func:`ssimpert.minimal_budget`.
        target: the class to aim at, by its name or number; None for any class but the image's own.
        region: where pixels may change; None for everywhere.
        options: all options for the record, with defaults filled in; without ``target`` where that is a name.
    """

    constraint: Constraint | FeatureBallSet | PerceptualBall
    engine: Engine | None
    steps: int
    rounds: int
    tolerance: float
    candidates: int
    target: str | None
    method: str
    settings: solvers.Settings
    region: Region | None
    options: dict[str, Any]

    @property
    def is_slow(self) -> bool:
        """Whether each step solves a problem with derivatives of the network."""
        return isinstance(self.constraint, FeatureBallSet | ConstrainedBall)

    def resolve(self, model: Classifier) -> dict[str, Any]:
        """The options for the record whose values ``model`` decides.

        Raises:
            UsageError: ``model`` has no class or no layer that an option names.
        """
        if isinstance(self.constraint, FeatureBallSet | PerceptualBall):
            with options_are_at_fault():
                self.constraint.check_layers(model)
        return {"target": target_number(self.target, model)}


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

    if solver_options.ball_method is not None:
        return _ball_run(solver_options.ball_method, constraint_options, search_options, solver_options)
    constraint, settings = constraint_options.build(), solver_options.settings(constraint_options.name, searching=True)
    engine = check_engine_fits(constraint, search_options.engine, solver_options.method)
    _check_search(search_options)
    if not isinstance(constraint, FeatureBallSet):  # this set has a level, but needs a model first
        with options_are_at_fault():
            check_level_options(constraint, engine)
    steps = search_options.steps_of(constraint_options.name)
    return MinimalRun(
        constraint,
        engine,
        steps=steps,
        rounds=search_options.rounds,
        tolerance=search_options.tolerance_of(constraint_options.name),
        candidates=search_options.candidates,
        target=search_options.target,
        method=solver_options.method,
        settings=settings,
        region=region_from_options(images, search_options.support, outside=search_options.outside),
        options={
            **constraint_options.effective(constraint_options.name),
            **solver_options.effective(constraint_options.name, searching=True),
            **recorded_target(search_options.target),
            "engine": engine,
            "steps": steps,
            "rounds": search_options.rounds,
            "tolerance": search_options.tolerance_of(constraint_options.name),
            "candidates": search_options.candidates,
            "outside": search_options.outside,
        },
    )


def _check_search(search_options: SearchOptions) -> None:
    from ssimpert.validation import check_count, check_share

    with options_are_at_fault():
        check_count("rounds", search_options.rounds)
        if search_options.tolerance is not None:
            check_share("tolerance", search_options.tolerance)


def _ball_run(
    ball_method: BallMethod,
    constraint_options: ConstraintOptions,
    search_options: SearchOptions,
    solver_options: SolverOptions,
) -> MinimalRun:
    """The search for the least radius, or the largest weight on features, of a perceptual ball."""
    check_ball_set(ball_method, constraint_options)
    given = constraint_options.given()
    if given["lower_gamma"] is not None:
        raise UsageError("--lower-gamma and --keep-gamma are for perturb and compare: minimal looks for gamma itself")
    values = values_of(ball_method, given)
    refuse_others(ball_method, search_options, SEARCH_OPTIONS_TAKEN)
    refuse_others(ball_method, solver_options, SOLVER_OPTIONS_TAKEN[ball_method])
    _check_search(search_options)
    settings, target = solver_options.settings(ball_method, searching=True), search_options.target
    steps = search_options.steps_of(ball_method)
    ball: PerceptualBall
    if ball_method is BallMethod.PENALISED:
        ball = penalised_ball(values, wanted_given=given["wanted_margin"] is not None, faithful=False, target=target)
        if ball.gamma == 0:
            raise UsageError("--gamma 0 leaves minimal no weight to begin with; give a positive one")
    else:
        ball = constrained_ball(values, settings, stop_at_success=True, shrink=True, target=target)
    return MinimalRun(
        ball,
        engine=None,
        steps=steps,
        rounds=search_options.rounds,
        tolerance=search_options.tolerance_of(ball_method),
        candidates=search_options.candidates,
        target=target,
        method=solver_options.method,
        settings=settings,
        region=None,
        options={
            **constraint_options.effective(ball_method),
            **solver_options.effective(ball_method, searching=True),
            **recorded_target(target),
            "steps": steps,
            "rounds": search_options.rounds,
            "tolerance": search_options.tolerance_of(ball_method),
        },
    )


def check_curve(minimal_run: MinimalRun, count: int | None) -> None:
    """Raise :class:`UsageError` where ``--curve`` is asked of a method that has no levels of one set."""
    if count is not None and isinstance(minimal_run.constraint, PerceptualBall):
        raise UsageError(
            f"--curve {count} is for sets; take --constraint feature-ball, or drop --curve or --method "
            f"{minimal_run.method}"
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
                record["files"] += write_curve(workspace, result, index, points, folder)
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

    constraint, model = minimal_run.constraint, workspace.classifier
    if isinstance(constraint, PerceptualBall):
        return _ball_of_least_strength(model, image, constraint, minimal_run, stage)
    assert minimal_run.engine is not None  # only perceptual balls have none

    def observer(brackets: Brackets) -> None:
        stage("looking for the least level", int(brackets.rounds[0]), minimal_run.rounds)

    return minimal_budget(
        model,
        image,
        set_around(constraint, model, image),
        steps=minimal_run.steps,
        rounds=minimal_run.rounds,
        tolerance=minimal_run.tolerance,
        candidates=minimal_run.candidates,
        margin=margin_for_target(minimal_run.target, workspace.classifier),
        engine=minimal_run.engine,
        support=workspace.support(index),
        method=minimal_run.method,
        settings=minimal_run.settings,
        observer=observer,
    )


def _ball_of_least_strength(
    model: Classifier, image: Tensor, ball: PerceptualBall, minimal_run: MinimalRun, stage: Stage
) -> MinimalBudgetResult:
    """See :func:`find_minimal`; the ball's method runs anew at every strength."""
    from ssimpert.perturbation.budget_search.least_strength import least_strength

    steps_done = 0

    def advance() -> None:
        nonlocal steps_done
        steps_done += 1
        stage("looking for the least level", steps_done, None)

    return least_strength(
        lambda images, strength: ball.at_strength(strength).perturb(model, images, minimal_run.steps, advance),
        image,
        ball.strength,
        unit=ball.strength_unit,
        needed=ball.needed_strength,
        rounds=minimal_run.rounds,
        tolerance=minimal_run.tolerance,
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

    assert not isinstance(minimal_run.constraint, PerceptualBall)  # check_curve refuses these
    assert minimal_run.engine is not None
    stage("trying levels", 0, None)
    constraint = set_around(minimal_run.constraint, workspace.classifier, image)
    family, least_level = family_of(constraint), float(result.level[0])
    centre = least_level if least_level > 0 else family.first  # a NaN is not > 0
    levels = geometric_levels(centre / CURVE_FACTOR, min(CURVE_FACTOR * centre, family.largest), count)
    margins = margin_curve(
        workspace.classifier,
        image,
        constraint,
        levels,
        steps=minimal_run.steps,
        margin=margin_for_target(minimal_run.target, workspace.classifier),
        engine=minimal_run.engine,
        support=workspace.support(index),
        method=minimal_run.method,
        settings=minimal_run.settings,
        found=result,
    )[:, 0].tolist()
    return list(zip(levels, margins, strict=True))


def write_curve(
    workspace: Workspace,
    result: MinimalBudgetResult,
    index: int,
    points: list[tuple[float, float]],
    folder: Path,
) -> list[str]:
    """Write curve.json, curve.png and curve.svg of one photo, and return these names.

    Args:
        workspace: the photos and the model.
        result: the least level of the photo.
        index: which photo, from 0.
        points: pairs of level and margin, from :func:`find_curve`.
        folder: an existing folder for the files.
    """
    from ssimpert.cli.outputs import write_json
    from ssimpert.cli.terminal import say
    from ssimpert.report.conditions import conditions
    from ssimpert.report.figure import save_figure
    from ssimpert.report.margin_figure import margin_figure

    reached = [level for level, margin in points if margin > 0]
    windows = f"Levels of {conditions(result)}."
    unit, least_level = str(result.settings["level"]), float(result.level[0])
    record: dict[str, Any] = {
        "image": workspace.names[index],
        "model": workspace.model_name,
        "level_unit": unit,
        "least_level": least_level,
        "least_level_reached_by_curve": min(reached, default=None),
        "conditions": windows,
        "settings": result.settings,
        "curve": [{"level": level, "margin": value} for level, value in points],
    }
    write_json(record, folder / "curve.json")
    levels, margins = [level for level, _ in points], [margin for _, margin in points]
    figure = margin_figure(levels, margins, unit=unit, least=least_level, note=windows)
    for ending in ("png", "svg"):
        save_figure(figure, folder / f"curve.{ending}", dpi=CURVE_DPI)
    if reached and least_level > 0 and reached[0] < least_level * (1 - result.settings["tolerance"]):
        say(
            f"{workspace.names[index]}: the curve reaches the goal at level {reached[0]:.4g} already, below the least "
            f"level found, {least_level:.4g}; begin the search there to find a lesser one"
        )
    return ["curve.json", "curve.png", "curve.svg"]


def geometric_levels(first: float, last: float, count: int) -> list[float]:
    """``count`` levels, at least 2, from ``first`` to ``last``, each the level before times a constant factor."""
    factor = (last / first) ** (1 / (count - 1))
    return [first * factor**k for k in range(count - 1)] + [last]
