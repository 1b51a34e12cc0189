"""Newton's method on the dual of a feature ball over a set whose optimum is in closed form: an l2 ball and a box.

    minimise over y in R^F      F(y) = r |y| + h(g - J'y),     h(z) = max { z'd : |d| <= R, lo <= d <= hi }

For the projection of g, ``z'd - |d|^2/2`` stands in place of ``z'd``. F(y) is an upper bound on the problem's value at
every y. With d the optimum at ``z = g - J'y`` and mu the l2 ball's multiplier, h has the generalised Hessian

    H = (P - d d'/|d|^2)/mu,     P the projection onto the pixels within their bounds (and d on these pixels).

So Newton's equations are ``(r/|y| (I - y y'/|y|^2) + J H J') p = J d - r y/|y|``. Conjugate gradients solve them
through products with J (semismooth Newton: Qi and Sun, 1993). Each step is halved until F falls enough (Armijo).

Where the l2 ball does not hold d, h has corners. A linear problem is therefore smoothed: ``s |d|^2/2`` is subtracted
from ``z'd`` (Nesterov 2005), so that mu is at least s. The caller lets s fall until the smoothing costs a small part of
the gap allowed. The certificate knows nothing of s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.batch_algebra import inner, norm, per_image
from solvers.methods.closed_form import l2_ball
from solvers.windows.quadratic import Bounds

# Newton's equations are solved until the residual is this share of the right side, in at most so many products.
CG_RELATIVE_RESIDUAL, MAX_CG_PRODUCTS = 0.1, 60
# This share of r/|y| is added as a multiple of the identity. Along y, with all pixels at their bounds, the equations
# have no curvature of their own.
DAMPING = 1e-8
# The line search: the share of the predicted decrease that F must attain, and the shortest step.
ARMIJO_SHARE, SHORTEST_STEP = 1e-4, 2.0**-12


@dataclass(frozen=True, eq=False)
class BallOverBox:
    """The problem of K images, float64.

    Attributes:
        vector: g, or the point to project, (K, C, H, W).
        linear: whether ``vector`` is a gradient.
        feature_radius: r, (K,).
        l2_radius: R, (K,); may be infinite for a projection.
        smoothing: s, (K,); 0 for a projection.
        bounds: lo and hi, (K, C, H, W) each.
        forward, adjoint: ``J v`` and ``J'u``.
    """

    vector: Tensor
    linear: bool
    feature_radius: Tensor
    l2_radius: Tensor
    smoothing: Tensor
    bounds: Bounds
    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]

    def maximiser(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """d at y = ``features`` (K, F), and the curvature mu there, (K,), which is at least s."""
        z = self.vector - self.adjoint(features)
        delta, multiplier = l2_ball(z, self.l2_radius, self.bounds, linear=self.linear)
        if not self.linear:
            return delta, 1 + multiplier
        ball_active = multiplier > self.smoothing
        smooth = self.bounds.clamp(z / per_image(self.smoothing.clamp_min(1e-300)))
        return torch.where(per_image(ball_active), delta, smooth), torch.maximum(multiplier, self.smoothing)

    def gradient(self, features: Tensor, delta: Tensor) -> Tensor:
        """The gradient of F at y, (K, F), from ``delta`` = d there: ``r y/|y| - J d``."""
        size = norm(features).clamp_min(torch.finfo(features.dtype).tiny)
        return (self.feature_radius / size)[:, None] * features - self.forward(delta)

    def value(self, features: Tensor, delta: Tensor) -> Tensor:
        """F at y, (K,), from ``delta`` = d there: ``r |y| + g'd - y'J d - s |d|^2/2``, without a product with J'."""
        value = self.feature_radius * norm(features) + inner(self.vector, delta)
        value = value - (features * self.forward(delta)).sum(dim=1)
        return value - 0.5 * (self.smoothing if self.linear else 1.0) * inner(delta, delta)


