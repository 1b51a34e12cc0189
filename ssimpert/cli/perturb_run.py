"""What ``perturb`` and ``compare`` are to do, from their options; checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ssimpert.cli.class_names import margin_for_target, recorded_target, target_number
from ssimpert.cli.constraint_options import ConstraintOptions
from ssimpert.cli.constraints import ConstraintName, values_of
from ssimpert.cli.engine_options import EngineOptions, SearchOptions, SolverOptions
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
from ssimpert.cli.region import Region, region_from_options
from ssimpert.formulations.options import default_steps

if TYPE_CHECKING:
    from torch import Tensor

    import solvers
    from solvers.constraints import Constraint
    from ssimpert.models import Classifier
    from ssimpert.perturbation import PerturbResult
    from ssimpert.perturbation.engines.catalog import Engine


# The options of the other groups that the perceptual balls take.
ENGINE_OPTIONS_TAKEN = {
    BallMethod.PENALISED: ("steps", "target", "faithful", "quantize"),
    BallMethod.CONSTRAINED: ("steps", "until_success", "shrink", "target", "quantize"),
}
SOLVER_OPTIONS_TAKEN = {
    BallMethod.PENALISED: ("method",),
    BallMethod.CONSTRAINED: ("method", "eps_rel", "max_iter", "any_size"),
}
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
        engine, faithful, steps, method, settings: as in :func:`ssimpert.perturb`.
        quantize: whether the result itself has 8-bit pixels; None where only the PNG may be quantized.
        stop_at_success, shrink: as in :func:`ssimpert.perturb`.
        target: the class to aim at, by its name or number; None for any class but the image's own.
        region: where pixels may change; None for everywhere.
        options: all options for the record, with defaults filled in; without ``target`` where that is a name.
    """

    constraint: Constraint | FeatureBallSet | PerceptualBall
    engine: Engine | None
    faithful: bool
    steps: int
    stop_at_success: bool
    shrink: bool
    target: str | None
    quantize: bool | None
    region: Region | None
    method: str
    settings: solvers.Settings
    options: dict[str, Any]

    @property
    def png_keeps_goal(self) -> bool:
        """Whether the PNG is quantized where rounding would undo the change of the label.

        Quantisation would not keep to a region.
        """
        return self.quantize is None and self.region is None

    @property
    def progress_steps(self) -> int | None:
        """How often a run may advance; None where nobody knows."""
        return None if isinstance(self.constraint, PenalisedBall) else self.steps

    def resolve(self, model: Classifier) -> dict[str, Any]:
        """The options for the record whose values ``model`` decides.

        Raises:
            UsageError: ``model`` has no class or no layer that an option names.
        """
        if isinstance(self.constraint, (FeatureBallSet, PenalisedBall, ConstrainedBall)):
            with options_are_at_fault():
                self.constraint.check_layers(model)
        return {"target": target_number(self.target, model)}

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
            quantize=self.quantize is True,
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
    shrink = _is_drawn_back(engine_options, is_published=engine is EngineName.RECENTRED)
    steps, stop_at_success = (
        engine_options.steps or default_steps(constraint_options.name),
        engine_options.until_success is not False,
    )
    return PerturbRun(
        constraint,
        check_engine_fits(constraint, engine, solver_options.method),
        faithful=engine_options.faithful,
        steps=steps,
        stop_at_success=stop_at_success,
        shrink=shrink,
        target=engine_options.target,
        quantize=engine_options.quantize,
        region=region_from_options(images, engine_options.support, outside=engine_options.outside),
        method=solver_options.method,
        settings=settings,
        options={
            **constraint_options.effective(constraint_options.name),
            **solver_options.effective(constraint_options.name),
            **recorded_target(engine_options.target),
            "engine": engine,
            "faithful": engine_options.faithful,
            "steps": steps,
            "until_success": stop_at_success,
            "shrink": shrink,
            "quantize": _recorded_quantize(engine_options.quantize),
            "outside": engine_options.outside,
        },
    )


def _recorded_quantize(quantize: bool | None) -> bool | str:
    return "only the PNG" if quantize is None else quantize


def _is_drawn_back(engine_options: EngineOptions, *, is_published: bool) -> bool:
    """Whether successes are drawn back: what ``--shrink`` says, or the default of :func:`ssimpert.perturb`.

    Raises:
        UsageError: ``--shrink`` contradicts another option.
    """
    from ssimpert.perturbation.shrinking import shrink_option

    stop_at_success = engine_options.until_success is not False
    if engine_options.shrink and not stop_at_success:
        raise UsageError("--shrink asks for the smallest perturbation, --all-steps for the largest margin; drop one")
    if engine_options.shrink and engine_options.faithful:
        raise UsageError("--faithful ends where its last step ends; drop it, or --shrink")
    return shrink_option(engine_options.shrink, stop_at_success=stop_at_success, is_published=is_published)


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
    is_penalised = ball_method is BallMethod.PENALISED
    # The penalised ball has no segment to go back along.
    shrink = not is_penalised and _is_drawn_back(engine_options, is_published=False)
    steps = engine_options.steps or default_steps(ball_method)
    options = {
        **constraint_options.effective(ball_method),
        **solver_options.effective(ball_method),
        **recorded_target(target),
        "steps": steps,
        "quantize": _recorded_quantize(engine_options.quantize),
    }
    ball: PerceptualBall
    if is_penalised:
        faithful, wanted_given = engine_options.faithful, given["wanted_margin"] is not None
        ball = penalised_ball(values, wanted_given=wanted_given, faithful=faithful, target=target)
        lower_gamma = not faithful if values["lower_gamma"] is None else values["lower_gamma"]
        options |= {"faithful": faithful, "lower_gamma": lower_gamma}
    else:
        ball = constrained_ball(values, settings, stop_at_success=stop_at_success, shrink=shrink, target=target)
        options |= {"until_success": stop_at_success, "shrink": shrink}
    return PerturbRun(
        ball,
        engine=None,
        faithful=engine_options.faithful,
        steps=steps,
        stop_at_success=stop_at_success,
        shrink=shrink,
        target=target,
        quantize=engine_options.quantize,
        region=None,
        method=solver_options.method,
        settings=settings,
        options=options,
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
