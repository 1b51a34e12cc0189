"""``perceptual_ball_lbfgs``: the perceptual ball of Elliott, Law and Russell (CVPR 2021), by L-BFGS on a batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError, unknown_name
from ssimpert.linearization.deep_features import deep_features
from ssimpert.linearization.margins import as_targets, classes_for
from ssimpert.models import Classifier
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import forward
from ssimpert.perturbation.evaluation import measure
from ssimpert.perturbation.inputs import check_image, checked_goal
from ssimpert.perturbation.perceptual_ball.gamma_schedule import (
    BallDescent,
    BallObserver,
    BallState,
    minimize,
    released_clip,
)
from ssimpert.perturbation.perceptual_ball.lbfgs import Bounds, LBFGSSettings, LineSearch
from ssimpert.perturbation.perceptual_ball.objective import BallObjective, MarginTerm, ball_objective, success_margin
from ssimpert.perturbation.results import FinalIterate, PerceptualBallResult, PerturbResult
from ssimpert.records import describe
from ssimpert.validation import Integers, Names, check_count, check_number

HISTORY_SIZE, RELEASED_HISTORY_SIZE = 10, 100
# Where gamma may be lowered, an objective that falls by less than this share of itself in a step counts as minimised.
RELATIVE_CHANGE = 1e-3


@takes_model
def perceptual_ball_lbfgs(
    model: nn.Module,
    image: Tensor,
    *,
    layers: Sequence[str] | None = None,
    gamma: float = 1e4,
    s: float = 1.0,
    v: float = -2.0,
    margin_term: MarginTerm = "equality",
    targets: Integers | Names | None = None,
    label: Tensor | None = None,
    iterations: int = 100,
    lower_gamma: bool | None = None,
    line_search: LineSearch | None = None,
    history_size: int | None = None,
    box: bool | None = None,
    faithful: bool = False,
    name: str | None = None,
    observer: BallObserver | None = None,
) -> PerceptualBallResult:
    """The perceptual ball: minimise, over x' in normalised pixels, from x on::

        gamma sum_l MSE(phi_l(x'), phi_l(x)) + s MSE(x', x) + (f_c(x') - max_{j != c} f_j(x') - v)^2

    Args:
        model: a :class:`~ssimpert.Classifier` on [0, 1] images, or a plain module, whose input then counts as
            normalised. It must return logits (B, K).
        image: x, (B, C, H, W) in [0, 1], float32 or float64.
        layers: names of the feature layers; default :func:`~ssimpert.linearization.default_layers`. Without any
            (``()``) there is no feature term.
        gamma, s: weights of features and pixels, at least 0; the paper's are 10000 and 1.
        v: the margin wanted, in logits; the paper's is -2: the class then ends 2 logits below the runner-up.
        margin_term: "equality" (the paper's), or "hinge", ``max(... - v, 0)^2``.
        targets: several classes T, by their numbers or their names. The margin term is then
            ``(max_{t in T} f_t(x') - v)^2``, and ``v`` is the logit that the strongest of these classes is driven to.
            Success means that the decision left T or, for an image whose own class is not in T, entered T.
        label: c, (B,) long; default the model's own. Not together with ``targets``.
        iterations: most iterations of L-BFGS for each weight tried; the paper's example uses 100, the released
            function 200.
        lower_gamma: where the minimiser does not change the decision, try a smaller gamma, at which a linear model of
            the margin promises that it does, up to five times (see below). Default: true unless ``faithful``.
        line_search: "backtracking" (default) or "none" (the released behaviour): see
            :class:`~ssimpert.perturbation.perceptual_ball.lbfgs.LBFGSSettings`.
        history_size: curvature pairs, default 10; 100 if ``faithful``. An image of n values takes
            ``2 n history_size`` numbers: at 3x224x224 in float32 12 MB with 10, 120 MB with 100.
        box: keep every iterate within [0, 1], by projection; default: true unless ``faithful``. Without the box
            ``adversarial`` may leave [0, 1].
        faithful: reproduce the released code, faults included. Steps have full length, and the history holds 100
            pairs. The last iterate is returned, not the best one, and it is not clipped. With ``box``, points are
            clipped before every evaluation, and a pixel that exceeds the upper bound is set to the *lower* one. Class
            0 and the last class are errors. One difference remains: an image whose objective becomes NaN stops at its
            last finite iterate.
        name: what tables call it.
        observer: called with the state after every iteration, for progress bars.

    The feature term's size depends on the network; 10000 is the paper's weight for the ReLUs of a VGG. With larger or
    steeper features the minimiser barely moves (docs/notes/perceptual-ball.md). With ``lower_gamma`` an image whose
    decision stands gets a smaller gamma: the one at which a linear model expects ``|score - v|`` to be ``|v|/2``. That
    is half of the way past the boundary, so this gamma is somewhat smaller than the change of decision needs.

    Returns:
        One entry per image: the iterate of least objective (``faithful``: the last one), measured afresh.
        ``history`` has a row (:class:`~ssimpert.perturbation.history.ObjectiveRow`) per iteration and image.

    Raises:
        InputError: images, layers or options that can't be used; raised before any step.
    """
    began = time.perf_counter()
    targets = None if targets is None else classes_for(as_targets(targets), model)
    margin = success_margin(targets)
    check_image(image)
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch module, whose layers can be watched, got {type(model).__name__}")
    gamma, s = check_number("gamma", gamma, minimum=0), check_number("s", s, minimum=0)
    v, iterations = check_number("v", v), check_count("iterations", iterations)
    history_size = None if history_size is None else check_count("history_size", history_size)
    check_ball_options(
        margin_term=margin_term,
        line_search=line_search,
        faithful=faithful,
        lower_gamma=lower_gamma,
        label_and_targets=label is not None and targets is not None,
    )
    chosen = deep_features(model, layers, "mse")
    goal = checked_goal(model, image, label, margin)
    if faithful and targets is None:
        check_released_classes(goal.label, int(forward(model, image[:1]).shape[1]))
    faithful = bool(faithful)
    # Logits without a gradient show here: later the features' gradient would hide that the margin has none.
    goal.select(slice(0, 1)).linearize(image[:1])
    box = not faithful if box is None else bool(box)
    lower_gamma = not faithful if lower_gamma is None else bool(lower_gamma)
    settings = LBFGSSettings(
        iterations=iterations,
        history_size=history_size or (RELEASED_HISTORY_SIZE if faithful else HISTORY_SIZE),
        line_search=line_search or ("none" if faithful else "backtracking"),
        max_evaluations=iterations * 5 // 4 if faithful else None,
        relative_change=RELATIVE_CHANGE if lower_gamma else 0.0,
    )
    mean, std = normalization(model, image)
    network = model.network if isinstance(model, Classifier) else model
    original = (image - mean) / std
    objective = ball_objective(
        chosen.with_model(network, "mse"),
        original,
        goal.label,
        targets=targets,
        gamma=gamma,
        s=s,
        v=v,
        margin_term=margin_term,
    )
    pixel_bounds = _pixel_bounds(mean, std, image)
    descent = BallDescent(
        settings,
        bounds=pixel_bounds if box and not faithful else None,
        before_evaluation=released_clip(pixel_bounds) if box and faithful else None,
        return_last=faithful,
        observer=observer,
    )
    ball = BallState.at_start(objective, margin, original)
    minimize(ball, descent, lower_gamma=lower_gamma)
    # The difference first, so that an image that did not move comes back bit by bit.
    adversarial = image.double() + (ball.points.view_as(image) - original).double() * std.double()
    if box and not faithful:
        adversarial = adversarial.clamp(0, 1)
    result = measure(
        goal,
        image,
        FinalIterate(adversarial, ball.steps, ball.messages, ball.history),
        step_solver=None,
        constraint=None,
        name=name or ("perceptual ball (released)" if faithful else "perceptual ball"),
        settings={
            "method": "perceptual_ball_lbfgs",
            "layers": list(chosen.layers),
            "gamma": gamma,
            "s": s,
            "v": v,
            "margin_term": margin_term,
            "margin": describe(margin),
            "steps": iterations,
            "recentred": False,
            "lower_gamma": lower_gamma,
            "line_search": settings.line_search,
            "history_size": settings.history_size,
            "box": box,
            "faithful": faithful,
            "label": None if label is None else goal.label.tolist(),
        },
    )
    measured = _with_objective(result, objective, original, (result.adversarial - mean) / std, chosen.layers)
    return replace(measured, seconds=time.perf_counter() - began)


def _with_objective(
    result: PerturbResult, objective: BallObjective, original: Tensor, adversarial: Tensor, layers: tuple[str, ...]
) -> PerceptualBallResult:
    """``result`` with the objective measured at the clean and at the perturbed images, both normalised."""
    everyone = torch.arange(len(original), device=original.device)
    before, after = objective.value(original, everyone), objective.value(adversarial, everyone)
    dtype = original.dtype
    return PerceptualBallResult.extending(
        result,
        layers=layers,
        gamma=objective.gamma.to(dtype),
        objective_before=before.total().to(dtype),
        objective_after=after.total().to(dtype),
        feature_term=after.feature.to(dtype),
        pixel_term=after.pixel.to(dtype),
        margin_term=after.margin.to(dtype),
        feature_distance=after.squared_distance.sqrt().to(dtype),
    )


def normalization(model: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, (1, C, 1, 1), of a Classifier's pixels; 0 and 1 for any other module."""
    if isinstance(model, Classifier):
        return model.mean.to(image.dtype), model.std.to(image.dtype)
    zero = image.new_zeros(1, image.shape[1], 1, 1)
    return zero, zero + 1


def _pixel_bounds(mean: Tensor, std: Tensor, image: Tensor) -> Bounds:
    """[0, 1] in normalised pixels, (1, n)."""
    lower, upper = ((edge - mean) / std for edge in (0, 1))
    return Bounds(lower.expand_as(image[:1]).flatten(1), upper.expand_as(image[:1]).flatten(1))


def check_ball_options(
    *,
    margin_term: str,
    line_search: str | None,
    faithful: bool,
    lower_gamma: bool | None,
    label_and_targets: bool,
) -> None:
    """Raise :class:`InputError` for the first option that can't be used.

    Args:
        margin_term, line_search: names, or ``None`` for the default line search.
        faithful, lower_gamma: as for :func:`perceptual_ball_lbfgs`.
        label_and_targets: whether both were given.
    """
    if margin_term not in get_args(MarginTerm):
        raise unknown_name("margin term", str(margin_term), get_args(MarginTerm))
    if line_search is not None and line_search not in get_args(LineSearch):
        raise unknown_name("line search", str(line_search), get_args(LineSearch))
    if label_and_targets:
        raise InputError("label and targets exclude each other: with targets the margin is that of the targets alone")
    if faithful:
        unreleased = {
            "margin_term='hinge'": margin_term == "hinge",
            "line_search": line_search == "backtracking",
            "lower_gamma=True": bool(lower_gamma),
        }
        for option, given in unreleased.items():
            if given:
                raise InputError(f"faithful=True reproduces the released method, which has no {option}")


def check_released_classes(label: Tensor, classes: int) -> None:
    """Raise :class:`InputError` where the released code fails: for the first class and for the last.

    The released code takes the larger of ``max f[:c]`` and ``max f[c+1:]``, of which one is empty there.
    """
    for image, image_class in enumerate(label.tolist()):
        if image_class in (0, classes - 1):
            raise InputError(
                f"image {image} is of class {image_class}: the released code fails for class 0 and for the last class, "
                f"{classes - 1}; faithful=False does not"
            )
