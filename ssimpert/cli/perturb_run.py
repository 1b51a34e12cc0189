"""What ``perturb`` and ``compare`` are to do, from their options; checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ssimpert.cli.class_names import margin_for_target
from ssimpert.cli.constraints import ConstraintName, values_of
from ssimpert.cli.engines import EngineName, check_engine_fits, choose_engine
from ssimpert.cli.errors import UsageError
from ssimpert.cli.exit_codes import options_are_at_fault
from ssimpert.cli.feature_balls import (
    BallMethod,
    ConstrainedBall,
    FeatureBallSet,
    PenalisedBall,
    PerceptualBall,
    constrained_ball,
    penalised_ball,
)
from ssimpert.cli.options import ConstraintOptions, EngineOptions, SearchOptions, SolverOptions
from ssimpert.cli.region import Region, region_from_options

if TYPE_CHECKING:
    from torch import Tensor

    import solvers
    from solvers.constraints import Constraint
    from ssimpert.models import Classifier
    from ssimpert.perturbation import PerturbResult
    from ssimpert.perturbation.engines.catalog import Engine


DEFAULT_STEPS = 20
# The options of the other groups that the perceptual balls take.
ENGINE_OPTIONS_TAKEN = {
    BallMethod.PENALISED: ("steps", "target", "faithful", "quantize"),
    BallMethod.CONSTRAINED: ("steps", "until_success", "shrink", "target", "quantize"),
}
SOLVER_OPTIONS_TAKEN = {
    BallMethod.PENALISED: ("method",),
    BallMethod.CONSTRAINED: ("method", "eps_rel", "max_iter", "any_size"),
}
BALL_STEPS = {BallMethod.PENALISED: 100, BallMethod.CONSTRAINED: DEFAULT_STEPS}
# The flags of options that are not called like their fields.
_FLAGS = {
    "recentred": "--recentred/--held",
    "until_success": "--until-success/--all-steps",
    "shrink": "--shrink/--no-shrink",
}


@dataclass(frozen=True)
class PerturbRun:
    """The arguments of :func:`ssimpert.perturb`, or of a perceptual ball, without model and images.

    Attributes:
        constraint: as in :func:`ssimpert.perturb`; or a set that needs the model, or a perceptual ball, which takes no
            engine.
        engine, faithful, steps, quantize, method, settings: as in :func:`ssimpert.perturb`.
        stop_at_success, shrink: as in :func:`ssimpert.perturb`.
        target: the class to aim at, by its name or number; None for any class but the image's own.
        region: where pixels may change; None for everywhere.
    """

    constraint: Constraint | FeatureBallSet | PerceptualBall
    engine: Engine | None
    faithful: bool
    steps: int
    stop_at_success: bool
    shrink: bool | None
    target: str | None
    quantize: bool
    region: Region | None
    method: str
    settings: solvers.Settings

    @property
    def progress_steps(self) -> int | None:
        """How often a run may advance; None where nobody knows."""
        return None if isinstance(self.constraint, PenalisedBall) else self.steps

    def check(self, model: Classifier) -> None:
        """Raise :class:`UsageError` where ``model`` has no class or no layer that an option names."""
        margin_for_target(self.target, model)
        if isinstance(self.constraint, (FeatureBallSet, PenalisedBall, ConstrainedBall)):
            with options_are_at_fault():
                self.constraint.check_layers(model)

    def perturb(
        self, model: Classifier, images: Tensor, support: Tensor | None, advance: Callable[[], None]
    ) -> PerturbResult:
        """Perturb ``images`` (B, 3, S, S).

        Args:
            model: the classifier.
            images: in [0, 1], on the model's device.
            support: where pixels may change, (B, 1, S, S) bool; None for everywhere.
            advance: called after every step.
        """
        from ssimpert.perturbation import perturb, quantize

        if isinstance(self.constraint, (PenalisedBall, ConstrainedBall)):
            result = self.constraint.perturb(model, images, self.steps, advance)
            return quantize(model, images, result) if self.quantize else result
        return perturb(
            model,
            images,
            set_around(self.constraint, model, images),
            steps=self.steps,
            margin=margin_for_target(self.target, model),
            engine=self.engine,
            faithful=self.faithful,
            support=support,
            stop_at_success=self.stop_at_success,
            shrink=self.shrink,
            method=self.method,
            settings=self.settings,
            quantize=self.quantize,
            observer=lambda state: advance(),
        )


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
    ball_method = solver_options.ball_method
    if ball_method is not None:
        return _ball_run(ball_method, constraint_options, engine_options, solver_options)
    constraint = constraint_options.build()
    settings = solver_options.settings(constraint_options.name)
    engine = choose_engine(constraint_options.name, engine_options.engine, engine_options.recentred)
    if engine_options.faithful:
        _check_faithful(constraint_options.name, engine, with_support=bool(engine_options.support))
    if engine_options.quantize and engine_options.support:
        raise UsageError("--quantize may move pixels outside --support; drop one of them")
    if engine_options.shrink and engine_options.until_success is False:
        raise UsageError("--shrink asks for the smallest perturbation, --all-steps for the largest margin; drop one")
    if engine_options.shrink and engine_options.faithful:
        raise UsageError("--faithful ends where its last step ends; drop it, or --shrink")
    return PerturbRun(
        constraint,
        check_engine_fits(constraint, engine, solver_options.method),
        faithful=engine_options.faithful,
        steps=engine_options.steps or DEFAULT_STEPS,
        stop_at_success=engine_options.until_success is not False,
        shrink=engine_options.shrink,
        target=engine_options.target,
        quantize=engine_options.quantize,
        region=region_from_options(images, engine_options.support, outside=engine_options.outside),
        method=solver_options.method,
        settings=settings,
    )


def _ball_run(
    ball_method: BallMethod,
    constraint_options: ConstraintOptions,
    engine_options: EngineOptions,
    solver_options: SolverOptions,
) -> PerturbRun:
    """The run of a perceptual ball; options that it does not take are refused."""
    check_ball_set(ball_method, constraint_options)
    given = constraint_options.given()
    values = values_of(ball_method, given)
    refuse_others(ball_method, engine_options, ENGINE_OPTIONS_TAKEN[ball_method])
    refuse_others(ball_method, solver_options, SOLVER_OPTIONS_TAKEN[ball_method])
    settings = solver_options.settings(ball_method)
    target, stop_at_success = engine_options.target, engine_options.until_success is not False
    ball: PerceptualBall
    if ball_method is BallMethod.PENALISED:
        ball = penalised_ball(
            values,
            wanted_given=given["wanted_margin"] is not None,
            faithful=engine_options.faithful,
            target=target,
        )
    else:
        shrink = engine_options.shrink
        ball = constrained_ball(values, settings, stop_at_success=stop_at_success, shrink=shrink, target=target)
    return PerturbRun(
        ball,
        engine=None,
        faithful=engine_options.faithful,
        steps=engine_options.steps or BALL_STEPS[ball_method],
        stop_at_success=stop_at_success,
        shrink=engine_options.shrink,
        target=target,
        quantize=engine_options.quantize,
        region=None,
        method=solver_options.method,
        settings=settings,
    )


def check_ball_set(ball_method: BallMethod, constraint_options: ConstraintOptions) -> None:
    """Raise :class:`UsageError` where a set is asked for beside a perceptual ball that is another set, or none."""
    name = constraint_options.constraint
    if name is None or (ball_method is BallMethod.CONSTRAINED and name is ConstraintName.FEATURE_BALL):
        return
    remedy = (
        "has no set; drop one of them, or take --method perceptual-ball-constrained"
        if ball_method is BallMethod.PENALISED
        else "keeps to a ball of features; drop one of them"
    )
    raise UsageError(f"--constraint {name.value} contradicts --method {ball_method.value}, which {remedy}")


def refuse_others(
    ball_method: BallMethod, group: EngineOptions | SearchOptions | SolverOptions, taken: tuple[str, ...]
) -> None:
    """Raise :class:`UsageError` for the first option of ``group`` that was given and is not among ``taken``."""
    for entry in fields(group):
        if entry.name not in taken and getattr(group, entry.name) != entry.default:
            flags = ", ".join(_flag(name) for name in taken if name != "method") or "no option of this kind"
            raise UsageError(f"{_flag(entry.name)} does not belong to {ball_method.value}, which takes {flags}")


def _flag(name: str) -> str:
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def set_around(constraint: Constraint | FeatureBallSet, model: Classifier, images: Tensor) -> Constraint:
    """The set for ``images`` (B, 3, S, S), where it needs model and images; any other set is ready."""
    return constraint.at(model, images) if isinstance(constraint, FeatureBallSet) else constraint


def _check_faithful(name: ConstraintName, engine: EngineName, *, with_support: bool) -> None:
    if name is not ConstraintName.GLOBAL_SSIM:
        raise UsageError(
            f"--faithful is for --constraint global-ssim, got --constraint {name.value}; it is for --method "
            "perceptual-ball, too"
        )
    if engine is not EngineName.RECENTRED:
        raise UsageError("--faithful is for --engine recentred; drop it, or --engine or --held")
    if with_support:
        raise UsageError("--faithful perturbs the whole image; drop it, or --support")
