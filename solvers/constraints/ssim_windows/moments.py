"""What all sets of SSIM windows share for given images: moments, balls and losses of the windows, and uncovered pixels.

The formulas are derived in :mod:`solvers.constraints.window_ssim`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from solvers.constraints.base import BoundConstraint
from solvers.constraints.ssim_windows.window_dual import WindowDual, centred_planes, largest_of_planes
from solvers.data_range import VALID_RANGES, check_spread
from solvers.rounding import UNIT, total, total_up
from solvers.windows import Window, WindowOperator


def check_data_range(kind: str, data_range: float, images: Tensor, sound: Tensor) -> None:
    """Refuse a ``data_range`` that can't be right for the pixels of images; see :mod:`solvers.data_range`.

    Args:
        kind: what the error calls the set.
        data_range: L.
        images: (B, C, H, W). Their windows lie within channels.
        sound: (B,) bool, which images count.

    Raises:
        ProblemError: the pixels of a channel spread over more than 4 L.
    """
    check_spread(
        images.flatten(2),
        data_range,
        sound,
        option=f"{kind} data_range is {data_range:g}",
        group=" in a channel",
        remedy=f"the range that pixels can take ({VALID_RANGES})",
    )


# The size of a mean that counts as 0 where means are kept, relative to the data range.
KEPT_MEAN_SHARE = 2.0**-44


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
    def mean_middle(self) -> Tensor:
        """The middle of every interval, (B, C, P_h, P_w)."""
        return (self.mean_upper + self.mean_lower) / 2

    @property
    def mean_half_width(self) -> Tensor:
        """Half the width of every interval, (B, C, P_h, P_w)."""
        return (self.mean_upper - self.mean_lower) / 2

    @property
    def keeps_means(self) -> bool:
        """Whether every interval is a single point: the windows' means then are equalities."""
        return not bool((self.mean_upper > self.mean_lower).any())


