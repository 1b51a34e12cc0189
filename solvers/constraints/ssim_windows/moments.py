"""What all sets of windows share once an image is known: its windows' moments, their losses, the pixels in none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.constraints.base import BoundConstraint
from solvers.windows import Window, WindowOperator


@dataclass(frozen=True, eq=False)
class WindowBalls:
    """A ball and an interval for every window: ``|R_p d - a_p R_p x| <= r_p`` and ``lo_p <= m_p(d) <= hi_p``.

    Attributes:
        ball_center: a_p, (B, C, P_h, P_w), or one number for all windows; the ball's centre is ``a_p R_p x``.
        radius: r_p, (B, C, P_h, P_w).
        mean_lower, mean_upper: lo_p and hi_p, (B, C, P_h, P_w) each.
    """

    ball_center: Tensor | float
    radius: Tensor
    mean_lower: Tensor
    mean_upper: Tensor

    @property
    def keeps_means(self) -> bool:
        """Whether every interval is a single point: the windows' means then are equalities."""
        return not bool((self.mean_upper > self.mean_lower).any())


class BoundWindows(BoundConstraint):
    """The windows of a batch of images and what SSIM asks of them.

    Attributes:
        reference: x, (B, C, H, W).
        operator: the window operator.
        c1, c2: the constants of S1 and S2; c2 is C2/kappa, a number or (P_h, P_w).
        reference_mean, reference_variance: m_p(x), V_p(x), each (B, C, P_h, P_w).
    """

    def __init__(self, reference: Tensor, window: Window, data_range: float, *, sample_covariance: bool) -> None:
        self.reference = reference
        self.operator: WindowOperator = window.operator_for(reference)
        self.c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        self.c2: Tensor | float = c2
        if sample_covariance:
            # C2/kappa with kappa = N/(N - 1); a window cut to one pixel has no variance and C2/kappa = 0.
            self.c2 = c2 * (self.operator.pixels - 1) / self.operator.pixels
        self.reference_mean, self.reference_variance = self.operator.mean(reference), self.operator.variance(reference)

    def balls(self, alpha: float, beta: float) -> WindowBalls:
        """``S2 >= 1 - alpha`` and ``S1 >= 1 - beta`` in every window: with ``a = alpha/(1 - alpha)`` a ball of radius
        ``r_p^2 = alpha (2 V_p(x) + C2)/(1 - alpha) + a^2 V_p(x)``, and an interval likewise."""
        mean, variance = self.reference_mean, self.reference_variance
        ball_center, mean_center = alpha / (1 - alpha), beta / (1 - beta)
        radius = (alpha * (2 * variance + self.c2) / (1 - alpha) + ball_center**2 * variance).sqrt()
        half = (beta * (2 * mean.square() + self.c1) / (1 - beta) + mean_center**2 * mean.square()).sqrt()
        return WindowBalls(ball_center, radius, mean_center * mean - half, mean_center * mean + half)

    def losses(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """``1 - S1`` and ``1 - S2`` of every window, free of cancellation: two (B, C, P_h, P_w)."""
        op = self.operator
        shift = op.mean(delta)
        moved = self.reference + delta
        luminance = shift.square() / (self.reference_mean.square() + (self.reference_mean + shift).square() + self.c1)
        energy = self.reference_variance + op.variance(moved) + self.c2
        contrast = op.variance(delta) / energy.clamp_min(torch.finfo(delta.dtype).tiny)
        return luminance, contrast

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Pixels in no window are fixed (border "valid" only)."""
        return uncovered_bounds(self.operator, self.reference)


def uncovered_bounds(op: WindowOperator, image: Tensor) -> tuple[Tensor, Tensor] | None:
    """Bounds (H, W) that fix the pixels in no window and leave the others free, in the dtype of ``image``; ``None``
    where every pixel lies in one."""
    if bool(op.covered.all()):
        return None
    upper = torch.where(op.covered, math.inf, 0.0).to(image.dtype)
    return -upper, upper


def with_uncovered(op: WindowOperator, excess: Tensor, delta: Tensor) -> Tensor:
    """``excess`` (B,), or the size of a pixel of ``delta`` (B, C, H, W) in no window where that is larger."""
    if bool(op.covered.all()):
        return excess
    return torch.maximum(excess, delta.masked_fill(op.covered, 0).abs().flatten(1).amax(dim=1))


def mean_loss(luminance: Tensor, contrast: Tensor) -> Tensor:
    """The mean of ``1 - S1 S2`` from ``1 - S1`` and ``1 - S2``, (B, C, P_h, P_w) each: (B,)."""
    return (luminance + contrast - luminance * contrast).flatten(1).mean(dim=1)
