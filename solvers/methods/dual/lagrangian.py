"""The Lagrangian that the ``dual`` method maximises over d, one multiplier a constraint.

With ball multipliers b_p, interval multipliers n_p, and one multiplier for every l2 ball,

    L(d) = g'd - sum_p b_p/2 (|R_p (d - a x)|^2 - r_p^2) - sum_p n_p/2 ((m_p(d) - c_p)^2 - l_p^2) - ...

over the box, c_p and l_p being the interval's middle and half width (for a projection, -|d - q|^2/2 in place of g'd).
Its Hessian is ``-(diag(M'b) + M' diag(n - b) M)``: two window products, and memory of an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.batch_algebra import norm, per_image
from solvers.constraints.base import BoundConstraint, DualBlock
from solvers.constraints.lp_ball import BoundLpBall
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.methods.conjugate_gradients import inner_by_image, maximise_quadratic, maximise_window_quadratic
from solvers.methods.dual.windows import dual_windows
from solvers.problem import LinearProblem, Problem
from solvers.windows.quadratic import Bounds, WindowQuadratic

# Of the first guess that a warm start's multipliers have at least.
REVIVED = 1e-2


@dataclass
class Multipliers:
    """ball and mean: (K, C, P_h, P_w); others: (K, number of l2 balls)."""

    ball: Tensor
    mean: Tensor
    others: Tensor

    def flat(self) -> Tensor:
        """All of them in one vector an image, (K, n)."""
        return torch.cat([self.ball.flatten(1), self.mean.flatten(1), self.others], dim=1)

    def unflat(self, values: Tensor) -> Multipliers:
        """The inverse of :meth:`flat`."""
        count = self.ball[0].numel()
        shape = (len(values), *self.ball.shape[1:])
        ball, mean, others = values.split([count, count, values.shape[1] - 2 * count], dim=1)
        return Multipliers(ball.reshape(shape), mean.reshape(shape), others)


class Lagrangian:
    """L for the images that still run, at the multipliers set last.

    Attributes:
        windows: the window set's part of L.
        bounds: the implied box, (K, C, H, W).
        quadratic: L as a function of d, at the multipliers set last; the l2 balls' part is in its slope.
    """

    def __init__(self, problem: Problem, lower: Tensor, upper: Tensor) -> None:
        self.problem, self.bounds = problem, Bounds(lower, upper)
        self.linear = isinstance(problem, LinearProblem)
        self.sets: list[BoundConstraint] = [constraint.bind(problem.reference) for constraint in problem.constraints]
        parts = [(k, dual_windows(bound)) for k, bound in enumerate(self.sets)]
        self.position, self.windows = next((k, part) for k, part in parts if part is not None)
        self.operator = self.windows.operator
        self.balls = [
            (k, bound) for k, bound in enumerate(self.sets) if isinstance(bound, BoundLpBall) and bound.p == 2
        ]

    def initial_multipliers(self) -> Multipliers:
        """Those that each window alone would have if its part of the gradient were all there is."""
        op = self.operator
        force = torch.where(op.covered, self.problem.vector / op.coverage.clamp_min(1e-12), 0.0)
        self.windows.start(force)
        # A window cut to one pixel can have a radius of 0.
        radius = self.windows.radius.clamp_min(torch.finfo(force.dtype).tiny)
        ball, mean = op.variance(force).sqrt() / radius, op.mean(force).abs() / self.windows.half
        least = 1e-3 * per_image(ball.flatten(1).mean(dim=1)) + torch.finfo(ball.dtype).tiny
        size = norm(self.problem.vector)[:, None]
        radii = [bound.radius for _, bound in self.balls]
        others = [size / radius[:, None] for radius in radii]
        empty = size.new_empty(len(size), 0)
        return Multipliers(ball + least, mean + least, 0.1 * torch.cat([empty, *others], dim=1))

    def set(self, multipliers: Multipliers) -> None:
        """Fix the multipliers; what depends on them alone is computed here."""
        op, ball, mean = self.operator, multipliers.ball, multipliers.mean
        self.multipliers = multipliers
        slope, pull = self.windows.gather(ball, mean)
        weights, right = mean - ball, pull + self.problem.vector
        for k in range(len(self.balls)):
            slope = slope + per_image(multipliers.others[:, k])
        if not self.linear:
            slope = slope + 1
        diagonal = slope + op.squared_adjoint(weights)
        # Rounding may leave a pixel under windows of no weight a curvature of 0 or less.
        diagonal = diagonal.clamp_min(1e-6 * slope.abs()).clamp_min(torch.finfo(diagonal.dtype).tiny)
        self.quadratic = WindowQuadratic(slope, weights, right, diagonal)

    def maximise(self, start: Tensor, steps: Tensor, max_steps: int) -> Tensor:
        """``start`` (K, C, H, W), within the bounds, moved towards L's maximum by ``steps`` (K,) conjugate gradients,
        at most ``max_steps``; not clipped."""
        if self.balls:  # they couple all channels of an image
            return maximise_quadratic(
                self._product, self.quadratic, start, self.bounds, inner_by_image, steps, max_steps
            )
        return maximise_window_quadratic(self.operator, self.quadratic, start, self.bounds, steps, max_steps)

    def _product(self, image: Tensor) -> Tensor:
        """``-L''`` times an image (K, C, H, W)."""
        return self.operator.normal(image, self.quadratic.slope, self.quadratic.weights)

    def ratios(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """How much of its radius each constraint uses, (K, n), and each multiplier's share of the dual objective."""
        own, windows = self.multipliers, self.windows
        share = windows.radius.square(), windows.half.square()
        spread, shift = windows.ratios(delta, own.ball, own.mean)
        others = [norm(delta) for _ in self.balls]
        radii = [bound.radius for _, bound in self.balls]
        empty = own.others[:, :0]
        used = Multipliers(
            spread,
            shift,
            torch.cat([empty, *((a / b)[:, None] for a, b in zip(others, radii, strict=True))], dim=1),
        )
        shares = Multipliers(
            own.ball * share[0],
            own.mean * share[1],
            torch.cat([empty, *(own.others[:, k, None] * r[:, None].square() for k, r in enumerate(radii))], dim=1),
        )
        return used.flat(), shares.flat()

    def dual(self, delta: Tensor, scale: Tensor) -> list[DualBlock | None]:
        """The blocks that the gradients of the constraints at ``delta`` make, times ``scale`` (K,)."""
        own, factor = self.multipliers, per_image(scale)
        blocks: list[DualBlock | None] = [None] * len(self.sets)
        mean = own.mean * (self.operator.mean(delta) - self.windows.middle)
        blocks[self.position] = self.windows.block(delta, factor * own.ball, factor * mean)
        for k, (position, _) in enumerate(self.balls):
            blocks[position] = per_image(scale * own.others[:, k]) * delta
        return blocks

    def resume(self, dual: list[DualBlock | None], delta: Tensor, scale: Tensor) -> tuple[Multipliers, Tensor]:
        """The multipliers that an earlier result's blocks amount to, and the point to go on from; the first guess
        where a block is missing."""
        first, factor = self.initial_multipliers(), per_image(1 / scale)
        block = dual[self.position]
        if isinstance(block, WindowDual):
            block = block.to(dtype=delta.dtype, device=delta.device)
            delta, size, mean = self.windows.resume(block), block.ball.abs(), block.mean
            first.ball = _known(size * factor, first.ball)
        elif block is not None:
            vectors = torch.as_tensor(block).to(delta)
            mean = (vectors * self.operator.root_weights).sum(dim=-1)
            size = (vectors.square().sum(dim=-1) - mean.square()).clamp_min(0).sqrt()
            first.ball = _known(factor * size / self.windows.radius.clamp_min(torch.finfo(size.dtype).tiny), first.ball)
        if block is not None:
            half = self.windows.half
            shift = (self.operator.mean(delta) - self.windows.middle).abs()
            # An active interval's shift is its half width; where it is not, the multiplier is small anyway.
            first.mean = _known(factor * mean.abs() / torch.maximum(shift, 0.1 * half), first.mean)
        for k, (position, bound) in enumerate(self.balls):
            given = dual[position]
            if given is not None:
                size = norm(torch.as_tensor(given).to(delta)) / scale
                first.others[:, k] = _known(size / bound.radius, first.others[:, k])
        return first, delta


def _known(values: Tensor, first: Tensor) -> Tensor:
    """``values``, but REVIVED of the ``first`` guess at least: a multiplicative update takes long to bring back what is
    nearly 0. The first guess for images where they are no numbers or all 0."""
    mean = values.flatten(1).mean(dim=1) if values.ndim > 1 else values
    sound = (mean.isfinite() & (mean > 0)).reshape(-1, *[1] * (values.ndim - 1))
    return torch.where(sound, torch.maximum(values, REVIVED * first), first)
