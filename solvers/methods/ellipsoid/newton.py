"""Newton's method on the dual of a feature ball over a set whose optimum is in closed form: an l2 ball and a box.

    minimise over y in R^F      F(y) = r |y| + h(g - J'y),     h(z) = max { z'd : |d| <= R, lo <= d <= hi }

(for a projection, ``z'd - |d|^2/2`` in place of ``z'd``). F is an upper bound of the problem's value at every y. With d
the optimum at ``z = g - J'y`` and mu the l2 ball's multiplier, h has the generalised Hessian

    H = (P - d d'/|d|^2)/mu,     P the projection onto the pixels within their bounds (and d on them),

so that Newton's equations ``(r/|y| (I - y y'/|y|^2) + J H J') p = J d - r y/|y|`` are solved by conjugate gradients
through products with J (semismooth Newton: Qi and Sun, 1993). Each step is shortened until F falls enough (Armijo).

Where the l2 ball does not hold d, h has corners. A linear problem is therefore smoothed: ``s |d|^2/2`` is taken off
(Nesterov 2005), so that mu is at least s, and s falls until what it costs is a small part of the gap allowed. The
certificate knows nothing of s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.batch_algebra import inner, norm, per_image
from solvers.methods.closed_form import l2_ball

# The equations are solved to this share of their right side, in at most so many products.
INEXACT, PRODUCTS = 0.1, 60
# Of the identity, against the ball's own part: along y, with all pixels at their bounds, there is no curvature.
DAMPING = 1e-8
ARMIJO, SHORTEST = 1e-4, 2.0**-12


@dataclass(frozen=True, eq=False)
class BallOverBox:
    """The problem of K images, float64.

    Attributes:
        vector: g, or the point to project, (K, C, H, W); linear: which of them.
        small, large: r and R, (K,); R may be infinite for a projection.
        smoothing: s, (K,); 0 for a projection.
        lower, upper: lo and hi, (K, C, H, W).
        forward, adjoint: ``J v`` and ``J'u``.
    """

    vector: Tensor
    linear: bool
    small: Tensor
    large: Tensor
    smoothing: Tensor
    lower: Tensor
    upper: Tensor
    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]

    def nearest(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """d at y = ``features`` (K, F), and the curvature there, mu, (K,): s at least."""
        z = self.vector - self.adjoint(features)
        delta, multiplier = l2_ball(z, self.large, self.lower, self.upper, linear=self.linear)
        if not self.linear:
            return delta, 1 + multiplier
        held = multiplier > self.smoothing
        smooth = (z / per_image(self.smoothing.clamp_min(1e-300))).clamp(self.lower, self.upper)
        return torch.where(per_image(held), delta, smooth), torch.maximum(multiplier, self.smoothing)

    def gradient(self, features: Tensor, delta: Tensor) -> Tensor:
        """F's at y, (K, F), from ``delta`` = d there: ``r y/|y| - J d``."""
        size = norm(features).clamp_min(torch.finfo(features.dtype).tiny)
        return (self.small / size)[:, None] * features - self.forward(delta)

    def value(self, features: Tensor, delta: Tensor) -> Tensor:
        """F at y, (K,), from ``delta`` = d there: ``r |y| + g'd - y'J d - s |d|^2/2``, without a product with J'."""
        value = self.small * norm(features) + inner(self.vector, delta)
        value = value - (features * self.forward(delta)).sum(dim=1)
        return value - 0.5 * (self.smoothing if self.linear else 1.0) * inner(delta, delta)


def newton_step(problem: BallOverBox, features: Tensor, out_of_time: Callable[[], bool]) -> tuple[Tensor, int]:
    """One step from y = ``features`` (K, F), none of it 0; the next y and how many products with J' J it took. The
    step is solved for less well where ``out_of_time`` says so: any y has a certificate."""
    delta, curvature = problem.nearest(features)
    size = norm(features)[:, None].clamp_min(torch.finfo(features.dtype).tiny)
    unit, radius = features / size, problem.small[:, None]
    gradient = problem.gradient(features, delta)
    least = problem.smoothing if problem.linear else torch.ones_like(curvature)
    bent = per_image(curvature > least).to(delta)  # the l2 ball holds d: it can only turn
    inside = ((delta > problem.lower) & (delta < problem.upper)).to(delta)
    moving = delta * inside
    square = inner(moving, moving).clamp_min(torch.finfo(delta.dtype).tiny)

    def hessian(direction: Tensor) -> Tensor:
        image = problem.adjoint(direction) * inside
        image = image - bent * per_image(inner(moving, image) / square) * moving
        image = image / per_image(curvature)
        turned = direction - (unit * direction).sum(dim=1, keepdim=True) * unit
        return radius / size * (turned + DAMPING * direction) + problem.forward(image)

    step, products = _conjugate_gradients(hessian, -gradient, out_of_time)
    slope = (gradient * step).sum(dim=1)
    before = problem.value(features, delta)
    length = torch.ones_like(before)
    searching = torch.ones_like(before, dtype=torch.bool)
    while bool(searching.any()) and float(length.min()) >= SHORTEST:
        trial = features + length[:, None] * step
        after = problem.value(trial, problem.nearest(trial)[0])
        products += 1
        searching = searching & ~(after <= before + ARMIJO * length * slope)
        length = torch.where(searching, length / 2, length)
    # An image for which no length will do stays: it is as good as rounding allows.
    return features + torch.where(searching, 0.0, length)[:, None] * step, products


def _conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, out_of_time: Callable[[], bool]
) -> tuple[Tensor, int]:
    """An approximate solution (K, F) for positive semidefinite products, and the number of products."""
    solution, residual = torch.zeros_like(right), right
    direction, square = right, right.square().sum(dim=1, keepdim=True)
    enough = INEXACT**2 * square
    for count in range(PRODUCTS):
        running = square > enough
        if out_of_time() or not bool(running.any()):
            return solution, count
        image = product(direction)
        bend = (direction * image).sum(dim=1, keepdim=True)
        running = running & (bend > 0)
        alpha = torch.where(running, square / torch.where(bend > 0, bend, 1.0), 0.0)
        solution, residual = solution + alpha * direction, residual - alpha * image
        fresh = residual.square().sum(dim=1, keepdim=True)
        direction = residual + torch.where(running, fresh / square.clamp_min(1e-300), 0.0) * direction
        square = torch.where(running, fresh, 0.0)
    return solution, PRODUCTS
