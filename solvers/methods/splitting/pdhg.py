"""``pdhg``: the primal-dual hybrid gradient method with anchored restarts (:mod:`solvers.methods.splitting.iteration`).

Restarted reflected Halpern iteration (Lu and Yang, "Restarted Halpern PDHG for linear programming", 2024): with T the
plain iteration and k the iterations since the last restart at z0,

    z <- ((k + 1) (z + rho (T z - z)) + z0)/(k + 2).

An image restarts, at T z, when the size of ``T z - z`` has fallen to SUFFICIENT of what it was after the last restart,
or to NECESSARY of it and no longer falls, or when the stretch has become ARTIFICIAL of all its iterations. Its weights
adapt at restarts, at intervals that at least double.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.methods.splitting.iteration import FIRST_ADAPTATION, Point, Splitting, begin, refuses
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings

# The reflection rho, and when to restart.
REFLECTION = 2.0
SUFFICIENT, NECESSARY, ARTIFICIAL = 0.5, 0.8, 0.36
# Iterations between looks at the residual, and the fewest between restarts.
LOOK = 5


@register_method(
    "pdhg",
    problems=(LinearProblem, ProjectionProblem),
    any_of={"WindowSSIM", "LpBall", "GlobalSSIM", "FeatureBall"},
    optional={"Box", "Support"},
    warm_start=True,
    accepts=refuses,
)
def pdhg(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Any windows, l1, l2 and feature balls: primal-dual hybrid gradient with restarts; memory image x window."""
    monitor, split, point = begin(problem, settings, warm_start)
    stretch = _Stretch(split, point)
    iteration = 0
    while bool(monitor.running.any()):
        keep = monitor.running[split.images]
        if not bool(keep.all()):
            keep = keep.nonzero()[:, 0]
            split, point = split.narrowed(keep), point[keep]
            stretch.narrow(split, keep)
        checked = False
        while not checked:
            iteration += 1
            new = split.advance(point)
            checked = monitor.due(iteration)
            if checked:
                monitor.check(iteration, new.delta, split.blocks_of(new), split.images)
            point = stretch.next(iteration, point, new)
    return monitor.output()


class _Stretch:
    """The iterations since the last restart, image by image.

    Attributes:
        anchor: z0.
        length: k, (K,).
        first, last: residuals, at the first look and at the last one, (K,).
        adapt_at: the iteration from which on a restart adapts the weights again, (K,).
    """

    def __init__(self, split: Splitting, anchor: Point) -> None:
        self.split, self.anchor = split, anchor
        self.length = torch.zeros(split.images.shape[0], dtype=anchor.delta.dtype, device=anchor.delta.device)
        self.first = torch.full_like(self.length, torch.inf)
        self.last = torch.full_like(self.length, torch.inf)
        self.adapt_at = torch.full_like(self.length, FIRST_ADAPTATION)

    def narrow(self, split: Splitting, keep: Tensor) -> None:
        """Go on with the images at ``keep``."""
        self.split, self.anchor = split, self.anchor[keep]
        self.length, self.adapt_at = self.length[keep], self.adapt_at[keep]
        self.first, self.last = self.first[keep], self.last[keep]

    def next(self, iteration: int, point: Point, new: Point) -> Point:
        """The next iterate after ``point`` with T point = ``new``."""
        self.length = self.length + 1
        restart = self._restarts(iteration, point, new) if iteration % LOOK == 0 else None
        reflected = point.towards(new, REFLECTION)
        point = reflected.towards(self.anchor, 1 / (self.length + 2))
        if restart is None or not bool(restart.any()):
            return point
        adapt = restart & (iteration >= self.adapt_at)
        self.split.adapt(new.minus(self.anchor), adapt)
        self.adapt_at = torch.where(adapt, 2 * iteration, self.adapt_at)
        point = point.towards(new, restart.to(self.length.dtype))
        self.anchor = self.anchor.towards(new, restart.to(self.length.dtype))
        self.length = torch.where(restart, 0.0, self.length)
        self.first = torch.where(restart, torch.inf, self.first)
        self.last = torch.where(restart, torch.inf, self.last)
        return point

    def _restarts(self, iteration: int, point: Point, new: Point) -> Tensor:
        residual = self.split.residual(new.minus(point))
        fresh = self.first.isinf()
        restart = residual <= SUFFICIENT * self.first
        restart |= (residual <= NECESSARY * self.first) & (residual > self.last)
        restart |= self.length >= ARTIFICIAL * iteration
        self.first = torch.where(fresh, residual, self.first)
        self.last = residual
        return restart & ~fresh
