"""The minimisation of the perceptual ball's objective, and again with a smaller gamma where the decision stands.

Let ``r = score - v``, which is r0 at the clean image. Were features and margin linear, the minimiser would have
``r = r0 / (1 + a/gamma)`` with one unknown a. On photos a varies by less than a factor of two over gamma from 1 to
1000. So each minimiser tells a, and a tells the gamma that leaves ``|r| = |v|/2``: half of the way past the boundary.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.linearization import Margin
from ssimpert.perturbation.history import ObjectiveRow, StepRow
from ssimpert.perturbation.perceptual_ball.lbfgs import ZERO_GRADIENT, Bounds, LBFGSSettings, LBFGSState, descend, start
from ssimpert.perturbation.perceptual_ball.objective import BallObjective

BallObserver = Callable[[LBFGSState], None]

# So many values of gamma are tried.
MAX_GAMMAS = 6
# The next gamma, as a share of the last: at most LARGEST_GAMMA_CUT, and at least SMALLEST_GAMMA_CUT, since the linear
# model is not trusted further than that.
LARGEST_GAMMA_CUT, SMALLEST_GAMMA_CUT = 0.5, 1e-5
FEATURE, PIXEL, MARGIN_TERM, MARGIN, LABEL, SCORE = range(6)  # columns of the notes


@dataclass
class BallState:
    """Where a batch stands, over all values of gamma tried; those are the objective's.

    Attributes:
        points: (B, n), the normalised images to return.
        steps: (B,) long, over all values of gamma.
        messages: (B,), why an image stopped, or empty.
        objective: with each image's present gamma.
        margin: positive where the decision has changed.
        history: a row per iteration and image.
    """

    points: Tensor
    steps: Tensor
    messages: list[str]
    objective: BallObjective
    margin: Margin
    history: list[StepRow] = field(default_factory=list)

    @classmethod
    def at_start(cls, objective: BallObjective, margin: Margin, original: Tensor) -> Self:
        """At the clean images (B, C, H, W), normalised; in their dtype, which may be finer than the network's."""
        points = original.flatten(1).clone()
        return cls(points, torch.zeros_like(objective.label), [""] * len(points), objective, margin)


@dataclass(frozen=True)
class BallDescent:
    """How the objective is minimised.

    Attributes:
        settings: of L-BFGS.
        bounds: the box that iterates are projected onto; ``None`` for none.
        before_evaluation: changes points before they are evaluated, as for
            :func:`~ssimpert.perturbation.perceptual_ball.lbfgs.descend`.
        return_last: return the last iterate, as the released code does, not the one of least value.
        observer: called with the state after every iteration.
    """

    settings: LBFGSSettings
    bounds: Bounds | None
    before_evaluation: Callable[[Tensor], Tensor] | None
    return_last: bool
    observer: BallObserver | None


def minimize(ball: BallState, descent: BallDescent, *, lower_gamma: bool) -> None:
    """Minimise the objective of all images.

    With ``lower_gamma``, minimise again with a smaller gamma for the images whose decision stands, each from where it
    is.
    """
    images = torch.arange(len(ball.points), device=ball.points.device)
    clean_gap: Tensor | None = None
    for number in range(MAX_GAMMAS if lower_gamma else 1):
        state, start_gap = _minimize_once(ball, images, descent)
        clean_gap = start_gap if clean_gap is None else clean_gap
        if lower_gamma:
            images = _lower_gamma(ball, images, state, clean_gap, last=number == MAX_GAMMAS - 1)
        if not images.numel():
            return


