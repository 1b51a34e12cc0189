"""Newton's method on the dual of a feature ball over a set whose optimum is in closed form: an l2 ball and a box.

    minimise over y in R^F      F(y) = r |y| + h(g - J'y),     h(z) = max { z'd : |d| <= R, lo <= d <= hi }

(for a projection, ``z'd - |d|^2/2`` in place of ``z'd``). F is an upper bound of the problem's value at every y. With d
the optimum at ``z = g - J'y`` and mu the l2 ball's multiplier, h has the generalised Hessian

    H = (P - d d'/|d|^2)/mu,     P the projection onto the pixels within their bounds (and d on them),

so that Newton's equations ``(r/|y| (I - y y'/|y|^2) + J H J') p = J d - r y/|y|`` are solved by conjugate gradients
through products with J (semismooth Newton: Qi and Sun, 1993). Each step is shortened until F falls enough (Armijo).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.constraints.base import inner, norm, per_image
from solvers.methods.closed_form import l2_ball

# The equations are solved to this share of their right side, in at most so many products.
INEXACT, PRODUCTS = 0.1, 60
# Of the identity, against the Hessian's size in the direction of the gradient: pixels all at their bounds leave none.
DAMPING = 1e-8
ARMIJO, SHORTEST = 1e-4, 2.0**-12


@dataclass(frozen=True, eq=False)
class BallOverBox:
    """The problem of K images, float64.

    Attributes:
        vector: g, or the point to project, (K, C, H, W); linear: which of them.
        small, large: r and R, (K,); R may be infinite for a projection.
        lower, upper: lo and hi, (K, C, H, W).
        forward, adjoint: ``J v`` and ``J'u``.
    """

    vector: Tensor
    linear: bool
    small: Tensor
    large: Tensor
    lower: Tensor
    upper: Tensor
    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]

    def nearest(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """d at y = ``features`` (K, F), and the l2 ball's multiplier mu, (K,)."""
        z = self.vector - self.adjoint(features)
        return l2_ball(z, self.large, self.lower, self.upper, linear=self.linear)

    def value(self, features: Tensor, delta: Tensor) -> Tensor:
        """F at y, (K,), from ``delta`` = d there: ``r |y| + g'd - y'J d``, without a product with J'."""
        value = self.small * norm(features) + inner(self.vector, delta)
        value = value - (features * self.forward(delta)).sum(dim=1)
        return value if self.linear else value - 0.5 * inner(delta, delta)


def newton_step(problem: BallOverBox, features: Tensor) -> tuple[Tensor, int]:
    """One step from y = ``features`` (K, F), none of it 0; the next y and how many products with J' J it took."""
    delta, multiplier = problem.nearest(features)
    size = norm(features)[:, None].clamp_min(torch.finfo(features.dtype).tiny)
    unit, radius = features / size, problem.small[:, None]
    gradient = radius * unit - problem.forward(delta)
    curvature = multiplier if problem.linear else 1 + multiplier
    bent = per_image(multiplier > 0).to(delta)  # the l2 ball holds d: it can only turn
    inside = ((delta > problem.lower) & (delta < problem.upper)).to(delta)
    moving = delta * inside
    square = inner(moving, moving).clamp_min(torch.finfo(delta.dtype).tiny)

    def hessian(direction: Tensor) -> Tensor:
        image = problem.adjoint(direction) * inside
        image = image - bent * per_image(inner(moving, image) / square) * moving
        # Without curvature (d in a corner of the box) h is linear.
        image = image * per_image(torch.where(curvature > 0, 1 / curvature.clamp_min(1e-300), 0.0))
        turned = direction - (unit * direction).sum(dim=1, keepdim=True) * unit
        return radius / size * (turned + DAMPING * direction) + problem.forward(image)

    step, products = _conjugate_gradients(hessian, -gradient)
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


def _conjugate_gradients(product: Callable[[Tensor], Tensor], right: Tensor) -> tuple[Tensor, int]:
    """An approximate solution (K, F) for positive semidefinite products, and the number of products."""
    solution, residual = torch.zeros_like(right), right
    direction, square = right, right.square().sum(dim=1, keepdim=True)
    enough = INEXACT**2 * square
    for count in range(PRODUCTS):
        running = square > enough
        if not bool(running.any()):
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
