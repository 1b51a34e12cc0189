"""Pixel bounds and fixed pixels: the elementwise sets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from solvers.constraints.base import BoundConstraint, ConicForm, Constraint
from solvers.errors import ProblemError
from solvers.rounding import difference_towards_zero, products, total_up
from solvers.validation import real

if TYPE_CHECKING:
    import cvxpy as cp


@dataclass(frozen=True)
class Box(Constraint):
    """``lower <= x + d <= upper`` for every pixel. A reference outside the box makes its image infeasible.

    Attributes:
        lower, upper: finite, lower < upper; 0 and 1 by default.

    Raises:
        ProblemError: a bound is not finite, or ``lower >= upper``.
    """

    lower: float = 0.0
    upper: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            object.__setattr__(self, name, real(f"Box {name}", getattr(self, name)))
        if not (math.isfinite(self.lower) and math.isfinite(self.upper) and self.lower < self.upper):
            raise ProblemError(f"Box needs finite lower < upper, got lower={self.lower}, upper={self.upper}")

    def bind(self, reference: Tensor) -> BoundBox:
        # Rounded towards 0, so that x + d stays within the bounds. A reference on the bound in single precision may lie
        # beyond it in double precision; d = 0 stays allowed.
        lower = difference_towards_zero(self.lower, reference).clamp_max(0)
        return BoundBox(self, lower, difference_towards_zero(self.upper, reference).clamp_min(0))


@dataclass(frozen=True, eq=False)
class Support(Constraint):
    """``d = 0`` outside ``mask``.

    Attributes:
        mask: bool, True where the image may change; (H, W), (C, H, W) or (B, C or 1, H, W).

    Raises:
        ProblemError: the mask is not bool or has another number of axes.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        mask = torch.as_tensor(self.mask)
        if mask.dtype != torch.bool:
            raise ProblemError(f"Support needs a bool mask, got dtype {mask.dtype}")
        if not 2 <= mask.ndim <= 4:
            raise ProblemError(f"Support needs a mask (H, W) up to (B, C, H, W), got shape {tuple(mask.shape)}")
        object.__setattr__(self, "mask", mask)

    def check(self, reference: Tensor) -> None:
        try:
            fits = torch.broadcast_shapes(self.mask.shape, reference.shape) == reference.shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ProblemError(
                f"Support mask of shape {tuple(self.mask.shape)} does not fit images {tuple(reference.shape)}"
            )

    def bind(self, reference: Tensor) -> BoundBox:
        infinite = torch.full_like(reference, math.inf)
        inside = self.mask.to(reference.device).expand_as(reference)
        upper = torch.where(inside, infinite, torch.zeros_like(reference))
        return BoundBox(self, -upper, upper)

    def select(self, index: Tensor, batch: int) -> Support:
        per_image = self.mask.ndim == 4 and self.mask.shape[0] > 1
        return Support(self.mask[index.to(self.mask.device)]) if per_image else self

    def to(self, *, dtype: torch.dtype, device: torch.device) -> Support:
        return Support(self.mask.to(device))


class BoundBox(BoundConstraint):
    """Elementwise bounds on ``d``. A pixel with infinite bounds is free.

    Attributes:
        lower, upper: (B, C, H, W) each.
    """

    def __init__(self, constraint: Constraint, lower: Tensor, upper: Tensor) -> None:
        self.constraint = constraint
        self.lower, self.upper = lower, upper

    def excess(self, delta: Tensor) -> Tensor:
        """In pixel units, (B,)."""
        return torch.maximum(self.lower - delta, delta - self.upper).flatten(1).amax(dim=1)

    def scale_factor(self, delta: Tensor) -> Tensor:
        # Where a bound is exactly 0 and the perturbation lies beyond it, only t = 0 is inside. The certificate's repair
        # clips first.
        limit = torch.where(delta > 0, self.upper, self.lower)
        beyond = delta.abs() > limit.abs()
        ratio = torch.where(beyond, limit / torch.where(beyond, delta, torch.ones_like(delta)), 1.0)
        return ratio.flatten(1).amin(dim=1).clamp(0, 1)

    def retract(self, delta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return delta.clamp(self.lower, self.upper)

    @property
    def is_elementwise(self) -> bool:
        return True

    def bounds(self) -> tuple[Tensor, Tensor]:
        return self.lower, self.upper

    def support(self, direction: Tensor) -> Tensor | None:
        return elementwise_support(direction, self.lower, self.upper)

    def project(self, point: Tensor) -> Tensor:
        return point.clamp(self.lower, self.upper)

    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        lower, upper = self.lower[image].flatten().cpu().numpy(), self.upper[image].flatten().cpu().numpy()
        fixed = lower == upper
        finite_lower, finite_upper = (
            ((abs(lower) < math.inf) & ~fixed).nonzero()[0],
            ((abs(upper) < math.inf) & ~fixed).nonzero()[0],
        )
        constraints = []
        if fixed.any():
            # Two opposite inequalities would have no interior, which interior-point methods need.
            constraints.append(delta[fixed.nonzero()[0]] == lower[fixed])
        if finite_lower.size:
            constraints.append(delta[finite_lower] >= lower[finite_lower])
        if finite_upper.size:
            constraints.append(delta[finite_upper] <= upper[finite_upper])
        return ConicForm(constraints)

    def conic_size(self) -> int:
        return 2 * self.lower[0].numel()


def elementwise_support(direction: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """``sum_i max(lo_i z_i, hi_i z_i)`` per image, rounded up, (B,); +inf where a non-zero z_i meets an infinite bound.

    The bounds may themselves be rounded by a few units.
    """
    zero = torch.zeros_like(direction)
    limit = torch.where(direction > 0, upper, lower)
    return total_up(products(direction, torch.where(direction == 0, zero, limit)), operations=4)
