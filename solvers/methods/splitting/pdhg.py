"""``pdhg``: the splitting iteration with anchored restarts (primal-dual hybrid gradient).

Restarted reflected Halpern iteration (Lu and Yang, "Restarted Halpern PDHG for linear programming", 2024). With T the
plain iteration (:mod:`solvers.methods.splitting.iteration`), rho = REFLECTION, z0 the point of the last restart and k
the iterations since that restart::

    z  <-  ((k + 1) (z + rho (T z - z)) + z0) / (k + 2)

An image restarts at T z in three cases: the size of ``T z - z`` has fallen to SUFFICIENT_DECREASE of its size after the
last restart; or to NECESSARY_DECREASE of it, and no longer falls; or the image's stretch since the last restart has
become LONGEST_STRETCH of all its iterations. The weights adapt at restarts, at intervals that at least double. The page
docs/methods/splitting.md has the mathematics.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.methods.splitting.iteration import (
    FIRST_ADAPTATION,
    Point,
    Splitting,
    begin,
    register_splitting_method,
)
from solvers.problem import Problem
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings

# The reflection rho.
REFLECTION = 2.0
# When an image restarts: shares of the first residual of the stretch, and of all iterations.
SUFFICIENT_DECREASE, NECESSARY_DECREASE, LONGEST_STRETCH = 0.5, 0.8, 0.36
# Iterations between two evaluations of the residual. Restarts are at least so far apart.
RESIDUAL_INTERVAL = 5


@register_splitting_method("pdhg")
def pdhg(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Any windows, l1, l2 and feature balls: primal-dual hybrid gradient with restarts; memory image x window."""
    monitor, split, point = begin(problem, settings, warm_start)
    stretch = _Stretch(split, point)
    iteration = 0
    while monitor.any_running:
        # Finished images leave.
        keep = monitor.still_running(split.images)
        if keep is not None:
            split, point = split.select(keep), point[keep]
            stretch.select(split, keep)

        # One plain iteration.
        iteration += 1
        new = split.advance(point)

        # Certify.
        if monitor.due(iteration):
            monitor.check(iteration, new.delta, split.dual_blocks(new), split.images)

        # Reflect and draw towards the anchor; restart the images whose residual has fallen enough.
        stretch.length = stretch.length + 1
        restart = stretch.restarts(iteration, new.minus(point)) if iteration % RESIDUAL_INTERVAL == 0 else None
        point = point.lerp(new, REFLECTION).lerp(stretch.anchor, 1 / (stretch.length + 2))
        if restart is not None and bool(restart.any()):
            point = stretch.restart(iteration, restart, point, new)
    return monitor.output()


class _Stretch:
    """The iterations since the last restart, image by image.

    Attributes:
        anchor: z0, the point of the last restart.
        length: k, the iterations since then, (K,).
        first_residual, last_residual: the sizes of ``T z - z`` at the first evaluation since the restart and at the
            last one, (K,); infinite before the first.
        adapt_from: the iteration from which on a restart adapts the weights again, (K,).
    """

    def __init__(self, split: Splitting, anchor: Point) -> None:
        self.split, self.anchor = split, anchor
        self.length = torch.zeros(split.images.shape[0], dtype=anchor.delta.dtype, device=anchor.delta.device)
        self.first_residual = torch.full_like(self.length, torch.inf)
        self.last_residual = torch.full_like(self.length, torch.inf)
        self.adapt_from = torch.full_like(self.length, FIRST_ADAPTATION)

    def select(self, split: Splitting, keep: Tensor) -> None:
        """Go on with the images at ``keep`` (long), whose splitting is ``split``."""
        self.split, self.anchor = split, self.anchor[keep]
        self.length, self.adapt_from = self.length[keep], self.adapt_from[keep]
        self.first_residual, self.last_residual = self.first_residual[keep], self.last_residual[keep]

    def restarts(self, iteration: int, move: Point) -> Tensor:
        """Which images restart, (K,) bool, by the size of ``move = T z - z``."""
        residual = self.split.residual(move)
        fresh = self.first_residual.isinf()
        restart = residual <= SUFFICIENT_DECREASE * self.first_residual
        restart |= (residual <= NECESSARY_DECREASE * self.first_residual) & (residual > self.last_residual)
        restart |= self.length >= LONGEST_STRETCH * iteration
        self.first_residual = torch.where(fresh, residual, self.first_residual)
        self.last_residual = residual
        return restart & ~fresh

    def restart(self, iteration: int, restart: Tensor, point: Point, new: Point) -> Point:
        """Begin a stretch at ``new`` = T z for the images of ``restart`` (K,) bool, and adapt their weights where that
        is due. The other images keep ``point``. Returns the next iterate of all images."""
        adapt = restart & (iteration >= self.adapt_from)
        self.split.adapt(new.minus(self.anchor), adapt)
        self.adapt_from = torch.where(adapt, 2 * iteration, self.adapt_from)
        chosen = restart.to(self.length.dtype)
        point = point.lerp(new, chosen)
        self.anchor = self.anchor.lerp(new, chosen)
        self.length = torch.where(restart, 0.0, self.length)
        self.first_residual = torch.where(restart, torch.inf, self.first_residual)
        self.last_residual = torch.where(restart, torch.inf, self.last_residual)
        return point