def _minimize_once(ball: BallState, images: Tensor, descent: BallDescent) -> tuple[LBFGSState, Tensor]:
    """Run L-BFGS on the images at ``images``, (K,), with their present gamma.

    Returns:
        The last state, and the gap ``score - v`` at the start, (K,).
    """
    objective, began = ball.objective, time.perf_counter()

    def evaluate(points: Tensor, problems: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        indices = images[problems]
        gradient, terms = objective.gradient(points.view(-1, *objective.original.shape[1:]), indices)
        margin = ball.margin(terms.logits, objective.label[indices])
        score = objective.score(terms.logits, indices)
        label = terms.logits.argmax(dim=1).to(score.dtype)
        notes = torch.stack([terms.feature, terms.pixel, terms.margin, margin, label, score], dim=1)
        return terms.total().to(points.dtype), gradient.flatten(1).to(points.dtype), notes

    state = start(evaluate, ball.points[images], descent.settings, descent.bounds)
    if bool(state.failed.all()):
        raise InputError(f"the objective at image {int(images[0])} is {float(state.value[0])}, or its gradient is not")
    start_gap = state.notes[:, SCORE] - objective.v
    for k, message in enumerate(state.messages):
        if message == ZERO_GRADIENT:
            state.messages[k] = _why_flat(float(state.value[k]))
    steps = state.steps.clone()
    iterations = descend(
        evaluate, state, descent.settings, bounds=descent.bounds, before_evaluation=descent.before_evaluation
    )
    for reached in iterations:
        moved = (reached.steps > steps).nonzero()[:, 0]
        steps = reached.steps.clone()
        _record(ball, images, reached, moved, time.perf_counter() - began)
        began = time.perf_counter()
        if descent.observer is not None:
            descent.observer(reached)
    ball.points[images] = state.points if descent.return_last else state.best_points
    ball.steps[images] += state.steps
    for k, image in enumerate(images.tolist()):
        ball.messages[image] = state.messages[k]
    return state, start_gap


def released_clip(bounds: Bounds) -> Callable[[Tensor], Tensor]:
    """The clipping of the released code: an entry that exceeds the upper bound is set to the *lower* bound."""

    def clip(points: Tensor) -> Tensor:
        outside = (points < bounds.lower) | (points > bounds.upper)
        return torch.where(outside, bounds.lower.expand_as(points), points)

    return clip


def _lower_gamma(ball: BallState, images: Tensor, state: LBFGSState, clean_gap: Tensor, *, last: bool) -> Tensor:
    """Lower gamma for those of ``images``, (K,), whose decision stands; the formula is at the top of this file.

    Args:
        ball: changed in place: the objective's gamma, and messages of images for which a smaller gamma is no help.
        images: indices of the images of the last minimisation.
        state: where that minimisation ended.
        clean_gap: r0, (B,), at the clean images.
        last: whether no further value of gamma may be tried.

    Returns:
        The indices of the images to minimise again.
    """
    objective = ball.objective
    gamma, first = objective.gamma[images], clean_gap[images].abs()
    gap = (state.best_notes[:, SCORE] - objective.v).abs()
    wanted = torch.minimum(torch.full_like(first, abs(objective.v) / 2 or torch.inf), first / 2)
    undecided = (state.best_notes[:, MARGIN] <= 0) & ~state.failed & (state.steps > 0)
    # A smaller gamma is no help where the gap is smaller than that already, or has not become smaller at all.
    hopeful = undecided & (gap > wanted) & (gap < first)
    for k in (undecided & ~hopeful).nonzero()[:, 0].tolist():
        ball.messages[int(images[k])] = "the decision stands, and a smaller gamma would not change it"
    if last:
        for k in hopeful.nonzero()[:, 0].tolist():
            ball.messages[int(images[k])] = f"the decision stands with {MAX_GAMMAS} values of gamma"
        return images[:0]
    a = gamma * (first / gap - 1)
    lowered = torch.clamp(a / (first / wanted - 1), gamma * SMALLEST_GAMMA_CUT, gamma * LARGEST_GAMMA_CUT)
    chosen = images[hopeful]
    objective.gamma[chosen] = lowered[hopeful]
    return chosen


def _why_flat(value: float) -> str:
    if value == 0:
        return "the objective is 0 at the clean image: the margin wanted is there already"
    return "the gradient is zero everywhere: the network is saturated here"


def _record(ball: BallState, images: Tensor, state: LBFGSState, moved: Tensor, seconds: float) -> None:
    for k in moved.tolist():
        image, notes = int(images[k]), state.notes[k].tolist()
        row = ObjectiveRow(
            step=int(ball.steps[image] + state.steps[k]),
            image=image,
            margin=notes[MARGIN],
            label=int(notes[LABEL]),
            step_length=float(state.step_length[k]),
            seconds=seconds,
            objective=float(state.value[k]),
            feature_term=notes[FEATURE],
            pixel_term=notes[PIXEL],
            margin_term=notes[MARGIN_TERM],
            gamma=float(ball.objective.gamma[image]),
        )
        ball.history.append(row)