class BoundWindows(BoundConstraint):
    """The SSIM windows of a batch of images.

    Attributes:
        reference: x, (B, C, H, W).
        operator: the window operator.
        c1, c2: the constants of S1 and S2. ``c2`` is C2/kappa, a number or (P_h, P_w); kappa is 1, or N/(N - 1) for
            sample covariance.
        centred_reference: x less the mean of each channel, (B, C, H, W). Windows see structure alone, so it may stand
            in the place of x wherever ``R_p x`` is meant. Nothing cancels then, however far x is from 0.
        reference_mean, reference_variance: m_p(x) and V_p(x), (B, C, P_h, P_w) each.
    """

    def __init__(self, reference: Tensor, window: Window, data_range: float, *, sample_covariance: bool) -> None:
        self.reference = reference
        self.operator: WindowOperator = window.operator_for(reference)
        self.c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        self.c2: Tensor | float = c2
        if sample_covariance:
            # C2/kappa with kappa = N/(N - 1). A window cut to one pixel has no variance, and C2/kappa = 0.
            self.c2 = c2 * (self.operator.pixels - 1) / self.operator.pixels
        self.centred_reference = centred_planes(reference)
        self.reference_mean = self.operator.mean(reference)
        self.reference_variance = self.operator.variance(self.centred_reference)
        self._data_range = data_range

    def balls(self, alpha: float, beta: float) -> WindowBalls:
        """The balls and intervals that stand for ``S2 >= 1 - alpha`` and ``S1 >= 1 - beta`` in every window.

        With ``a = alpha/(1 - alpha)`` the ball has the centre ``a R_p x`` and the radius
        ``r_p^2 = alpha (2 V_p(x) + C2)/(1 - alpha) + a^2 V_p(x)``. With ``b = beta/(1 - beta)`` the interval has the
        middle ``b m_p(x)`` and the half width ``l_p^2 = beta (2 m_p(x)^2 + C1)/(1 - beta) + b^2 m_p(x)^2``.

        Args:
            alpha: the bound on 1 - S2, in (0, 1).
            beta: the bound on 1 - S1, in [0, 1).
        """
        mean, variance = self.reference_mean, self.reference_variance
        ball_center, mean_center = alpha / (1 - alpha), beta / (1 - beta)
        radius = (alpha * (2 * variance + self.c2) / (1 - alpha) + ball_center**2 * variance).sqrt()
        half_width = (beta * (2 * mean.square() + self.c1) / (1 - beta) + mean_center**2 * mean.square()).sqrt()
        return WindowBalls(ball_center, radius, mean_center * mean - half_width, mean_center * mean + half_width)

    def losses(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """``1 - S1`` and ``1 - S2`` of every window, free of cancellation: (B, C, P_h, P_w) each.

        ``1 - S1 = m(d)^2/(m(x)^2 + (m(x) + m(d))^2 + C1)`` and ``1 - S2 = V(d)/(V(x) + V(x + d) + C2)``.
        """
        op = self.operator
        mean = op.mean(delta)
        perturbed = self.centred_reference + delta
        luminance = mean.square() / (self.reference_mean.square() + (self.reference_mean + mean).square() + self.c1)
        denominator = self.reference_variance + op.variance(perturbed) + self.c2
        contrast = op.variance(delta) / denominator.clamp_min(torch.finfo(delta.dtype).tiny)
        return luminance, contrast

    def certain_losses(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Upper bounds on the exact losses ``1 - S1`` and ``1 - S2`` of every window: (B, C, P_h, P_w) each."""
        op, eta = self.operator, self.operator.relative_error
        largest = largest_of_planes(delta)
        # A computed standard deviation is wrong by the share 4 eta, and by 4 eta of the largest pixel.
        std = op.variance(delta).sqrt() * (1 + 4 * eta) + self._several_pixels * (4 * eta * largest)
        reference_std = self.reference_variance.sqrt() * (1 - 4 * eta) - 4 * eta * self._largest_centred
        perturbed_std = op.variance(self.centred_reference + delta).sqrt() * (1 - 4 * eta)
        perturbed_std = perturbed_std - 4 * eta * (self._largest_centred + largest)
        denominator = reference_std.clamp_min(0).square() + perturbed_std.clamp_min(0).square() + self.c2 * (1 - eta)
        contrast = std.square() / denominator.clamp_min(torch.finfo(delta.dtype).tiny) * (1 + eta)
        # A computed mean is wrong by eta of the largest pixel.
        mean, moved = op.mean(delta), eta * (largest + self._largest)
        squares = self.reference_mean.square() + (self.reference_mean + mean).square() + self.c1
        wrong = 2 * (self.reference_mean.abs() + (self.reference_mean + mean).abs()) * moved + eta * squares
        squares = (squares - wrong).clamp_min(self.c1 * (1 - eta))
        luminance = (mean.abs() + eta * largest).square() / squares * (1 + eta)
        return luminance, contrast

    def certain_mean(self, delta: Tensor) -> Tensor:
        """An upper bound on the exact ``|m_p(d)|`` of every window, (B, C, P_h, P_w)."""
        return self.operator.mean(delta).abs() + self.operator.relative_error * largest_of_planes(delta)

    @property
    def kept_mean_tolerance(self) -> float:
        """A window's mean of d of at most this size, in pixels, counts as 0 where means are kept.

        Floating point can't meet the equality. The certificate's bound speaks of the set with this tolerance.
        """
        return (KEPT_MEAN_SHARE + 4 * self.operator.window.size * UNIT) * self._data_range

    def balls_error(self, balls: WindowBalls, ball_center: float, mean_center: float) -> Tensor:
        """A bound on what rounding changed in radii and in ends of intervals, absolutely: (B, C, 1, 1).

        Args:
            balls: the balls and intervals.
            ball_center: a, or the largest one.
            mean_center: b, or the largest one.
        """
        eta = self.operator.relative_error
        sizes = largest_of_planes(balls.radius) + largest_of_planes(torch.maximum(-balls.mean_lower, balls.mean_upper))
        spread = (ball_center * (2 + ball_center)) ** 0.5 * self._largest_centred
        shift = (mean_center + (mean_center * (2 + mean_center)) ** 0.5) * self._largest
        steepness = 1 + ball_center + mean_center  # 1/(1 - alpha) and 1/(1 - beta) magnify their rounding
        return 8 * eta * steepness * (sizes + spread + shift)

    def spread_residual(self, direction: Tensor, block: WindowDual, lower: Tensor, upper: Tensor) -> Tensor:
        """A bound on ``(z - A'y)'d`` over ``lower <= d <= upper``, for a block that should have ``A'y = z``: (B,)."""
        adjoint = block.adjoint(self.operator, self.reference)
        rest = torch.where(self.operator.covered, direction - adjoint, 0.0)
        size = total_up(rest.abs(), operations=4) + block.adjoint_error(self.operator, self.reference)
        largest = torch.maximum(lower.abs(), upper.abs()).flatten(1).amax(dim=1)
        return torch.where(size > 0, size * largest * (1 + 8 * UNIT), 0.0)

    @cached_property
    def _largest(self) -> Tensor:
        """The largest ``|x|`` of each channel, (B, C, 1, 1)."""
        return largest_of_planes(self.reference)

    @cached_property
    def _largest_centred(self) -> Tensor:
        return largest_of_planes(self.centred_reference)

    @cached_property
    def _several_pixels(self) -> Tensor:
        """1 for windows of more than one pixel, 0 for others, which have no structure: (P_h, P_w)."""
        return (self.operator.pixels > 1).to(self.reference.dtype)

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Bounds that fix the pixels in no window, or ``None`` where there are none; see :func:`uncovered_bounds`."""
        return uncovered_bounds(self.operator, self.reference)


def uncovered_bounds(op: WindowOperator, image: Tensor) -> tuple[Tensor, Tensor] | None:
    """Bounds (H, W) that fix the pixels in no window and leave all others free, in the dtype of ``image``.

    ``None`` where every pixel lies in a window. Pixels lie in no window only under ``border="valid"``.
    """
    if bool(op.covered.all()):
        return None
    upper = torch.where(op.covered, math.inf, 0.0).to(image.dtype)
    return -upper, upper


def with_uncovered(op: WindowOperator, excess: Tensor, delta: Tensor) -> Tensor:
    """The larger of ``excess`` (B,) and the largest size of a pixel of ``delta`` (B, C, H, W) in no window: (B,)."""
    if bool(op.covered.all()):
        return excess
    return torch.maximum(excess, delta.masked_fill(op.covered, 0).abs().flatten(1).amax(dim=1))


def mean_loss(luminance: Tensor, contrast: Tensor) -> Tensor:
    """The mean of ``1 - S1 S2`` over windows and channels, (B,).

    The arguments are ``1 - S1`` and ``1 - S2``, (B, C, P_h, P_w) each.
    """
    losses = luminance + contrast - luminance * contrast
    return total(losses) / losses[0].numel()
