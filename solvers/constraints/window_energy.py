"""The convex step of mean SSIM: the windows' energies of d, one ellipsoid an image (design section 4).

``1 - S2 = N/D`` with ``N = V_p(d)`` and ``D = V_p(x) + V_p(x + d) + C2``, both convex quadratics, and 1 - S1 likewise with
the squares of means. Around d_k, N/D becomes ``N/D_k - (N_k/D_k^2)(D_k + D_k'(d - d_k) - D_k)``: convex, equal at d_k in
value and slope. Of the product, ``1 - S1 S2`` has the slope ``S2 (1 - S1)' + S1 (1 - S2)'``, whose factors at d_k weigh the
two losses. All windows together:

    d'Hd - 2 b'd <= c,    d'Hd = sum_p u_p V_p(d) + v_p m_p(d)^2,    H v = adjoint(u) v + M'((v_p - u_p) M v).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from solvers.constraints.base import BoundConstraint, ConicForm, Constraint, ball_scale_factor, inner, per_image
from solvers.errors import ProblemError
from solvers.windows import Window, WindowOperator

if TYPE_CHECKING:
    import cvxpy as cp

    from solvers.constraints.mean_ssim import MeanSSIM


@dataclass(frozen=True, eq=False)
class WindowEnergy(Constraint):
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
            raise ProblemError(f"WindowEnergy window must be a solvers.Window, got {self.window!r}")
        if self.shift.ndim != 4 or self.level.shape != self.shift.shape[:1]:
            raise ProblemError(
                f"WindowEnergy needs a shift (B, C, H, W) and a level (B,), got {tuple(self.shift.shape)} and "
                f"{tuple(self.level.shape)}"
            )
        lattice = (*self.shift.shape[:2], *self.window.operator_for(self.shift).shape)
        for name in ("contrast", "luminance"):
            value = getattr(self, name)
            if tuple(value.shape) != lattice:
                raise ProblemError(f"WindowEnergy {name} must have shape {lattice}, got {tuple(value.shape)}")
            if not bool((value.isfinite() & (value >= 0)).all()):
                raise ProblemError(f"WindowEnergy {name} must be finite and not negative")
        if not bool(self.shift.isfinite().all()):
            raise ProblemError("WindowEnergy shift must be finite")
        if not bool((self.level.isfinite() & (self.level >= 0)).all()):
            raise ProblemError(f"WindowEnergy level must be finite and not negative, got {self.level.tolist()}")

    def check(self, reference: Tensor) -> None:
        if self.shift.shape != reference.shape:
            raise ProblemError(
                f"WindowEnergy is for images {tuple(self.shift.shape)}, not {tuple(reference.shape)}"
            )

    def bind(self, reference: Tensor) -> BoundWindowEnergy:
        return BoundWindowEnergy(self, reference)

    def select(self, index: Tensor, batch: int) -> WindowEnergy:
        values = (self.contrast, self.luminance, self.shift, self.level)
        return WindowEnergy(self.window, *(value[index.to(value.device)] for value in values))

    def to(self, *, dtype: torch.dtype, device: torch.device) -> WindowEnergy:
        values = (self.contrast, self.luminance, self.shift, self.level)
        return WindowEnergy(self.window, *(value.to(dtype=dtype, device=device) for value in values))


class BoundWindowEnergy(BoundConstraint):
    """The ellipsoid of a batch. A dual block is an image y (B, C, H, W), read as ``y = 2 lambda (H d0 - b)`` with the
    lambda that bounds best: see :meth:`dual_value`. Blocks come as (lambda (B,) in no other form than) a pair
    flattened into (B, 1 + C*H*W): lambda, then d0.

    Attributes:
        slope: adjoint(u), (B, C, H, W), the diagonal part of H.
        weights: v - u, (B, C, P_h, P_w).
    """

    constraint: WindowEnergy

    def __init__(self, constraint: WindowEnergy, reference: Tensor) -> None:
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
        if not bool(self.operator.covered.all()):
            free = delta.masked_fill(self.operator.covered, 0).abs().flatten(1).amax(dim=1)
            outside = torch.maximum(outside, free)
        return outside

    def scale_factor(self, delta: Tensor) -> Tensor:
        return ball_scale_factor(self.energy(delta), inner(self.shift, delta), -self.level)

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Pixels in no window are fixed (border "valid" only)."""
        if bool(self.operator.covered.all()):
            return None
        upper = torch.where(self.operator.covered, torch.inf, 0.0).to(self.shift.dtype)
        return -upper, upper

    # -- duality -------------------------------------------------------------------------------------------

    def block_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.image_shape[0], 1 + self.shift[0].numel()),)

    def adjoint(self, block: Tensor) -> Tensor:
        """``2 lambda (H d0 - b)``, the gradient at d0 of lambda times the constraint."""
        factor, point = self._parts(block)
        return 2 * per_image(factor) * (self.product(point) - self.shift)

    def dual_value(self, block: Tensor) -> Tensor:
        """``lambda (c + d0'H d0)``: for d in the set, ``y'd = 2 lambda (d0'Hd - b'd) <= lambda (d'Hd + d0'Hd0 - 2b'd)``."""
        factor, point = self._parts(block)
        return factor * (self.level + self.energy(point))

    def _parts(self, block: Tensor) -> tuple[Tensor, Tensor]:
        return block[:, 0].clamp_min(0), block[:, 1:].reshape(self.image_shape)

    # -- conic form ------------------------------------------------------------------------------------------

    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        import cvxpy as cp

        from solvers.constraints.window_rows import energy_rows

        rows = energy_rows(self, image)
        shift, level = self.shift[image].flatten().cpu().numpy(), float(self.level[image])
        return ConicForm([cp.sum_squares(rows @ delta) - 2 * (shift @ delta) <= level])


