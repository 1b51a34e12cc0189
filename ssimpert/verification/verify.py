"""``verify``: no image of a set changes the decision, proved for the network and not for its linearisation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.linearization import Untargeted
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import Model, forward
from ssimpert.perturbation.engines.step_solver import certified
from ssimpert.perturbation.evaluation import require_sound_margins
from ssimpert.perturbation.inputs import check_image, checked_goal, support_set, support_share
from ssimpert.records import describe, describe_settings
from ssimpert.validation import check_count, check_flag, check_pixels, check_positive
from ssimpert.verification.effort import EffortName, effort_of
from ssimpert.verification.image_search import ImageSearch
from ssimpert.verification.linear_bounds import rows_at_once
from ssimpert.verification.perturbation_set import PerturbationSet
from ssimpert.verification.pre_activation_bounds import Limits
from ssimpert.verification.results import VerificationResult
from ssimpert.verification.sentences import sentence
from ssimpert.verification.tracing import trace

# The solver's settings by default: a percent of a bound decides few verdicts.
SOLVER_SETTINGS = solvers.Settings(eps_rel=1e-2, max_iter=400)
MEMORY_LIMIT = 2**31

Observer = Callable[[int, str, float], None]
"""Told of the image's number, of what is done, and of the bound so far."""


@takes_model
def verify(
    model: Model,
    image: Tensor,
    constraint: Constraint,
    *,
    label: Tensor | None = None,
    effort: EffortName = "standard",
    time_limit: float | None = None,
    memory_limit: int = MEMORY_LIMIT,
    attack: bool = True,
    stop_when_decided: bool = True,
    support: Tensor | None = None,
    settings: solvers.Settings | dict[str, Any] | None = None,
    observer: Observer | None = None,
) -> VerificationResult:
    """Prove that no image of a set changes the decision, or find one that does.

    The network is bounded from below by linear functions of the perturbation (CROWN), whose least value over the set is
    certified by :func:`solvers.solve`. Where the bound on every margin is positive, no image of the set changes the
    decision. See the page on verification for the mathematics.

    Args:
        model: a ``torch.nn.Module`` in evaluation mode, on [0, 1] images, that returns logits (B, K). It is traced by
            torch.fx, and every layer needs a propagation rule.
        image: (B, C, H, W) in [0, 1], float32 or float64.
        constraint: a set of :mod:`solvers` with a certified bound. The pixel box [0, 1] is always added. Take
            :class:`~solvers.ProductSSIM` for the exact SSIM index, or
            :func:`~ssimpert.verification.outer_index_set` for a convex set around it.
        label: the true classes (B,) long; an image that the model takes for another class is refused. Default: the
            model's own labels.
        effort: ``"cheap"``: one pass, minimised over the set. ``"standard"`` (default): also slopes that are optimised
            against the bound, and bounds over the set for the inner numbers that matter most. ``"thorough"``: more of
            both, and branch and bound over the signs of ReLU inputs.
        time_limit: seconds for each image, positive. The best bound so far is then returned, which is certified too.
            Default: none.
        memory_limit: bytes for the coefficients of one pass, and for one solve. Default 2 GiB.
        attack: whether :func:`~ssimpert.perturb` looks for an image that changes the decision, where the cheap bound
            does not verify the image. It takes images of at least 11 pixels a side, as :func:`~ssimpert.perturb` does.
        stop_when_decided: whether the work on an image ends at its verdict. ``False`` goes on to the tightest bound of
            the effort.
        support: where pixels may change, bool, as for :func:`~ssimpert.perturb`. Default: everywhere.
        settings: of the solver. Default: a relative gap of 1e-2, and at most 400 iterations.
        observer: called with the image's number, with what is done, and with the bound so far.

    Returns:
        One entry per image.

    Raises:
        InputError: a model that can't be traced, that is in training mode, that returns no logits, or that has a layer
            without a rule; an image of another class than its label; a set without a certified bound; an option out of
            range, or a memory limit that is too small for one row. Raised before any bound is computed.
        solvers.ProblemError: a set that does not fit the images.
    """
    settings = SOLVER_SETTINGS if settings is None else solvers.Settings.of(settings)
    attack = check_flag("attack", attack)
    if attack:
        check_image(image)  # as perturb does, which measures the SSIM of what it finds
    else:
        check_pixels("image", image, smallest_side=1)
    steps = effort_of(effort)
    time_limit = math.inf if time_limit is None else check_positive("time_limit", time_limit)
    memory_limit = check_count("memory_limit", memory_limit)
    stop_when_decided = check_flag("stop_when_decided", stop_when_decided)
    check_certified_set(constraint)
    constraint.check(image)
    region = support_set(support, image)
    labels = checked_labels(model, image, label)
    network = trace(model, image[:1])
    rows_at_once(network, memory_limit, with_gradients=steps.slope_iterations > 0)
    PerturbationSet.check_memory(image[:1], memory_limit)
    images = []
    for number in range(len(image)):
        began = time.perf_counter()
        index = torch.tensor([number], device=image.device)
        search = ImageSearch(
            model=model,
            network=network,
            image=image[number : number + 1],
            label=int(labels[number]),
            constraint=constraint.select(index, len(image)),
            support=None if region is None else region.select(index, len(image)),
            settings=settings,
            limits=Limits(memory_limit, began + time_limit),
            stop_when_decided=stop_when_decided,
            observer=None if observer is None else _observer_of(observer, number),
        )
        search.run(steps, attack=attack)
        images.append((search, time.perf_counter() - began))
    record = {
        "constraint": describe(constraint),
        "effort": effort,
        "time_limit": None if math.isinf(time_limit) else time_limit,
        "memory_limit": memory_limit,
        "attack": attack,
        "stop_when_decided": stop_when_decided,
        "support": support_share(support),
        "solver": describe_settings(settings),
        "label": None if label is None else labels.tolist(),
    }
    return _result(images, constraint, region, record)


