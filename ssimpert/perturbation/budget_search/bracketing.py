"""The search for the least level: brackets, walks along the boundary, and in the end the other near classes.

For each image::

    until the bracket [low, high] of levels is closed:
        try a level: climb within its set, from the best perturbation so far
        on success:  shorten the perturbation to the boundary and measure its level; walk on from there
        on failure:  the level becomes the bracket's low end
    for each rival class that is nearly as near:
        try just below ``high``, from the clean image; close the bracket again where that succeeds
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ssimpert.perturbation.budget_search.attempt import Attempt
from ssimpert.perturbation.budget_search.boundary_cut import shorten_to_boundary
from ssimpert.perturbation.budget_search.boundary_walk import BoundaryPoints, BoundaryWalk
from ssimpert.perturbation.budget_search.levels import LEVEL_ROOM, least_level
from ssimpert.perturbation.goal import Goal
from ssimpert.perturbation.history import StepRow, renumbered

# A bracket without a failed level is searched downwards by this factor, one without a success upwards by 2.
DOWNWARD_FACTOR = 4.0
# An attempt just below a level goes this share of the tolerance below it.
BELOW_SHARE = 0.9
# So many classes are tried after the nearest one, and only such as are, to first order, at most so many times as far:
# the boundary is curved.
MAX_RIVALS, MAX_RIVAL_DISTANCE = 2, 1.3
# Walks, and climbs to a rival from the clean image, may take so many times the steps of a climb at a level.
LONG_RUN_FACTOR = 2


@dataclass(frozen=True)
class Target:
    """What the engine climbs.

    Attributes:
        goal: reached only where the goal of the search is reached.
        rivals: (B, N) long, further labels for ``goal``, nearest first; N may be 0.
        rival_distance: (B, N), the rivals' distances, to first order, as multiples of that of the goal's label.
    """

    goal: Goal
    rivals: Tensor
    rival_distance: Tensor


@dataclass
class Brackets:
    """The brackets of the least levels, (B,) each, and the best perturbations, (B, C, H, W) float64.

    An image plus its perturbation is exactly what the images' dtype holds.

    Attributes:
        low: the largest level below ``high`` that failed; 0 for none.
        high: the least level that succeeded; infinite for none.
        delta: the best perturbations; 0 for none.
        start: where the next climb begins: at the best perturbation; without any, where the last climb failed.
        rounds: (B,) long, levels tried.
        steps: (B,) long, gradients spent on climbs and walks.
        walked: (B,) bool, whether the best perturbation is where a walk ended.
        failed: the levels that failed, per image.
        history: rows of climbs and walks.
    """

    low: Tensor
    high: Tensor
    delta: Tensor
    start: Tensor
    rounds: Tensor
    steps: Tensor
    walked: Tensor
    failed: list[list[float]]
    history: list[StepRow] = field(default_factory=list)

    @classmethod
    def widest(cls, reference: Tensor, clean_margin: Tensor) -> Brackets:
        """The widest brackets for images (B, C, H, W); closed where the clean image reaches the goal already."""
        zero = torch.zeros_like(clean_margin, dtype=torch.float64)
        none = torch.zeros(len(clean_margin), dtype=torch.long, device=clean_margin.device)
        return cls(
            low=zero.clone(),
            high=torch.full_like(zero, torch.inf).masked_fill(clean_margin > 0, 0.0),
            delta=torch.zeros_like(reference),
            start=torch.zeros_like(reference),
            rounds=none.clone(),
            steps=none.clone(),
            walked=torch.zeros_like(none, dtype=torch.bool),
            failed=[[] for _ in range(len(clean_margin))],
        )

    def renew_low(self, image_indices: Tensor) -> None:
        """Set ``low`` to the largest failed level below ``high``.

        A level above ``high`` that failed from elsewhere says nothing any more.
        """
        for index in image_indices.tolist():
            high = float(self.high[index])
            self.low[index] = max((level for level in self.failed[index] if level < high), default=0.0)

    def record(self, rows: list[StepRow], image_indices: Tensor) -> None:
        """Take up rows whose images are numbered by their positions in ``image_indices``, (K,)."""
        self.history += renumbered(tuple(rows), dict(enumerate(image_indices.tolist())))


@dataclass(frozen=True)
class BracketSearch:
    """How the least levels of a batch are looked for.

    Attributes:
        attempt: families, engine and solver.
        goal: decides about success.
        image: the clean images, (B, C, H, W).
        clean_margin: (B,), the margin of ``goal`` at ``image``.
        target: what is climbed.
        rounds: most levels tried per image.
        tolerance: relative width of a closed bracket.
        observer: called with the brackets after every level tried, for whichever images, and the walk from there.
    """

    attempt: Attempt
    goal: Goal
    image: Tensor
    clean_margin: Tensor
    target: Target
    rounds: int
    tolerance: float
    observer: Callable[[Brackets], None] | None = None

    def run(self, brackets: Brackets, image_indices: Tensor) -> None:
        """Close the brackets of the images at ``image_indices`` (long, (K,)), then let rivals try to go below."""
        climbed = self.target.goal
        self._close(brackets, image_indices, climbed)
        for n in range(min(MAX_RIVALS, self.target.rivals.shape[1])):
            near = self.target.rival_distance[image_indices, n] <= MAX_RIVAL_DISTANCE
            tried = image_indices[near & brackets.high[image_indices].isfinite()]
            tried = tried[brackets.rounds[tried] < self.rounds]
            if not tried.numel():
                continue
            high_before, clean = brackets.high[tried].clone(), torch.zeros_like(brackets.delta[tried])
            rival = _with_labels(climbed, tried, self.target.rivals[tried, n])
            level = self._just_below(brackets)
            self._try(brackets, level, tried, rival, clean, LONG_RUN_FACTOR * self.attempt.steps)
            won = tried[brackets.high[tried] < high_before]
            climbed = _with_labels(climbed, won, rival.label[won])
            self._close(brackets, won, climbed)

    def _close(self, brackets: Brackets, image_indices: Tensor, climbed: Goal) -> None:
        """Try levels for the images at ``image_indices`` until their brackets are within the tolerance."""
        largest = self.attempt.families[0].largest
        while True:
            high, low = brackets.high[image_indices], brackets.low[image_indices]
            wide = (high > (1 + self.tolerance) * low) & ~(high.isinf() & (low >= largest))
            pending = image_indices[wide & (brackets.rounds[image_indices] < self.rounds)]
            if not pending.numel():
                return
            level = self._next_level(brackets)
            self._try(brackets, level, pending, climbed, brackets.start[pending], self.attempt.steps)

    def _just_below(self, brackets: Brackets) -> Tensor:
        """(B,), below the least level that succeeded by most of the tolerance."""
        return brackets.high / (1 + BELOW_SHARE * self.tolerance)

    def _next_level(self, brackets: Brackets) -> Tensor:
        """The level to try next, (B,).

        Without a success: the family's first level, then twice the failed one. With one: a quarter of it, or the
        bracket's geometric mean, or just below it where a walk ended.
        """
        family = self.attempt.families[0]
        upwards = (2 * brackets.low).clamp_max(family.largest)
        upwards = torch.where(brackets.rounds == 0, family.first, upwards)
        between = torch.where(brackets.low > 0, (brackets.low * brackets.high).sqrt(), brackets.high / DOWNWARD_FACTOR)
        between = torch.where(brackets.walked, self._just_below(brackets), between)
        return torch.where(brackets.high.isinf(), upwards, between)

    def _try(
        self, brackets: Brackets, level: Tensor, pending: Tensor, climbed: Goal, start: Tensor, steps: int
    ) -> None:
        """Try a level for some images, walk on from their successes, and move the brackets.

        Args:
            brackets: changed in place.
            level: (B,), of which those of ``pending`` are tried.
            pending: indices of the images, (K,) long.
            climbed: the goal of the whole batch that the engine climbs.
            start: the perturbations to begin with, (K, C, H, W).
            steps: most steps of the engine.
        """
        attempt = self.attempt
        reference = self.image[pending].to(torch.float64)
        sets = attempt.sets(level[pending], pending)
        state = attempt.run(climbed.select(pending), reference, sets, start, pending, stop_at_success=True, steps=steps)
        brackets.rounds[pending] += 1
        brackets.steps[pending] += state.steps
        brackets.record(state.history, pending)
        improved = self._take_successes(brackets, level, pending, state.images)
        without_success = brackets.high[pending].isinf()
        brackets.start[pending[without_success]] = (state.images - reference)[without_success]
        if improved and attempt.engine == "projected_gradient":
            self._walk(brackets, torch.tensor(improved, device=pending.device), climbed)
        with_success = pending[brackets.high[pending].isfinite()]
        brackets.start[with_success] = brackets.delta[with_success]
        brackets.renew_low(pending)
        if self.observer is not None:
            self.observer(brackets)

    def _take_successes(self, brackets: Brackets, level: Tensor, pending: Tensor, perturbed: Tensor) -> list[int]:
        """Shorten perturbed images (K, C, H, W) to the boundary; note failed levels, and successes of lower level.

        Returns:
            The indices of the images whose high end fell.
        """
        shortened, reached = shorten_to_boundary(
            self.goal.select(pending), self.image[pending], perturbed, self.clean_margin[pending]
        )
        reference, improved = self.image[pending].to(torch.float64), []
        for k, index in enumerate(pending.tolist()):
            tried = float(level[index])
            if not bool(reached[k]):
                brackets.failed[index].append(tried)
                continue
            found_level = least_level(
                self.attempt.families[index], reference[k : k + 1], shortened[k : k + 1], LEVEL_ROOM * tried
            )
            if found_level < float(brackets.high[index]):
                brackets.high[index], brackets.delta[index], brackets.walked[index] = found_level, shortened[k], False
                improved.append(index)
        return improved

    def _walk(self, brackets: Brackets, image_indices: Tensor, climbed: Goal) -> None:
        """Walk on from the best perturbations of the images at ``image_indices`` (long, (K,))."""
        walk = BoundaryWalk(
            attempt=self.attempt,
            goal=self.goal.select(image_indices),
            climbed=climbed.select(image_indices),
            image=self.image[image_indices],
            clean_margin=self.clean_margin[image_indices],
            image_indices=image_indices,
        )
        points = BoundaryPoints(
            delta=brackets.delta[image_indices],
            level=brackets.high[image_indices],
            steps=torch.zeros_like(image_indices),
            history=[],
        )
        walk.run(points, steps=LONG_RUN_FACTOR * self.attempt.steps, tolerance=self.tolerance)
        brackets.delta[image_indices], brackets.high[image_indices] = points.delta, points.level
        brackets.steps[image_indices] += points.steps
        brackets.walked[image_indices] = True
        brackets.record(points.history, image_indices)


def _with_labels(goal: Goal, image_indices: Tensor, labels: Tensor) -> Goal:
    """The goal of the whole batch, with other labels (K,) for the images at ``image_indices`` (K,)."""
    label = goal.label.clone()
    label[image_indices] = labels
    return replace(goal, label=label)
