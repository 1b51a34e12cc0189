"""A walk along the decision border: step up the margin within the present level, cut back to the border, repeat.

A success found by climbing at some level and cut to the border is rarely the least along it: the border is curved, and
the climb came from elsewhere. Like DDN (Rony et al., CVPR 2019) the walk lets the level follow the point, but for any
set that the solvers project onto, and only downwards: every point it keeps is on the near side of the last one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.batch_algebra import norm, per_image
from ssimpert.linearization import Margin, linearize
from ssimpert.models.forward_passes import forward
from ssimpert.perturbation.budget_search.attempt import Attempt
from ssimpert.perturbation.budget_search.boundary_cut import cut_to_border
from ssimpert.perturbation.budget_search.levels import ROOM, least_level
from ssimpert.perturbation.engines.oracle import Oracle
from ssimpert.perturbation.results import StepRow

# The first step, as a share of the perturbation's l2 norm; what becomes of it after a gain and after none.
FIRST, LONGER, SHORTER = 0.1, 1.5, 0.5
# So many lengths are tried along one direction.
TRIALS = 4
# How much of the last direction the next one keeps: across a curved border plain gradients zigzag.
INERTIA = 0.6
# The walk ends once so many gradients together lowered the level by less than half the tolerance.
PATIENCE = 4


@dataclass
class Border:
    """Points on the border of the decision, on its far side, one per image; moved in place.

    Attributes:
        delta: (K, C, H, W) float64, perturbations on the images' own grid.
        level: (K,) float64, the least levels that hold them.
        steps: (K,) long, gradients spent.
        history: one row per step and image, the images numbered 0 to K - 1.
    """

    delta: Tensor
    level: Tensor
    steps: Tensor
    history: list[StepRow]


@dataclass(frozen=True)
class BorderWalk:
    """Lowers the levels of perturbations that stay successful.

    Attributes:
        attempt: model, families and solver.
        image: (K, C, H, W); label: (K,); margin: decides about success; clean: (K,), its value
            at ``image``.
        climbed, towards: the margin whose gradients are followed, and its labels (K,).
        numbers: the images' places in the batch, (K,).
    """

    attempt: Attempt
    image: Tensor
    label: Tensor
    margin: Margin
    clean: Tensor
    climbed: Margin
    towards: Tensor
    numbers: Tensor

    def run(self, border: Border, *, steps: int, tolerance: float) -> None:
        """At most ``steps`` gradients per image; an image ends where they gain no more, see ``PATIENCE``."""
        model, reference = self.attempt.model, self.image.to(torch.float64)
        oracle = self.attempt.oracle(self.attempt.sets(border.level, self.numbers), self.numbers)
        length, direction = FIRST * norm(border.delta), torch.zeros_like(reference)
        marks = [border.level.clone()]
        active = torch.ones_like(border.level, dtype=torch.bool)
        for number in range(1, steps + 1):
            began = time.perf_counter()
            moving = active.nonzero()[:, 0]
            if not moving.numel():
                break
            gradient = linearize(
                model, reference[moving] + border.delta[moving], self.towards[moving], self.climbed
            ).gradient
            border.steps[moving] += 1
            size = norm(gradient)
            sound = size.isfinite() & (size > 0)
            active[moving[~sound]] = False
            moving = moving[sound]
            mixed = INERTIA * direction[moving] + (1 - INERTIA) * gradient[sound] / per_image(size[sound])
            direction[moving] = mixed / per_image(norm(mixed).clamp_min(torch.finfo(mixed.dtype).tiny))
            stuck = self._advance(border, oracle, direction, length, moving, number)
            direction[stuck] = 0
            marks.append(border.level.clone())
            if number >= PATIENCE:
                active &= border.level < (1 - tolerance / 2) * marks[-1 - PATIENCE]
            self._record(border, moving, number, length, time.perf_counter() - began)

    def _advance(
        self, border: Border, oracle: Oracle, direction: Tensor, length: Tensor, moving: Tensor, number: int
    ) -> Tensor:
        """Step, project, cut: the longest of TRIALS lengths that lowers the level; which images found none."""
        reference = self.image.to(torch.float64)
        oracle.constraint = self.attempt.sets(border.level, self.numbers)
        left = moving
        for _ in range(TRIALS):
            if not left.numel():
                break
            point = border.delta[left] + per_image(length[left]) * direction[left]
            solution = oracle.nearest(point, reference[left], left, around=border.delta[left], round_number=number)
            near = oracle.hold(torch.as_tensor(solution.delta), reference[left], left)
            lower = self._cut(border, reference[left] + near, left)
            length[left] *= torch.where(lower, LONGER, SHORTER).to(length)
            left = left[~lower]
        return left

    def _cut(self, border: Border, moved: Tensor, at: Tensor) -> Tensor:
        """Cut images ``moved`` to the border and take the successful ones of lower level; which, (len(at),) bool."""
        cut, reached = cut_to_border(
            self.attempt.model, self.image[at], moved, self.label[at], self.margin, self.clean[at]
        )
        taken = torch.zeros_like(reached)
        for k in reached.nonzero()[:, 0].tolist():
            place = int(at[k])
            family = self.attempt.families[int(self.numbers[place])]
            reference = self.image[place : place + 1].to(torch.float64)
            level = least_level(family, reference, cut[k : k + 1], ROOM * float(border.level[place]))
            if level < float(border.level[place]):
                border.level[place], border.delta[place], taken[k] = level, cut[k], True
        return taken

    def _record(self, border: Border, moving: Tensor, number: int, length: Tensor, seconds: float) -> None:
        logits = forward(self.attempt.model, self.image[moving].to(torch.float64) + border.delta[moving])
        value, own = self.margin(logits, self.label[moving]), logits.argmax(dim=1)
        share = length / norm(border.delta)
        for k, place in enumerate(moving.tolist()):
            border.history.append(
                StepRow(
                    step=number,
                    image=place,
                    margin=float(value[k]),
                    label=int(own[k]),
                    step_length=float(share[place]),
                    seconds=seconds,
                )
            )
