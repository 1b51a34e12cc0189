"""The convex step of mean SSIM: around a point d_k the index is replaced by one ellipsoid an image.

``1 - S2 = N/(N + E)`` with ``N = V_p(d)``, convex, and ``E = 2 V_p(x) + 2 cov_p(x, d) + C2``, affine. The loss 1 - S1
has the same form with means. With the values N_k, E_k and D_k = N_k + E_k at d_k, the step replaces 1 - S2 by

    N_k/D_k + (E_k/D_k^2)(N - N_k) - (N_k/D_k^2)(E - E_k).

This model is convex where S2 >= 0. At d_k it equals 1 - S2 in value and gradient. At d = 0 it is at most N_k/D_k, so d
= 0 stays inside. (A model that linearises the whole denominator loses d = 0 once some windows are lost, and the steps
end early.) The product ``1 - S1 S2`` has the gradient ``S2 (1 - S1)' + S1 (1 - S2)'``; its factors at d_k weigh the two
models. The sum over all windows is one quadratic:

    d'Hd - 2 b'd <= c,    d'Hd = sum_p u_p V_p(d) + v_p m_p(d)^2,    H d = adjoint(u) d + M'((v_p - u_p) M d).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from solvers.batch_algebra import ball_scale_factor, inner, per_image
from solvers.constraints.base import BoundConstraint, ConicForm, Constraint
from solvers.constraints.ssim_windows.moments import uncovered_bounds, with_uncovered
from solvers.errors import ProblemError
from solvers.rounding import gamma, rounded_up, total, total_and_error, total_up
from solvers.windows import Window, WindowOperator

if TYPE_CHECKING:
    import cvxpy as cp


@dataclass(frozen=True, eq=False)
class MeanSSIMStep(Constraint):
    """``sum_p u_p V_p(d) + v_p m_p(d)^2 - 2 b'd <= c``: an ellipsoid that holds d = 0.

    Attributes:
        window: the sliding window.
        contrast, luminance: u and v, (B, C, P_h, P_w) each, not negative.
        shift: b, (B, C, H, W).
        level: c, (B,), not negative.

    Raises:
        ProblemError: a tensor has another shape, or a number that is not finite or is negative.
    """

    window: Window
    contrast: Tensor
    luminance: Tensor
    shift: Tensor
    level: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.window, Window):
            raise ProblemError(f"MeanSSIMStep window must be a solvers.Window, got {self.window!r}")
        if self.shift.ndim != 4 or self.level.shape != self.shift.shape[:1]:
            raise ProblemError(
                f"MeanSSIMStep needs a shift (B, C, H, W) and a level (B,), got {tuple(self.shift.shape)} and "
                f"{tuple(self.level.shape)}"
            )
        lattice = (*self.shift.shape[:2], *self.window.operator_for(self.shift).shape)
        for name in ("contrast", "luminance"):
            value = getattr(self, name)
            if tuple(value.shape) != lattice:
                raise ProblemError(f"MeanSSIMStep {name} must have shape {lattice}, got {tuple(value.shape)}")
            if not bool((value.isfinite() & (value >= 0)).all()):
                raise ProblemError(f"MeanSSIMStep {name} must be finite and not negative")
        if not bool(self.shift.isfinite().all()):
            raise ProblemError("MeanSSIMStep shift must be finite")
        if not bool((self.level.isfinite() & (self.level >= 0)).all()):
            raise ProblemError(f"MeanSSIMStep level must be finite and not negative, got {self.level.tolist()}")

    def check(self, reference: Tensor) -> None:
        if self.shift.shape != reference.shape:
            raise ProblemError(f"MeanSSIMStep is for images {tuple(self.shift.shape)}, not {tuple(reference.shape)}")

    def bind(self, reference: Tensor) -> BoundMeanSSIMStep:
        return BoundMeanSSIMStep(self, reference)

    def select(self, index: Tensor, batch: int) -> MeanSSIMStep:
        values = (self.contrast, self.luminance, self.shift, self.level)
        return MeanSSIMStep(self.window, *(value[index.to(value.device)] for value in values))

    def to(self, *, dtype: torch.dtype, device: torch.device) -> MeanSSIMStep:
        values = (self.contrast, self.luminance, self.shift, self.level)
        return MeanSSIMStep(self.window, *(value.to(dtype=dtype, device=device) for value in values))


class BoundMeanSSIMStep(BoundConstraint):
    """The ellipsoids of a batch of images.

    A dual block is a multiplier lambda >= 0 and any point d0, ``y = 2 lambda (H d0 - b)``; both lie in one tensor
    (B, 1 + C*H*W), the multiplier first.

    Attributes:
        slope: adjoint(u), (B, C, H, W), the part of H that acts on each pixel alone.
        weights: v - u, (B, C, P_h, P_w).
    """

    constraint: MeanSSIMStep

    def __init__(self, constraint: MeanSSIMStep, reference: Tensor) -> None:
        self.constraint = constraint
        self.image_shape = tuple(reference.shape)
        self.operator: WindowOperator = constraint.window.operator_for(reference)
        self.contrast, self.luminance = constraint.contrast.to(reference), constraint.luminance.to(reference)
        self.shift, self.level = constraint.shift.to(reference), constraint.level.to(reference)
        self.slope = self.operator.adjoint(self.contrast)
        self.weights = self.luminance - self.contrast

    def product(self, image: Tensor) -> Tensor:
        """``H v``, (B, C, H, W)."""
        return self.operator.normal(image, self.slope, self.weights)

    def energy(self, delta: Tensor) -> Tensor:
        """``d'Hd`` as a sum of squares, (B,)."""
        op = self.operator
        return total(self.contrast * op.variance(delta) + self.luminance * op.mean(delta).square())

    def energy_up(self, delta: Tensor) -> Tensor:
        """:meth:`energy`, rounded up, (B,)."""
        op = self.operator
        eta = 8 * op.relative_error
        largest = delta.abs().amax(dim=(-2, -1), keepdim=True)
        std, mean = op.variance(delta).sqrt() * (1 + eta) + eta * largest, op.mean(delta).abs() + eta * largest
        return total_up(self.contrast * std.square() + self.luminance * mean.square(), operations=8)

    def diagonal(self) -> Tensor:
        """The diagonal of H, (B, C, H, W)."""
        return (self.slope + self.operator.squared_adjoint(self.weights)).clamp_min(1e-6 * self.slope)

    def excess(self, delta: Tensor) -> Tensor:
        """``d'Hd - 2 b'd - c``, (B,). For an ellipsoid of :meth:`~solvers.MeanSSIM.step` the unit is that of SSIM."""
        outside = self.energy(delta) - 2 * inner(self.shift, delta) - self.level
        return with_uncovered(self.operator, outside, delta)

    def certain_excess(self, delta: Tensor) -> Tensor:
        shift, error = total_and_error(self.shift * delta, operations=2)
        outside = self.energy_up(delta) - 2 * (shift - error) - self.level
        outside = outside + gamma(8) * (self.level + 2 * shift.abs())
        return with_uncovered(self.operator, outside, delta)

    def scale_factor(self, delta: Tensor) -> Tensor:
        return ball_scale_factor(self.energy(delta), inner(self.shift, delta), -self.level)

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Bounds that fix the pixels in no window, or ``None`` where there are none."""
        return uncovered_bounds(self.operator, self.shift)

    # -- duality -------------------------------------------------------------------------------------------

    def block_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.image_shape[0], 1 + self.shift[0].numel()),)

    def adjoint(self, block: Tensor) -> Tensor:
        """``2 lambda (H d0 - b)``, the gradient at d0 of lambda times the constraint."""
        factor, point = self._parts(block)
        return 2 * per_image(factor) * (self.product(point) - self.shift)

    def adjoint_error(self, block: Tensor) -> Tensor:
        factor, point = self._parts(block)
        largest = point.abs().amax(dim=(-2, -1), keepdim=True)
        sizes = total_up((self.contrast.abs() * 2 + self.luminance.abs()) * largest, operations=8)
        return 8 * self.operator.relative_error * factor * (sizes + total(self.shift.abs()))

    def dual_value(self, block: Tensor) -> Tensor:
        """``lambda (c + d0'H d0)``, an upper bound on ``y'd`` over the ellipsoid, rounded up, (B,).

        ``y'd = 2 lambda (d0'Hd - b'd) <= lambda (d'Hd + d0'Hd0 - 2 b'd) <= lambda (c + d0'Hd0)``.
        """
        factor, point = self._parts(block)
        value = factor * (self.level + self.energy_up(point))
        return rounded_up(value, gamma(8) * value)

    def _parts(self, block: Tensor) -> tuple[Tensor, Tensor]:
        return block[:, 0].clamp_min(0), block[:, 1:].reshape(self.image_shape)

    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        raise ProblemError("MeanSSIMStep has no conic form; the method energy_step solves it")
