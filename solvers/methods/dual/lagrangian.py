"""The Lagrangian that ``dual`` maximises over d, with one multiplier a constraint.

With ball multipliers b_p, interval multipliers n_p, and one multiplier for every l2 ball,

    L(d) = g'd - sum_p b_p/2 (|R_p d - a R_p x|^2 - r_p^2) - sum_p n_p/2 ((m_p(d) - c_p)^2 - l_p^2) - ...

over the implied box. Here c_p and l_p are the middle and the half width of the interval. A projection has
``-|d - q|^2/2`` in place of ``g'd``. The Hessian of L is ``-(diag(M'b) + M' diag(n - b) M)``: two window products, and
the memory of an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.batch_algebra import norm, per_image
from solvers.constraints.base import BoundConstraint, DualBlock
from solvers.constraints.lp_ball import BoundLpBall
from solvers.methods.conjugate_gradients import inner_by_image, maximise_quadratic, maximise_window_quadratic
from solvers.methods.dual.windows import dual_windows
from solvers.problem import LinearProblem, Problem
from solvers.windows.quadratic import Bounds, WindowQuadratic


@dataclass
class Multipliers:
    """One number a constraint.

    Attributes:
        ball, mean: b and n, of the windows' balls and intervals, (K, C, P_h, P_w) each.
        l2_balls: (K, number of l2 balls).
    """

    ball: Tensor
    mean: Tensor
    l2_balls: Tensor

    def flat(self) -> Tensor:
        """All of them in one vector an image, (K, n)."""
        return torch.cat([self.ball.flatten(1), self.mean.flatten(1), self.l2_balls], dim=1)


class Lagrangian:
    """L of some images.

    Args:
        problem: of these images.
        bounds: the implied box, (K, C, H, W) each.

    Attributes:
        sets: the bound sets of the problem.
        position: the place of the set of windows among them.
        windows: the set of windows' part of L.
        l2_balls: the l2 balls with their places.
        quadratic: L as a function of d, at the multipliers set last; the l2 balls' part is in its slope.
    """

    quadratic: WindowQuadratic

    def __init__(self, problem: Problem, bounds: Bounds) -> None:
        self.problem, self.bounds = problem, bounds
        self.linear = isinstance(problem, LinearProblem)
        self.sets: list[BoundConstraint] = [constraint.bind(problem.reference) for constraint in problem.constraints]
        parts = [(k, dual_windows(bound)) for k, bound in enumerate(self.sets)]
        self.position, self.windows = next((k, part) for k, part in parts if part is not None)
        self.operator = self.windows.operator
        self.l2_balls = [
            (k, bound) for k, bound in enumerate(self.sets) if isinstance(bound, BoundLpBall) and bound.p == 2
        ]

    def set(self, values: Tensor) -> None:
        """Fix the multipliers: ``values`` (K, n), in the order of :meth:`Multipliers.flat`. What depends on them alone
        is computed here."""
        lattice = (len(values), *self.windows.radius.shape[1:])
        count = self.windows.radius[0].numel()
        ball, mean, l2_balls = values.split([count, count, values.shape[1] - 2 * count], dim=1)
        self.multipliers = multipliers = Multipliers(ball.reshape(lattice), mean.reshape(lattice), l2_balls)
        slope, window_part = self.windows.slope_and_right(multipliers.ball, multipliers.mean)
        weights, right = multipliers.mean - multipliers.ball, window_part + self.problem.vector
        for k in range(len(self.l2_balls)):
            slope = slope + per_image(l2_balls[:, k])
        if not self.linear:
            slope = slope + 1
        diagonal = slope + self.operator.squared_adjoint(weights)
        # Rounding may leave a pixel under windows of no weight a curvature of 0 or less.
        diagonal = diagonal.clamp_min(1e-6 * slope.abs()).clamp_min(torch.finfo(diagonal.dtype).tiny)
        self.quadratic = WindowQuadratic(slope, weights, right, diagonal)

    def maximise(self, start: Tensor, steps: Tensor, max_steps: int) -> Tensor:
        """``start`` (K, C, H, W), within the bounds, moved towards L's maximum by ``steps`` (K,) conjugate gradients,
        at most ``max_steps``; not clipped."""
        if self.l2_balls:  # they couple all channels of an image
            return maximise_quadratic(
                self.product, self.quadratic, start, self.bounds, inner_by_image, steps, max_steps
            )
        return maximise_window_quadratic(self.operator, self.quadratic, start, self.bounds, steps, max_steps)

    def product(self, image: Tensor) -> Tensor:
        """``-L''`` times an image (K, C, H, W)."""
        return self.operator.normal(image, self.quadratic.slope, self.quadratic.weights)

    def ratios(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """What each constraint uses of its radius at ``delta``, and each multiplier's share of the dual objective:
        (K, n) both."""
        multipliers, windows = self.multipliers, self.windows
        ball_size, mean_size = windows.radius.square(), windows.half_width.square()
        ball_ratio, mean_ratio = windows.ratios(delta, multipliers.ball, multipliers.mean)
        none = multipliers.l2_balls[:, :0]
        size = [norm(delta) for _ in self.l2_balls]
        radii = [bound.radius for _, bound in self.l2_balls]
        l2_ratios = [(a / b)[:, None] for a, b in zip(size, radii, strict=True)]
        l2_shares = [multipliers.l2_balls[:, k, None] * radius[:, None].square() for k, radius in enumerate(radii)]
        ratio = Multipliers(ball_ratio, mean_ratio, torch.cat([none, *l2_ratios], dim=1))
        share = Multipliers(
            multipliers.ball * ball_size, multipliers.mean * mean_size, torch.cat([none, *l2_shares], dim=1)
        )
        return ratio.flat(), share.flat()

    def dual(self, delta: Tensor, scale: Tensor) -> list[DualBlock | None]:
        """The blocks that the gradients of the constraints at ``delta`` make, times ``scale`` (K,)."""
        multipliers, factor = self.multipliers, per_image(scale)
        blocks: list[DualBlock | None] = [None] * len(self.sets)
        mean = multipliers.mean * (self.operator.mean(delta) - self.windows.middle)
        blocks[self.position] = self.windows.dual_block(delta, factor * multipliers.ball, factor * mean)
        for k, (position, _) in enumerate(self.l2_balls):
            blocks[position] = per_image(scale * multipliers.l2_balls[:, k]) * delta
        return blocks