def energy_step(constraint: MeanSSIM, reference: Tensor, delta: Tensor) -> WindowEnergy:
    """See :meth:`~solvers.MeanSSIM.step`. Images (B, C, H, W) of the same dtype."""
    if constraint.luminance is not None:
        raise ProblemError(
            f"MeanSSIM has a convex step with luminance=None alone, got {constraint.luminance!r}: an ellipsoid knows only "
            "the mean over windows"
        )
    bound = constraint.bind(reference)
    op, count = bound.operator, bound.count
    first, second = bound.losses(delta)
    mean, shift = bound.reference_mean, op.mean(delta)
    moved = mean + shift
    whole_mean = mean.square() + moved.square() + bound.c1
    whole_variance = bound.reference_variance + op.variance(reference + delta) + bound.c2
    tiny = torch.finfo(delta.dtype).tiny
    # A window whose other term is negative would gain by losing: it keeps a little weight instead.
    for_luminance, for_contrast = ((1 - loss).clamp_min(1e-3) / count for loss in (second, first))
    u, v = for_contrast / whole_variance.clamp_min(tiny), for_luminance / whole_mean.clamp_min(tiny)
    u = torch.where(whole_variance > 0, u, 0.0)
    # The linear parts: u N_k/D_k times the slope of D, which is 2 R'R y for the variance, and 2 y m for the mean.
    tilt_u, tilt_v = u * second, v * first
    y = reference + delta
    slope, offset = op.adjoint(torch.stack([tilt_u, tilt_v * moved - tilt_u * op.mean(y)]))
    linear = slope * y + offset  # half the gradient of sum tilt D
    value = (for_contrast * second + for_luminance * first).flatten(1).sum(dim=1)
    # The exact loss at d_k, and the model's: sum u N - tilt (D_k'(d - d_k)).
    exact = (first + second - first * second).flatten(1).mean(dim=1)
    level = (1 - constraint.threshold) - exact + value - 2 * inner(linear, delta)
    return WindowEnergy(constraint.window, u, v, linear, level.clamp_min(0))