def check_certified_set(constraint: Constraint) -> None:
    """Raise :class:`InputError` unless the solvers certify a bound over ``constraint``."""
    if not isinstance(constraint, Constraint):
        raise InputError(f"constraint must be a set such as solvers.ProductSSIM, got {constraint!r}")
    if isinstance(constraint, solvers.MeanSSIM) and not constraint.window.is_tiling:
        raise InputError(
            "MeanSSIM on overlapping windows has no certified bound, so nothing can be proved over it; give it tiles "
            "(a stride equal to the window's size), or take ProductSSIM"
        )
    if certified(constraint, "auto") == "stationary":
        raise InputError(f"{constraint.kind} has no certified bound, so nothing can be proved over it")


def checked_labels(model: Model, image: Tensor, label: Tensor | None) -> Tensor:
    """The classes (B,) that are decided for.

    Raises:
        InputError: no logits, wrong labels, or an image that the model takes for another class than its label.
    """
    goal = checked_goal(model, image, label, Untargeted())
    logits = forward(model, image)
    require_sound_margins(goal.margin(logits, goal.label))
    own = logits.argmax(dim=1)
    for number, (given, predicted) in enumerate(zip(goal.label.tolist(), own.tolist(), strict=True)):
        if given != predicted:
            raise InputError(
                f"image {number} is classified as {predicted}, not as its label {given}; there is no decision to verify"
            )
    return goal.label


def _observer_of(observer: Observer, number: int) -> Callable[[str, float], None]:
    return lambda what, bound: observer(number, what, bound)


def _result(
    images: list[tuple[ImageSearch, float]],
    constraint: Constraint,
    region: solvers.Support | None,
    record: dict[str, Any],
) -> VerificationResult:
    """The images' verdicts as one result."""
    searches = [search for search, _ in images]
    verdicts = tuple(search.verdict for search in searches)
    adversarial = torch.cat([search.image if search.adversarial is None else search.adversarial for search in searches])
    model, device = searches[0].model, adversarial.device
    class_bound = torch.stack([search.class_bound for search in searches])
    return VerificationResult(
        verdict=verdicts,
        label=torch.tensor([search.label for search in searches], device=device),
        margin=torch.tensor([search.clean_margin for search in searches], dtype=torch.float64, device=device),
        class_bound=class_bound,
        bound=class_bound.amin(dim=1),
        tightest_class=class_bound.argmin(dim=1),
        least_margin_found=torch.stack([search.class_found.min() for search in searches]),
        adversarial=adversarial,
        adversarial_label=forward(model, adversarial).argmax(dim=1),
        loose_numbers=torch.tensor([search.loose for search in searches], device=device),
        seconds=tuple(seconds for _, seconds in images),
        sentence=tuple(sentence(verdict, constraint, region) for verdict in verdicts),
        messages=tuple(_message(search) for search in searches),
        constraint=constraint,
        settings=record,
    )


def _message(search: ImageSearch) -> str:
    """Why the work on an image ended early, or empty."""
    return "the time limit was reached" if search.limits.is_over else ""
