"""The course of a batch over the perceptual ball: L-BFGS, and where the decision stands, again with a smaller gamma."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.linearization import Margin
from ssimpert.perturbation.perceptual_ball.lbfgs import ZERO_GRADIENT, Bounds, LBFGSSettings, LBFGSState, descend, start
from ssimpert.perturbation.perceptual_ball.objective import BallObjective
from ssimpert.perturbation.results import ObjectiveRow, StepRow

BallObserver = Callable[[LBFGSState], None]

MOST_WEIGHTS = 6
# From one gamma to the next: at least halved, and the linear model is not trusted further than this.
LEAST_CUT, MOST_CUT = 0.5, 1e-5
FEATURE, PIXEL, MARGIN_TERM, MARGIN, LABEL, SCORE = range(6)  # columns of the notes


@dataclass
class Course:
    """Where a batch stands, over all weights tried; the weights are the objective's.

    Attributes:
        points: (B, n), the normalised images to return.
        steps: (B,) long, over all weights.
        messages: (B,), why an image stopped, or empty.
        objective: with each image's gamma as it is now.
        goal: positive where the decision has changed.
        history: a row per iteration and image.
    """

    points: Tensor
    steps: Tensor
    messages: list[str]
    objective: BallObjective
    goal: Margin
    history: list[StepRow] = field(default_factory=list)

    @classmethod
    def at_start(cls, objective: BallObjective, goal: Margin, original: Tensor) -> Self:
        """At the clean images (B, C, H, W), normalised; in their dtype, which may be finer than the network's."""
        points = original.flatten(1).clone()
        return cls(points, torch.zeros_like(objective.label), [""] * len(points), objective, goal)


def run(
    course: Course,
    settings: LBFGSSettings,
    bounds: Bounds,
    *,
    box: bool,
    faithful: bool,
    lower_gamma: bool,
    observer: BallObserver | None,
) -> None:
    """Minimise; with ``lower_gamma`` again for the images whose decision did not change, each from where it stands.

    ``box`` keeps to ``bounds`` by projection, or if ``faithful`` by the released clipping.
    """
    images = torch.arange(len(course.points), device=course.points.device)
    clean: Tensor | None = None  # what the clean image's score lacks to v
    for number in range(MOST_WEIGHTS if lower_gamma else 1):
        state, gap = _minimize(course, images, settings, bounds, box=box, faithful=faithful, observer=observer)
        clean = gap if clean is None else clean
        if lower_gamma:
            images = _lower(course, images, state, clean, last=number == MOST_WEIGHTS - 1)
        if not images.numel():
            return


def _minimize(
    course: Course,
    images: Tensor,
    settings: LBFGSSettings,
    bounds: Bounds,
    *,
    box: bool,
    faithful: bool,
    observer: BallObserver | None,
) -> tuple[LBFGSState, Tensor]:
    """L-BFGS on ``images``, (K,); the last state, and what the score lacked to v at the start, (K,)."""
    objective, began = course.objective, time.perf_counter()

    def evaluate(points: Tensor, problems: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        numbers = images[problems]
        gradient, terms = objective.gradient(points.view(-1, *objective.original.shape[1:]), numbers)
        margin = course.goal(terms.logits, objective.label[numbers])
        score = objective.score(terms.logits, numbers)
        label = terms.logits.argmax(dim=1).to(score.dtype)
        notes = torch.stack([terms.feature, terms.pixel, terms.margin, margin, label, score], dim=1)
        return terms.total().to(points.dtype), gradient.flatten(1).to(points.dtype), notes

    projected = bounds if box and not faithful else None
    state = start(evaluate, course.points[images], settings, projected)
    if bool(state.failed.all()):
        raise InputError(f"the objective at image {int(images[0])} is {float(state.value[0])}, or its gradient is not")
    gap = state.notes[:, SCORE] - objective.v
    for k, message in enumerate(state.messages):
        if message == ZERO_GRADIENT:
            state.messages[k] = _why_flat(float(state.value[k]))
    clip = released_clip(bounds) if box and faithful else None
    steps = state.steps.clone()
    for reached in descend(evaluate, state, settings, bounds=projected, before_evaluation=clip):
        moved = (reached.steps > steps).nonzero()[:, 0]
        steps = reached.steps.clone()
        _record(course, images, reached, moved, time.perf_counter() - began)
        began = time.perf_counter()
        if observer is not None:
            observer(reached)
    course.points[images] = state.points if faithful else state.best_points
    course.steps[images] += state.steps
    for k, image in enumerate(images.tolist()):
        course.messages[image] = state.messages[k]
    return state, gap


def released_clip(bounds: Bounds) -> Callable[[Tensor], Tensor]:
    """The released clipping: what exceeds the upper bound is set to the *lower* one."""

    def clip(points: Tensor) -> Tensor:
        outside = (points < bounds.lower) | (points > bounds.upper)
        return torch.where(outside, bounds.lower.expand_as(points), points)

    return clip


def _lower(course: Course, images: Tensor, state: LBFGSState, clean: Tensor, *, last: bool) -> Tensor:
    """Lower gamma for those of ``images``, (K,), whose decision did not change; their numbers.

    Were features and margin linear, ``r = score - v`` would be ``r0 / (1 + a/gamma)`` at the minimiser, with r0 at the
    clean image and one unknown a (on photos it varies by less than a factor of two over gamma from 1 to 1000). So each
    minimiser tells a, and with it the gamma that leaves r = |v|/2: half of the way past the border.
    """
    objective = course.objective
    gamma, first = objective.gamma[images], clean[images].abs()
    rest = (state.best_notes[:, SCORE] - objective.v).abs()
    wanted = torch.minimum(torch.full_like(first, abs(objective.v) / 2 or torch.inf), first / 2)
    undecided = (state.best_notes[:, MARGIN] <= 0) & ~state.failed & (state.steps > 0)
    # Nearer to v than that, or no nearer for all the steps: a smaller gamma is no help.
    hopeful = undecided & (rest > wanted) & (rest < first)
    for k in (undecided & ~hopeful).nonzero()[:, 0].tolist():
        course.messages[int(images[k])] = "the decision stands, and a smaller gamma would not change it"
    if last:
        for k in hopeful.nonzero()[:, 0].tolist():
            course.messages[int(images[k])] = f"the decision stands with {MOST_WEIGHTS} values of gamma"
        return images[:0]
    reach = gamma * (first / rest - 1)
    cut = torch.clamp(reach / (first / wanted - 1), gamma * MOST_CUT, gamma * LEAST_CUT)
    chosen = images[hopeful]
    objective.gamma[chosen] = cut[hopeful]
    return chosen


def _why_flat(value: float) -> str:
    if value == 0:
        return "the objective is 0 at the clean image: the margin wanted is there already"
    return "the gradient is zero everywhere: the network is saturated here"


def _record(course: Course, images: Tensor, state: LBFGSState, moved: Tensor, seconds: float) -> None:
    for k in moved.tolist():
        image, notes = int(images[k]), state.notes[k].tolist()
        row = ObjectiveRow(
            step=int(course.steps[image] + state.steps[k]),
            image=image,
            margin=notes[MARGIN],
            label=int(notes[LABEL]),
            step_length=float(state.step_length[k]),
            seconds=seconds,
            objective=float(state.value[k]),
            feature_term=notes[FEATURE],
            pixel_term=notes[PIXEL],
            margin_term=notes[MARGIN_TERM],
            gamma=float(course.objective.gamma[image]),
        )
        course.history.append(row)
