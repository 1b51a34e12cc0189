"""A walk along the decision boundary that lowers the level of a perturbation::

    repeat
        v     = gradients of the margin, averaged with inertia, of norm 1
        p     = P_K(d + t v)                        K the set of d's own level
        d     = p shortened to the boundary, if its level is lower than d's

The first success at a level, shortened to the boundary, rarely has the least level along the boundary: the boundary is
curved, and the climb came from elsewhere. As in DDN (Rony et al., CVPR 2019) the level follows the point. Here the set
is any that the solvers project onto, and the level only falls.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.batch_algebra import norm, per_image
from ssimpert.perturbation.budget_search.attempt import Attempt
from ssimpert.perturbation.budget_search.boundary_cut import shorten_to_boundary
from ssimpert.perturbation.budget_search.levels import LEVEL_ROOM, least_level
from ssimpert.perturbation.engines.step_solver import StepSolver
from ssimpert.perturbation.goal import Goal
from ssimpert.perturbation.history import StepRow

# The first step length, as a share of the perturbation's l2 norm.
FIRST_WALK_LENGTH = 0.1
# A length is multiplied by WALK_LENGTH_GROWTH after a gain and by WALK_LENGTH_CUT after none.
WALK_LENGTH_GROWTH, WALK_LENGTH_CUT = 1.5, 0.5
# So many lengths are tried along one direction.
LENGTHS_TRIED = 4
# The last direction's share in the next one: across a curved boundary plain gradients zigzag.
DIRECTION_INERTIA = 0.6
# An image's walk ends where so many gradients together lowered the level by less than half the tolerance.
WALK_PATIENCE = 4


@dataclass
class BoundaryPoints:
    """Successful perturbations next to the decision boundary, one per image; the walk changes them in place.

    Attributes:
        delta: (K, C, H, W) float64, such that the perturbed images are exactly what the images' dtype holds.
        level: (K,) float64, the least levels that hold the perturbations.
        steps: (K,) long, gradients spent.
        history: one row per step and image, with the images numbered from 0 to K - 1.
    """

    delta: Tensor
    level: Tensor
    steps: Tensor
    history: list[StepRow]


@dataclass(frozen=True)
class BoundaryWalk:
    """Lowers the levels of K perturbations that stay successful.

    Attributes:
        attempt: families and solver.
        goal: decides about success.
        climbed: the goal whose gradients are followed; positive only where ``goal`` is reached.
        image: the clean images, (K, C, H, W).
        clean_margin: (K,), the margin of ``goal`` at ``image``.
        image_indices: the images' indices in the batch, (K,) long.
    """

    attempt: Attempt
    goal: Goal
    climbed: Goal
    image: Tensor
    clean_margin: Tensor
    image_indices: Tensor

    def run(self, points: BoundaryPoints, *, steps: int, tolerance: float) -> None:
        """Spend at most ``steps`` gradients per image; an image ends where they gain no more (``WALK_PATIENCE``)."""
        sets = self.attempt.sets(points.level, self.image_indices)
        step_solver = self.attempt.step_solver(sets, self.image_indices)
        length = FIRST_WALK_LENGTH * norm(points.delta)
        direction = torch.zeros_like(points.delta)
        levels = [points.level.clone()]
        unfinished = torch.ones_like(points.level, dtype=torch.bool)
        for number in range(1, steps + 1):
            began = time.perf_counter()
            active = unfinished.nonzero()[:, 0]
            if not active.numel():
                break
            sound = self._turn(points, direction, active)
            unfinished[active[~sound]] = False
            active = active[sound]
            stuck = self._lower(points, step_solver, direction, length, active, number)
            direction[stuck] = 0
            levels.append(points.level.clone())
            if number >= WALK_PATIENCE:
                unfinished &= points.level < (1 - tolerance / 2) * levels[-1 - WALK_PATIENCE]
            self._record(points, active, number, length, time.perf_counter() - began)

    def _turn(self, points: BoundaryPoints, direction: Tensor, active: Tensor) -> Tensor:
        """Turn the directions of the images at ``active`` towards their gradients.

        Returns:
            Which gradients are finite and not zero, (K,) bool. The other images keep their directions.
        """
        images = self.image[active].to(torch.float64) + points.delta[active]
        gradient = self.climbed.select(active).linearize(images).gradient
        points.steps[active] += 1
        size = norm(gradient)
        sound = size.isfinite() & (size > 0)
        turned, fresh = active[sound], (1 - DIRECTION_INERTIA) * gradient[sound] / per_image(size[sound])
        mixed = DIRECTION_INERTIA * direction[turned] + fresh
        direction[turned] = mixed / per_image(norm(mixed).clamp_min(torch.finfo(mixed.dtype).tiny))
        return sound

    def _lower(
        self,
        points: BoundaryPoints,
        step_solver: StepSolver,
        direction: Tensor,
        length: Tensor,
        active: Tensor,
        number: int,
    ) -> Tensor:
        """Step, project and shorten, by the longest of a few lengths that lowers the level.

        Returns:
            The indices of the images whose level no length lowered.
        """
        reference = self.image.to(torch.float64)
        step_solver.constraint = self.attempt.sets(points.level, self.image_indices)
        remaining = active
        for _ in range(LENGTHS_TRIED):
            if not remaining.numel():
                break
            delta, original = points.delta[remaining], reference[remaining]
            step = delta + per_image(length[remaining]) * direction[remaining]
            solution = step_solver.nearest(step, original, remaining, expansion_point=delta, round_number=number)
            projected = step_solver.retract(torch.as_tensor(solution.delta), original, remaining)
            lower = self._take_if_lower(points, original + projected, remaining)
            length[remaining] *= torch.where(lower, WALK_LENGTH_GROWTH, WALK_LENGTH_CUT).to(length)
            remaining = remaining[~lower]
        return remaining

    def _take_if_lower(self, points: BoundaryPoints, perturbed: Tensor, indices: Tensor) -> Tensor:
        """Shorten perturbed images (K, C, H, W) to the boundary, and take the successful ones of lower level.

        Returns:
            Which images were taken, (K,) bool.
        """
        shortened, reached = shorten_to_boundary(
            self.goal.select(indices), self.image[indices], perturbed, self.clean_margin[indices]
        )
        taken = torch.zeros_like(reached)
        for k in reached.nonzero()[:, 0].tolist():
            index = int(indices[k])
            family = self.attempt.families[int(self.image_indices[index])]
            reference = self.image[index : index + 1].to(torch.float64)
            level = least_level(family, reference, shortened[k : k + 1], LEVEL_ROOM * float(points.level[index]))
            if level < float(points.level[index]):
                points.level[index], points.delta[index], taken[k] = level, shortened[k], True
        return taken

    def _record(self, points: BoundaryPoints, active: Tensor, number: int, length: Tensor, seconds: float) -> None:
        decision = self.goal.select(active).decide(self.image[active].to(torch.float64) + points.delta[active])
        label, share = decision.label, length / norm(points.delta)
        for k, index in enumerate(active.tolist()):
            points.history.append(
                StepRow(
                    step=number,
                    image=index,
                    margin=float(decision.margin[k]),
                    label=int(label[k]),
                    step_length=float(share[index]),
                    seconds=seconds,
                )
            )
