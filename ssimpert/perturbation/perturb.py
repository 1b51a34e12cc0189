"""``perturb``: change the decision under a perceptual constraint, by certified linear steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.linearization import Margin
from ssimpert.linearization.margins import margin_for
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import Model
from ssimpert.models.mixed_precision import InMixedPrecision, MixedPrecision
from ssimpert.perturbation.engines import loop
from ssimpert.perturbation.engines.batching import BatchSize, check_batch_size, in_parts
from ssimpert.perturbation.engines.catalog import ENGINES_AROUND_ORIGINAL, Engine, check_engine, check_projectable
from ssimpert.perturbation.engines.recentred import recentred as recentred_move
from ssimpert.perturbation.engines.released import ReleasedMargin, released_step_rule
from ssimpert.perturbation.engines.step_solver import StepSolver
from ssimpert.perturbation.evaluation import measure, require_sound_gradients, require_sound_margins
from ssimpert.perturbation.inputs import check_image, checked_goal, support_set, support_share
from ssimpert.perturbation.quantization.quantize import quantize as quantize_result
from ssimpert.perturbation.results import ConstraintRule, PerturbResult
from ssimpert.perturbation.shrinking import shrink_option, shrink_to_goal
from ssimpert.records import describe, describe_settings
from ssimpert.validation import check_count

Observer = Callable[[loop.AscentState], None]


@takes_model
def perturb(
    model: Model,
    image: Tensor,
    constraint: ConstraintRule,
    *,
    steps: int = 20,
    margin: Margin | None = None,
    label: Tensor | None = None,
    engine: Engine | None = None,
    recentred: bool = False,
    faithful: bool = False,
    support: Tensor | None = None,
    stop_at_success: bool = True,
    shrink: bool | None = None,
    method: str = "auto",
    settings: solvers.Settings | dict[str, Any] | None = None,
    batch_size: BatchSize = "auto",
    mixed_precision: MixedPrecision | None = None,
    quantize: bool = False,
    name: str | None = None,
    observer: Observer | None = None,
) -> PerturbResult:
    """Perturb images within a constraint set until the decision changes.

    Args:
        model: a classifier on [0, 1] images that returns logits (B, K), in evaluation mode; see
            :func:`ssimpert.load_model`.
        image: (B, C, H, W) in [0, 1], float32 or float64.
        constraint: a set of :mod:`solvers`, or a function from references (B, C, H, W) to one. The pixel box [0, 1] is
            always added. Several convex sets go into a :class:`~solvers.Intersection`. Iterates keep exactly to sets
            that are not convex, too: to :class:`~solvers.MeanSSIM` by convex steps, to :class:`~solvers.ProductSSIM`
            by solvers for this set, whose bounds are global all the same. ``certified`` of the result says what the
            certificates speak of.
        steps: most steps per image, at least 1.
        margin: the goal; default :class:`~ssimpert.Untargeted`. The names of classes in it are looked up in the
            ``labels`` of the model.
        label: the classes (B,) that the margin is measured against; default: the model's own labels, for
            :class:`~ssimpert.LeastLikely` the least likely classes.
        engine: the loop. ``"projected_gradient"`` (default, the best by measurement), ``"sequential_convex"`` and
            ``"frank_wolfe"`` keep every iterate in the set around the *original* image and return the best iterate.
            ``"recentred"`` is the method of Pochimireddy et al. (arXiv 2106.12731): each step keeps to the set around
            the *current* iterate, so distances add up (for GlobalSSIM to at most ``steps * distance``).
        recentred: ``True`` is short for ``engine="recentred"``.
        faithful: reproduce the code that Pochimireddy et al. released, faults included; needs ``"recentred"`` and
            GlobalSSIM.
        support: where pixels may change, bool, (H, W), (C, H, W) or (B, C or 1, H, W), for instance a composite's mask
            or its complement. All other pixels keep their values exactly. Default: everywhere.
        stop_at_success: stop an image once its goal is reached (minimal effort). ``False`` spends all steps on the
            largest margin.
        shrink: draw a perturbation that reached its goal back along its segment, to the smallest share that still
            reaches the goal by the margin asked for (``margin.by(...)``) and lies in the set. The share is found to
            within 1/128 of itself by 20 forward passes of each image; see
            :mod:`ssimpert.perturbation.shrinking`. Default: wherever ``stop_at_success`` is on, except for
            ``"recentred"``, whose published perturbations are not drawn back. Rounded to 8-bit pixels, a perturbation
            that is only just large enough may lose its goal; ``quantize`` regains it.
        method: the solver's method, for each step.
        settings: the solver's settings.
        batch_size: most images at once; ``"auto"`` means all. Where memory runs out, the number is halved, and the
            work goes on from there.
        mixed_precision: ``"float16"`` or ``"bfloat16"``. The gradient of every step is then computed under autocast,
            and used in the images' precision. Line searches and success use the model without autocast. Default: none.
        quantize: move the result onto 8-bit pixels, with goal and constraint kept where that is possible; the result is
            that of :func:`~ssimpert.quantize`. Not together with ``support``, which quantisation would not keep to.
        name: what tables call it; default made from the constraint.
        observer: called with the state after every step, for progress bars.

    Returns:
        One entry per image. An image that fails has ``success`` false, and comes back as its best iterate; with
        ``"recentred"`` as its last iterate.

    Raises:
        InputError: a model in training mode or without logits (B, K); images, labels or options that can't be used.
            Raised before any step.
        solvers.ProblemError, solvers.MethodError: a constraint or method that doesn't fit.
    """
    began = time.perf_counter()
    margin = margin_for(margin, model)
    settings = solvers.Settings.of(settings)
    check_image(image)
    engine = _engine_of(engine, recentred=recentred)
    steps, batch_size = check_count("steps", steps), check_batch_size(batch_size)
    recentred, faithful, stop_at_success = engine == "recentred", bool(faithful), bool(stop_at_success)
    _check_options(constraint, engine, method, faithful=faithful)
    if shrink and faithful:
        raise InputError("the released method ends where its last step ends: drop faithful=True or shrink=True")
    shrink = shrink_option(shrink, stop_at_success=stop_at_success, is_published=recentred)
    if support is not None and quantize:
        raise InputError("quantisation may move pixels outside the support: drop quantize=True or support")
    if support is not None and faithful:
        raise InputError("the released method perturbs the whole image: drop faithful=True or support")
    region = support_set(support, image)
    if not hasattr(margin, "check") or isinstance(margin, type):
        raise InputError(
            f"margin must be one such as ssimpert.Untargeted() or ssimpert.Targeted(class), got {margin!r}"
        )
    gradient_model = model if mixed_precision is None else InMixedPrecision(model, mixed_precision)
    goal = checked_goal(model, image, label, margin)
    run_settings = {
        "constraint": describe(constraint),
        "steps": steps,
        "margin": describe(margin),
        "engine": engine,
        "recentred": recentred,
        "faithful": faithful,
        "support": support_share(support),
        "stop_at_success": stop_at_success,
        "shrink": shrink,
        "method": method,
        "mixed_precision": mixed_precision,
        "solver": describe_settings(settings),
        "label": None if label is None else goal.label.tolist(),
    }

    def run(part: slice) -> PerturbResult:
        original, part_goal = image[part], goal.select(part)
        indices = torch.arange(len(image), device=image.device)[part]
        part_constraint = constraint.select(indices, len(image)) if isinstance(constraint, Constraint) else constraint
        part_region = None if region is None else region.select(indices, len(image))
        climbed = replace(part_goal, margin=ReleasedMargin(margin)) if faithful else part_goal
        solver = StepSolver(part_constraint, len(original), method, settings, part_region)
        if faithful:
            assert isinstance(constraint, solvers.GlobalSSIM)
            move = recentred_move(climbed, released_step_rule(constraint, method, settings))
        elif recentred:
            move = recentred_move(climbed, solver.linear_optimum, solver.retract)
        else:
            # Tolerances that tighten are for the steps only; the result is measured at the tolerance of the settings.
            tightening = StepSolver(part_constraint, len(original), method, settings, part_region, tightening=True)
            move = ENGINES_AROUND_ORIGINAL[engine](climbed, tightening, original)
        state = loop.start(climbed, original, stop_at_success=stop_at_success)
        ascent = loop.ascend(
            replace(climbed, model=gradient_model), state, move, steps=steps, stop_at_success=stop_at_success
        )
        for reached in ascent:
            if observer is not None:
                observer(reached)
        if not recentred:
            state.return_to_best()
        final = state.final()
        if shrink:
            final = shrink_to_goal(
                part_goal,
                original,
                final,
                None if recentred else solver.excess_around(original),
            )
        result = measure(
            part_goal,
            original,
            final,
            step_solver=None if recentred else solver,
            constraint=part_constraint,
            name=name or _default_name(constraint, recentred=recentred, faithful=faithful),
            settings=run_settings,
        )
        run_settings["certified"] = None if faithful else solver.certified
        return result

    if isinstance(constraint, Constraint):
        constraint.check(image)
    result = in_parts(run, len(image), batch_size)
    require_sound_margins(result.margin_before)
    require_sound_gradients(result)
    # The parts' constraints are for their own images; the settings are those of the whole batch already.
    result = replace(result, constraint=constraint, settings=run_settings, seconds=time.perf_counter() - began)
    return quantize_result(model, image, result) if quantize else result


def _engine_of(engine: Engine | None, *, recentred: bool) -> Engine:
    if engine is None:
        return "recentred" if recentred else "projected_gradient"
    check_engine(engine)
    if recentred and engine != "recentred":
        raise InputError(f"recentred=True is engine='recentred', but engine={engine!r} is asked for too; drop one")
    return engine


def _check_options(constraint: ConstraintRule, engine: Engine, method: str, *, faithful: bool) -> None:
    if not isinstance(constraint, Constraint) and (not callable(constraint) or isinstance(constraint, type)):
        raise InputError(
            f"constraint must be a set such as solvers.WindowSSIM or solvers.GlobalSSIM, got {constraint!r}"
        )
    if isinstance(constraint, Constraint):
        check_projectable(constraint, engine, method)
    if faithful and not (engine == "recentred" and isinstance(constraint, solvers.GlobalSSIM)):
        raise InputError(
            "faithful=True reproduces the re-centred GlobalSSIM method: pass recentred=True and GlobalSSIM"
        )


def _default_name(constraint: ConstraintRule, *, recentred: bool, faithful: bool) -> str:
    base = constraint.kind if isinstance(constraint, Constraint) else "perturbation"
    if isinstance(constraint, solvers.LpBall):
        base = f"l{constraint.p:g}"
    return f"{base} re-centred{' (released)' if faithful else ''}" if recentred else base
