"""``perceptual_ball_lbfgs``: the perceptual ball of Elliott, Law and Russell (CVPR 2021), by L-BFGS on a batch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import get_args

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError, unknown_name
from ssimpert.linearization.deep_features import Features, deep_features
from ssimpert.models import Classifier
from ssimpert.models.forward_passes import forward
from ssimpert.perturbation.evaluation import End, measure
from ssimpert.perturbation.inputs import check_image, labels_of
from ssimpert.perturbation.perceptual_ball.gamma_schedule import BallObserver, Course, run
from ssimpert.perturbation.perceptual_ball.lbfgs import Bounds, LBFGSSettings, LineSearch
from ssimpert.perturbation.perceptual_ball.objective import BallObjective, MarginTerm, ball_objective, goal_of
from ssimpert.perturbation.results import PerceptualBallResult, PerturbResult
from ssimpert.records import describe

HISTORY_SIZE, RELEASED_HISTORY_SIZE = 10, 100
# Where gamma may be lowered, an objective that falls by less than this part of itself a step counts as minimised.
RELATIVE_CHANGE = 1e-3


def perceptual_ball_lbfgs(
    model: nn.Module,
    image: Tensor,
    *,
    layers: Sequence[str] | None = None,
    gamma: float = 1e4,
    s: float = 1.0,
    v: float = -2.0,
    margin_term: MarginTerm = "equality",
    targets: tuple[int, ...] | None = None,
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
    """Minimise, over x' in normalised pixels, starting at x::

        gamma sum_l MSE(phi_l(x'), phi_l(x)) + s MSE(x', x) + (f_c(x') - max_{j != c} f_j(x') - v)^2

    Args:
        model: a :class:`~ssimpert.Classifier` on [0, 1] images, or a plain module, whose own input then counts as
            normalised. Must return logits (B, K).
        image: x, (B, C, H, W) in [0, 1], float32 or float64.
        layers: names of the feature layers; default :func:`~ssimpert.linearization.default_layers`. None at all
            (``()``) leaves the feature term out.
        gamma, s: weights of features and pixels, at least 0; the paper's are 10000 and 1.
        v: the margin wanted, in logits; the paper's is -2: the class ends 2 logits below the runner-up.
        margin_term: "equality" (the paper's), or "hinge", ``max(... - v, 0)^2``.
        targets: for several classes T, the margin term is ``(max_{t in T} f_t(x') - v)^2``: ``v`` is then a logit,
            which the strongest of the classes is driven down to, or up to. Success means that the decision left T,
            or, for an image whose own class is not in T, entered it.
        label: c, (B,) long; default the model's own. Not together with ``targets``.
        iterations: most iterations of L-BFGS for each weight tried; the paper's example uses 100, the released
            function 200.
        lower_gamma: where the minimiser does not change the decision, try again with the gamma at which a linear
            model of the margin promises that it does, up to five times (see below). Default: unless ``faithful``.
        line_search: "backtracking" (default) or "none" (the released behaviour): see
            :class:`~ssimpert.perturbation.perceptual_ball.lbfgs.LBFGSSettings`.
        history_size: curvature pairs, default 10; 100 if ``faithful``. An image of n values takes
            ``2 n history_size`` numbers: at 3x224x224 in float32 12 MB with 10, 120 MB with 100.
        box: keep every iterate within [0, 1], by projection; default unless ``faithful``. Without it ``adversarial``
            may leave [0, 1].
        faithful: the released behaviour, faults included: full steps, history of 100, the end point not clipped and
            not the best one; with ``box`` its clipping, which writes the *lower* bound where a pixel exceeds the
            upper one, before every evaluation but not at the end; class 0 and the last class fail. One difference:
            an image whose objective becomes NaN stops at its last finite iterate.
        name: what tables call it.
        observer: called with the state after every iteration, for progress bars.

    The feature term's size depends on the network, and 10000 is the paper's weight for the ReLUs of a VGG. For features
    that are larger or steeper the minimiser barely moves (docs/notes/perceptual-ball.md). With ``lower_gamma`` an image
    whose decision stands gets a smaller gamma, at which the model expects |v|/2 to be left of ``score - v``: half of
    the way past the border, so somewhat smaller than the change itself takes.

    Returns:
        One entry per image, the iterate of least objective (``faithful``: the last), measured afresh.
        ``history`` has a row (:class:`~ssimpert.perturbation.results.ObjectiveRow`) per iteration and image.

    Raises:
        InputError: images, layers or options that can't be used; raised before any step.
    """
    began = time.perf_counter()
    goal = goal_of(targets)
    check_image(image)
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch module, whose layers can be watched, got {type(model).__name__}")
    check_ball_options(
        {"gamma": gamma, "s": s, "v": v},
        {"iterations": iterations, "history_size": history_size},
        margin_term=margin_term,
        line_search=line_search,
        faithful=faithful,
        lower_gamma=lower_gamma,
        label_and_targets=label is not None and targets is not None,
    )
    chosen = deep_features(model, layers, "mse")
    own = labels_of(model, image, label, goal)
    if faithful and targets is None:
        check_released_classes(own, int(forward(model, image[:1]).shape[1]))
    box = not faithful if box is None else box
    lower_gamma = not faithful if lower_gamma is None else lower_gamma
    settings = LBFGSSettings(
        iterations=iterations,
        history_size=history_size or (RELEASED_HISTORY_SIZE if faithful else HISTORY_SIZE),
        line_search=line_search or ("none" if faithful else "backtracking"),
        most_evaluations=iterations * 5 // 4 if faithful else None,
        relative_change=RELATIVE_CHANGE if lower_gamma else 0.0,
    )
    mean, std = normalization(model, image)
    network = model.network if isinstance(model, Classifier) else model
    original = (image - mean) / std
    objective = ball_objective(
        Features(network, chosen.layers, "mse"),
        original,
        own,
        targets=targets,
        gamma=gamma,
        s=s,
        v=v,
        margin_term=margin_term,
    )
    course = Course.at_start(objective, goal, original)
    bounds = _pixel_bounds(mean, std, image)
    run(course, settings, bounds, box=box, faithful=faithful, lower_gamma=lower_gamma, observer=observer)
    # The difference first, so that an image that did not move comes back bit by bit.
    adversarial = image.double() + (course.points.view_as(image) - original).double() * std.double()
    if box and not faithful:
        adversarial = adversarial.clamp(0, 1)
    result = measure(
        model,
        image,
        End(adversarial, course.steps, course.messages, course.history),
        own,
        goal,
        rule=None,
        constraint=None,
        name=name or ("perceptual ball (released)" if faithful else "perceptual ball"),
        settings={
            "method": "perceptual_ball_lbfgs",
            "layers": list(chosen.layers),
            "gamma": gamma,
            "s": s,
            "v": v,
            "margin_term": margin_term,
            "margin": describe(goal),
            "steps": iterations,
            "recentred": False,
            "lower_gamma": lower_gamma,
            "line_search": settings.line_search,
            "history_size": settings.history_size,
            "box": box,
            "faithful": faithful,
            "label": None if label is None else own.tolist(),
        },
        seconds=0.0,
    )
    return _with_objective(result, objective, original, (result.adversarial - mean) / std, chosen.layers, began)


def _with_objective(
    result: PerturbResult,
    objective: BallObjective,
    original: Tensor,
    adversarial: Tensor,
    layers: tuple[str, ...],
    began: float,
) -> PerceptualBallResult:
    """The objective measured at both images, normalised, beside what was measured already."""
    everyone = torch.arange(len(original), device=original.device)
    before, after = objective.value(original, everyone), objective.value(adversarial, everyone)
    measured = {entry.name: getattr(result, entry.name) for entry in fields(result)}
    dtype = original.dtype
    return PerceptualBallResult(
        **(measured | {"seconds": time.perf_counter() - began}),
        layers=layers,
        gamma=objective.gamma.to(dtype),
        objective_before=before.total().to(dtype),
        objective_after=after.total().to(dtype),
        feature_term=after.feature.to(dtype),
        pixel_term=after.pixel.to(dtype),
        margin_term=after.margin.to(dtype),
        feature_distance=after.squared_distance.sqrt().to(dtype),
    )


def normalization(model: nn.Module, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, (1, C, 1, 1), of a Classifier's pixels; 0 and 1 for any other module."""
    if isinstance(model, Classifier):
        return model.mean.to(like.dtype), model.std.to(like.dtype)
    zero = like.new_zeros(1, like.shape[1], 1, 1)
    return zero, zero + 1


def _pixel_bounds(mean: Tensor, std: Tensor, image: Tensor) -> Bounds:
    """[0, 1] in normalised pixels, (1, n)."""
    lower, upper = ((edge - mean) / std for edge in (0, 1))
    return Bounds(lower.expand_as(image[:1]).flatten(1), upper.expand_as(image[:1]).flatten(1))


def check_ball_options(
    weights: Mapping[str, float],
    counts: Mapping[str, int | None],
    *,
    margin_term: str,
    line_search: str | None,
    faithful: bool,
    lower_gamma: bool | None,
    label_and_targets: bool,
) -> None:
    """Raise :class:`InputError` for the first option that can't be used. ``weights``: gamma, s and v; ``counts``:
    integers of at least 1, or ``None`` for the default."""
    for name, value in weights.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{name} must be a finite number, got {value!r}")
        if name != "v" and value < 0:
            raise InputError(f"{name} must be at least 0, got {value!r}")
    for name, count in counts.items():
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise InputError(f"{name} must be an integer of at least 1, got {count!r}")
    if margin_term not in get_args(MarginTerm):
        raise unknown_name("margin term", str(margin_term), get_args(MarginTerm))
    if line_search is not None and line_search not in get_args(LineSearch):
        raise unknown_name("line search", str(line_search), get_args(LineSearch))
    if label_and_targets:
        raise InputError("label and targets exclude each other: with targets the margin is that of the targets alone")
    if faithful:
        released = (margin_term == "equality", line_search in (None, "none"), not lower_gamma)
        for held, option in zip(released, ("margin_term='hinge'", "line_search", "lower_gamma=True"), strict=True):
            if not held:
                raise InputError(f"faithful=True reproduces the released method, which has no {option}")


def check_released_classes(label: Tensor, classes: int) -> None:
    """Raise :class:`InputError` where the released code does: it takes the larger of ``max f[:c]`` and
    ``max f[c+1:]``, and one of them is empty for the first class and for the last."""
    for image, own in enumerate(label.tolist()):
        if own in (0, classes - 1):
            raise InputError(
                f"image {image} is of class {own}: the released code fails for class 0 and for the last class, "
                f"{classes - 1}; faithful=False does not"
            )
