"""Balls in the l1, l2 and l-infinity norms over the whole image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from solvers.batch_algebra import per_image
from solvers.constraints.base import BoundConstraint, ConicForm, Constraint
from solvers.errors import ProblemError
from solvers.rounding import UNIT, gamma, length, length_operations, rounded_up, total
from solvers.validation import check_batch, plain, radii, real

if TYPE_CHECKING:
    import cvxpy as cp

_DUAL_ORDER = {1: math.inf, 2: 2, math.inf: 1}


@dataclass(frozen=True, eq=False)
class LpBall(Constraint):
    """``|d|_p <= radius``, over all pixels and channels of an image.

    Attributes:
        p: 1, 2 or ``math.inf``.
        radius: positive; one number, or one for each image: a tensor, array or list (B,).

    Raises:
        ProblemError: another p, or a radius that is not positive.
    """

    p: float
    radius: float | Tensor

    def __post_init__(self) -> None:
        if real("LpBall p", self.p) not in _DUAL_ORDER:
            raise ProblemError(f"LpBall takes p in 1, 2, inf, got p={self.p!r}")
        object.__setattr__(self, "p", plain(self.p))
        object.__setattr__(self, "radius", radii("LpBall radius", self.radius))

    def check(self, reference: Tensor) -> None:
        check_batch("LpBall radius", self.radius, reference.shape[0])

    def bind(self, reference: Tensor) -> BoundLpBall:
        radius = torch.as_tensor(self.radius, dtype=reference.dtype, device=reference.device)
        return BoundLpBall(self, radius.expand(reference.shape[0]), tuple(reference.shape[1:]))

    def select(self, index: Tensor, batch: int) -> LpBall:
        if isinstance(self.radius, Tensor):
            return LpBall(self.p, self.radius[index.to(self.radius.device)])
        return self


class BoundLpBall(BoundConstraint):
    """The ball. Its dual block is a tensor like the image: ``A = I``, ``h(y) = radius |y|_q`` with 1/p + 1/q = 1."""

    def __init__(self, constraint: LpBall, radius: Tensor, image_shape: tuple[int, ...]) -> None:
        self.constraint = constraint
        self.p = constraint.p
        self.radius = radius
        self.image_shape = image_shape

    def _norm(self, delta: Tensor, order: float) -> Tensor:
        if order == 2:
            return length(delta)
        return total(delta.abs()) if order == 1 else delta.abs().flatten(1).amax(dim=1)

    def _norm_up(self, delta: Tensor, order: float) -> Tensor:
        """The norm, rounded up, (B,)."""
        size = self._norm(delta, order)
        return size if order == math.inf else rounded_up(size, gamma(length_operations(delta)) * size)

    def excess(self, delta: Tensor) -> Tensor:
        """The norm less the radius, (B,)."""
        return self._norm(delta, self.p) - self.radius

    def certain_excess(self, delta: Tensor) -> Tensor:
        return self._norm_up(delta, self.p) - self.radius

    def largest_pixel(self) -> Tensor:
        return self.radius

    def scale_factor(self, delta: Tensor) -> Tensor:
        size = self._norm(delta, self.p)
        return torch.where(size > self.radius, self.radius / size.clamp_min(torch.finfo(size.dtype).tiny), 1.0)

    def retract(self, delta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        if self.p == math.inf:
            return delta.clamp(-per_image(self.radius), per_image(self.radius))
        return delta

    @property
    def is_elementwise(self) -> bool:
        return self.p == math.inf

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        if self.p == math.inf:
            return -per_image(self.radius), per_image(self.radius)
        return None

    def support(self, direction: Tensor) -> Tensor:
        size = self._norm_up(direction, _DUAL_ORDER[self.p])
        return rounded_up(self.radius * size, 2 * UNIT * self.radius * size)

    def block_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.radius.shape[0], *self.image_shape),)

    def adjoint(self, block: Tensor) -> Tensor:
        return block

    def adjoint_error(self, block: Tensor) -> Tensor:
        return torch.zeros_like(self.radius)

    def dual_value(self, block: Tensor) -> Tensor:
        return self.support(block)

    def project(self, point: Tensor) -> Tensor:
        if self.p == math.inf:
            return point.clamp(-per_image(self.radius), per_image(self.radius))
        if self.p == 2:
            return point * per_image(self.scale_factor(point))
        return _project_l1(point, self.radius)

    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        import cvxpy as cp

        radius = float(self.radius[image])
        shape = (1, *self.image_shape)
        if self.p == 2:
            cone = cp.SOC(cp.Constant(radius), delta)
            return ConicForm([cone], lambda: torch.as_tensor(cone.dual_value[1]).reshape(shape).neg())
        if self.p == math.inf:
            upper, lower = delta <= radius, -delta <= radius
            return ConicForm(
                [upper, lower],
                lambda: torch.as_tensor(upper.dual_value - lower.dual_value).reshape(shape),
            )
        bound = cp.Variable(delta.shape[0], nonneg=True)
        upper, lower = delta - bound <= 0, -delta - bound <= 0
        return ConicForm(
            [upper, lower, cp.sum(bound) <= radius],
            lambda: torch.as_tensor(upper.dual_value - lower.dual_value).reshape(shape),
        )

    def conic_size(self) -> int:
        # A cone, two inequalities a pixel, or for p = 1 two inequalities with a bound a pixel, its sign and the sum.
        return {2: 1, math.inf: 2, 1: 6}[self.p] * math.prod(self.image_shape)


def _project_l1(point: Tensor, radius: Tensor) -> Tensor:
    """The nearest point of the l1 ball, by sorting (Duchi et al., ICML 2008, figure 1)."""
    magnitude = point.flatten(1).abs()
    descending = magnitude.sort(dim=1, descending=True).values
    excess = descending.cumsum(dim=1) - radius[:, None]
    rank = torch.arange(1, descending.shape[1] + 1, dtype=point.dtype, device=point.device)
    last = (descending * rank > excess).sum(dim=1).clamp_min(1)[:, None] - 1
    threshold = (excess.gather(1, last) / (last + 1)).clamp_min(0)
    shrunk = point.flatten(1).sign() * (magnitude - threshold).clamp_min(0)
    return shrunk.reshape(point.shape)