def newton_step(problem: BallOverBox, features: Tensor, out_of_time: Callable[[], bool]) -> tuple[Tensor, int]:
    """One step from y = ``features`` (K, F), none of them 0.

    Where ``out_of_time`` says so, the equations are solved less well, or y stays: any y has a certificate.

    Returns:
        the next y, (K, F), and the number of products with J'J.
    """
    # F's gradient and Hessian.
    delta, curvature = problem.maximiser(features)
    gradient = problem.gradient(features, delta)
    hessian = _hessian(problem, features, delta, curvature)

    # The direction: Newton's equations by conjugate gradients.
    step, products = _conjugate_gradients(hessian, -gradient, out_of_time)

    # The length. An image for which no length will do stays: its y is as good as rounding allows.
    length, trials = _line_search(problem, features, delta, step, (gradient * step).sum(dim=1), out_of_time)
    return features + length[:, None] * step, products + trials


def _hessian(problem: BallOverBox, features: Tensor, delta: Tensor, curvature: Tensor) -> Callable[[Tensor], Tensor]:
    """F's generalised Hessian at y = ``features``, damped, as a product: (K, F) -> (K, F)."""
    size = norm(features)[:, None].clamp_min(torch.finfo(features.dtype).tiny)
    unit, radius = features / size, problem.feature_radius[:, None]
    smallest = problem.smoothing if problem.linear else torch.ones_like(curvature)
    # Where the l2 ball holds d, d can only turn.
    turns = per_image(curvature > smallest).to(delta)
    inside = ((delta > problem.bounds.lower) & (delta < problem.bounds.upper)).to(delta)
    free = delta * inside
    square = inner(free, free).clamp_min(torch.finfo(delta.dtype).tiny)

    def product(direction: Tensor) -> Tensor:
        image = problem.adjoint(direction) * inside
        image = image - turns * per_image(inner(free, image) / square) * free
        image = image / per_image(curvature)
        turned = direction - (unit * direction).sum(dim=1, keepdim=True) * unit
        return radius / size * (turned + DAMPING * direction) + problem.forward(image)

    return product


def _line_search(
    problem: BallOverBox,
    features: Tensor,
    delta: Tensor,
    step: Tensor,
    slope: Tensor,
    out_of_time: Callable[[], bool],
) -> tuple[Tensor, int]:
    """Halve the steps until F falls enough.

    Args:
        problem: F.
        features: y, (K, F).
        delta: d at y, (K, C, H, W).
        step: the direction, (K, F).
        slope: F's slope along the direction, (K,).
        out_of_time: asked before each trial; where it says so no length will do.

    Returns:
        the lengths, (K,), 0 where no length will do, and the number of products with J'J.
    """
    before = problem.value(features, delta)
    length, trials = torch.ones_like(before), 0
    searching = torch.ones_like(before, dtype=torch.bool)
    while bool(searching.any()) and float(length.min()) >= SHORTEST_STEP and not out_of_time():
        trial = features + length[:, None] * step
        after = problem.value(trial, problem.maximiser(trial)[0])
        trials += 1
        searching = searching & ~(after <= before + ARMIJO_SHARE * length * slope)
        length = torch.where(searching, length / 2, length)
    return torch.where(searching, 0.0, length), trials


def _conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, out_of_time: Callable[[], bool]
) -> tuple[Tensor, int]:
    """An approximate solution (K, F) of ``product(x) = right``, and the number of products.

    The product is positive semidefinite; an image whose direction has no curvature stops there."""
    solution, residual = torch.zeros_like(right), right
    direction, square = right, right.square().sum(dim=1, keepdim=True)
    target = CG_RELATIVE_RESIDUAL**2 * square
    for count in range(MAX_CG_PRODUCTS):
        running = square > target
        if out_of_time() or not bool(running.any()):
            return solution, count
        image = product(direction)
        curvature = (direction * image).sum(dim=1, keepdim=True)
        running = running & (curvature > 0)
        alpha = torch.where(running, square / torch.where(curvature > 0, curvature, 1.0), 0.0)
        solution, residual = solution + alpha * direction, residual - alpha * image
        next_square = residual.square().sum(dim=1, keepdim=True)
        direction = residual + torch.where(running, next_square / square.clamp_min(1e-300), 0.0) * direction
        square = torch.where(running, next_square, 0.0)
    return solution, MAX_CG_PRODUCTS
