"""``verify``: no image of a set changes the decision, proved for the network and not for its linearisation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import Model, forward
from ssimpert.perturbation.inputs import check_image
from ssimpert.records import describe
from ssimpert.validation import check_flag, check_pixels
from ssimpert.verification.checked_arguments import MEMORY_LIMIT, Work, checked_arguments
from ssimpert.verification.effort import EffortName
from ssimpert.verification.image_search import ImageSearch
from ssimpert.verification.results import VerificationResult
from ssimpert.verification.sentences import sentence

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
    attack = check_flag("attack", attack)
    if attack:
        check_image(image)  # as perturb does, which measures the SSIM of what it finds
    else:
        check_pixels("image", image, smallest_side=1)
    stop_when_decided = check_flag("stop_when_decided", stop_when_decided)
    work = Work.checked(effort, time_limit, memory_limit, settings)
    checked = checked_arguments(model, image, constraint, work, label=label, support=support)
    images = []
    for number in range(len(image)):
        began = time.perf_counter()
        search = checked.search(
            number,
            constraint.select(torch.tensor([number], device=image.device), len(image)),
            stop_when_decided=stop_when_decided,
            observer=None if observer is None else _observer_of(observer, number),
        )
        search.run(work.effort, attack=attack)
        message = "the time limit was reached" if search.limits.is_over else ""
        images.append(_Done(search, time.perf_counter() - began, message))
    record = {
        "constraint": describe(constraint),
        **checked.record,
        "attack": attack,
        "stop_when_decided": stop_when_decided,
    }
    return _result(images, constraint, checked.region, record)


def _observer_of(observer: Observer, number: int) -> Callable[[str, float], None]:
    return lambda what, bound: observer(number, what, bound)


class _Done(NamedTuple):
    """The finished work on an image.

    Attributes:
        search: the work.
        seconds: how long it took.
        message: why it ended early, or empty.
    """

    search: ImageSearch
    seconds: float
    message: str


def _result(
    images: list[_Done], constraint: Constraint, region: solvers.Support | None, record: dict[str, Any]
) -> VerificationResult:
    """The images' verdicts as one result."""
    searches = [image.search for image in images]
    verdicts = tuple(search.verdict for search in searches)
    adversarial = torch.cat([search.image if search.adversarial is None else search.adversarial for search in searches])
    model, device = searches[0].model, adversarial.device
    return VerificationResult(
        verdict=verdicts,
        label=torch.tensor([search.label for search in searches], device=device),
        margin=torch.tensor([search.clean_margin for search in searches], dtype=torch.float64, device=device),
        class_bound=torch.stack([search.class_bound for search in searches]),
        least_margin_found=torch.stack([search.class_found.min() for search in searches]),
        adversarial=adversarial,
        adversarial_label=forward(model, adversarial).argmax(dim=1),
        loose_numbers=torch.tensor([search.loose for search in searches], device=device),
        seconds=tuple(image.seconds for image in images),
        sentence=tuple(sentence(verdict, constraint, region) for verdict in verdicts),
        messages=tuple(image.message for image in images),
        constraint=constraint,
        settings=record,
    )
