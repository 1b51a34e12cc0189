"""The convex step of mean SSIM: the windows' energies of d, one ellipsoid an image.

``1 - S2 = N/(N + E)`` with ``N = V_p(d)``, convex, and ``E = 2 V_p(x) + 2 cov_p(x, d) + C2``, affine; 1 - S1 likewise
with means. Around d_k it becomes ``N_k/D_k + (E_k/D_k^2)(N - N_k) - (N_k/D_k^2)(E - E_k)``, D_k = N_k + E_k: convex
where S2 >= 0, equal at d_k in value and slope, and at d = 0 never above N_k/D_k, so that 0 stays inside. (Linearising
the whole denominator, a quadratic too, lets 0 fall out once some windows are lost: the steps end early.) The product
``1 - S1 S2`` has the slope ``S2 (1 - S1)' + S1 (1 - S2)'``, whose factors at d_k weigh the two losses. All windows
together:

    d'Hd - 2 b'd <= c,    d'Hd = sum_p u_p V_p(d) + v_p m_p(d)^2,    H v = adjoint(u) v + M'((v_p - u_p) M v).
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
    """The ellipsoid of a batch. A dual block is a multiplier and a point, lambda >= 0 and any d0, flat in
    (B, 1 + C*H*W): ``y = 2 lambda (H d0 - b)``.

    Attributes:
        slope: adjoint(u), (B, C, H, W), the diagonal part of H.
        weights: v - u, (B, C, P_h, P_w).
    """

    constraint: MeanSSIMStep

    def __init__(self, constraint: MeanSSIMStep, reference: Tensor) -> None:
        self.constraint = constraint
        self.image_shape = tuple(reference.shape)
        self.operator: WindowOperator = constraint.window.operator_for(reference)
        same = {"dtype": reference.dtype, "device": reference.device}
        contrast, luminance = constraint.contrast.to(**same), constraint.luminance.to(**same)  # type: ignore[call-overload]
        self.contrast, self.luminance = contrast, luminance
        self.shift, self.level = constraint.shift.to(**same), constraint.level.to(**same)  # type: ignore[call-overload]
        self.slope = self.operator.adjoint(contrast)
        self.weights = luminance - contrast

    def product(self, image: Tensor) -> Tensor:
        """``H v``, (B, C, H, W)."""
        return self.operator.normal(image, self.slope, self.weights)

    def energy(self, delta: Tensor) -> Tensor:
        """``d'Hd`` as a sum of squares, (B,)."""
        op = self.operator
        parts = self.contrast * op.variance(delta) + self.luminance * op.mean(delta).square()
        return parts.flatten(1).sum(dim=1)

    def diagonal(self) -> Tensor:
        """The diagonal of H, (B, C, H, W)."""
        return (self.slope + self.operator.squared_adjoint(self.weights)).clamp_min(1e-6 * self.slope)

    def excess(self, delta: Tensor) -> Tensor:
        """``d'Hd - 2 b'd - c``; of :meth:`MeanSSIM.step` in units of SSIM."""
        outside = self.energy(delta) - 2 * inner(self.shift, delta) - self.level
        return with_uncovered(self.operator, outside, delta)

    def scale_factor(self, delta: Tensor) -> Tensor:
        return ball_scale_factor(self.energy(delta), inner(self.shift, delta), -self.level)

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Pixels in no window are fixed (border "valid" only)."""
        return uncovered_bounds(self.operator, self.shift)

    # -- duality -------------------------------------------------------------------------------------------

    def block_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.image_shape[0], 1 + self.shift[0].numel()),)

    def adjoint(self, block: Tensor) -> Tensor:
        """``2 lambda (H d0 - b)``, the gradient at d0 of lambda times the constraint."""
        factor, point = self._parts(block)
        return 2 * per_image(factor) * (self.product(point) - self.shift)

    def dual_value(self, block: Tensor) -> Tensor:
        """``lambda (c + d0'H d0)``: ``y'd = 2 lambda (d0'Hd - b'd) <= lambda (d'Hd + d0'Hd0 - 2b'd)``."""
        factor, point = self._parts(block)
        return factor * (self.level + self.energy(point))

    def _parts(self, block: Tensor) -> tuple[Tensor, Tensor]:
        return block[:, 0].clamp_min(0), block[:, 1:].reshape(self.image_shape)

    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        raise ProblemError("MeanSSIMStep has no conic form; the method energy_step solves it")
