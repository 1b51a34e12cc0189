"""The windows' part of the Lagrangian of ``dual``, and what a point uses of every window.

A window of :class:`~solvers.WindowSSIM` is a ball around ``a R_p x`` and an interval, with one number a for all
windows. A window of :class:`~solvers.ProductSSIM` splits its loss between the two, so its a and its sizes are its own.
After every maximisation such a window takes the split at which its dual vector is worth most
(:mod:`solvers.constraints.ssim_windows.loss_split`). Its use is then measured by the new sizes, so that the dual vector
stays and the multipliers need not learn anew what the split changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from solvers.constraints.base import BoundConstraint
from solvers.constraints.product_ssim import BoundProductSSIM
from solvers.constraints.ssim_windows.loss_split import SHARE_STEPS, Loss, best_share, share_of
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.constraints.window_ssim import BoundWindowSSIM
from solvers.windows import WindowOperator

# Shares of the loss stay this far from 0 and 1, so that no ball and no interval vanishes.
MIN_SHARE = 1e-6


class DualWindows(ABC):
    """The windows of some images.

    Attributes:
        bound: the bound set.
        radius, middle, half_width: of the balls, and of the intervals, (K, C, P_h, P_w), for the multipliers set last.
        remembers: whether the windows have a state beside the multipliers and the point (the splits).
    """

    remembers = False
    bound: BoundWindowSSIM | BoundProductSSIM
    radius: Tensor
    middle: Tensor
    half_width: Tensor

    @property
    def operator(self) -> WindowOperator:
        return self.bound.operator

    @abstractmethod
    def slope_and_right(self, ball: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """At multipliers (K, C, P_h, P_w): the diagonal part of ``-L''``, and L's slope at d = 0, (K, C, H, W) each."""

    @abstractmethod
    def ratios(self, delta: Tensor, ball: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """How much of its radius and of its half width every window uses at ``delta``, for the multipliers set last."""

    @abstractmethod
    def dual_block(self, delta: Tensor, ball: Tensor, mean: Tensor) -> WindowDual:
        """The dual block that the constraints' gradients at ``delta`` make: ball a multiplier, mean ``s_p``."""

    @abstractmethod
    def resume(self, block: WindowDual) -> Tensor:
        """The point that an earlier block was made at, (K, C, H, W); splits are taken over."""

    def follow(self, earlier: DualWindows, keep: Tensor) -> None:  # noqa: B027 (most windows have no memory)
        """Take over the state of the windows of more images; ``keep`` (long) are the positions of these among them."""

    def start(self, force: Tensor) -> None:  # noqa: B027
        """Begin as if every window had only its own part ``force`` (K, C, H, W) of the gradient."""


class FixedWindows(DualWindows):
    """The windows of WindowSSIM."""

    def __init__(self, bound: BoundWindowSSIM) -> None:
        self.bound, self.radius = bound, bound.radius
        self.middle, self.half_width = bound.window_balls.mean_middle, bound.window_balls.mean_half_width
        self.centre = bound.ball_center * bound.reference
        self._centre_mean = self.operator.mean(self.centre)

    def slope_and_right(self, ball: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        slope, offset = self.operator.adjoint(torch.stack([ball, mean * self.middle - ball * self._centre_mean]))
        return slope, slope * self.centre + offset

    def ratios(self, delta: Tensor, ball: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        centred = delta - self.centre
        means = self.operator.mean(torch.stack([centred, centred.square()]))
        spread = (means[1] - means[0].square()).clamp_min(0).sqrt()
        shift = (means[0] + self._centre_mean - self.middle).abs()
        # A window cut to one pixel has no structure, and with the sample covariance a radius of 0.
        tiny = torch.finfo(spread.dtype).tiny
        return spread / self.radius.clamp_min(tiny), shift / self.half_width

    def dual_block(self, delta: Tensor, ball: Tensor, mean: Tensor) -> WindowDual:
        return WindowDual(ball, delta - self.centre, mean)

    def resume(self, block: WindowDual) -> Tensor:
        return block.point + self.centre


class SplitWindows(DualWindows):
    """The windows of ProductSSIM.

    Attributes:
        share: (K, C, P_h, P_w), contrast's share of each window's loss, for the multipliers that are set next.
        center: a_p, (K, C, P_h, P_w), for the multipliers that were set last.
    """

    remembers = True
    bound: BoundProductSSIM
    share: Tensor
    center: Tensor

    def __init__(self, bound: BoundProductSSIM) -> None:
        self.bound = bound
        self._set_share(torch.full_like(bound.spread_base, 0.5))

    def slope_and_right(self, ball: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        self._set_share(self.share)
        tilt = ball * self.center
        offset = mean * self.middle - tilt * self.bound.reference_mean
        slope, tilt, offset = self.operator.adjoint(torch.stack([ball, tilt, offset]))
        return slope, tilt * self.bound.reference + offset

    def ratios(self, delta: Tensor, ball: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        bound, a = self.bound, self.center
        shift, spread, along = bound.moments(delta)
        distance = (spread - 2 * a * along + a.square() * bound.reference_variance).clamp_min(0).sqrt()
        offset = shift - self.middle
        contrast = Loss(
            ball * (along - a * bound.reference_variance), ball * distance, bound.spread_base, bound.reference_variance
        )
        self.share = self._best_share(contrast, bound.luminance(mean * offset), self.share, steps=2)
        split = bound.split(self.share)
        return distance / split.radius.clamp_min(torch.finfo(distance.dtype).tiny), offset.abs() / split.mean_half_width

    def dual_block(self, delta: Tensor, ball: Tensor, mean: Tensor) -> WindowDual:
        return WindowDual(ball, delta, mean, -ball * self.center)

    def resume(self, block: WindowDual) -> Tensor:
        if block.reference is not None:
            center = -block.reference / block.ball
            usable = center.isfinite() & (center > 0)
            contrast_level = torch.where(usable, center, 1.0)
            luminance_level = ((1 / self.bound.constraint.threshold) / (1 + contrast_level) - 1).clamp_min(0)
            self._set_share(torch.where(usable, share_of(contrast_level, luminance_level), self.share))
        return block.point

    def follow(self, earlier: DualWindows, keep: Tensor) -> None:
        assert isinstance(earlier, SplitWindows)
        self._set_share(earlier.share[keep])

    def start(self, force: Tensor) -> None:
        bound = self.bound
        shift, spread, along = bound.moments(force)
        contrast = Loss(along, spread.sqrt(), bound.spread_base, bound.reference_variance)
        self._set_share(self._best_share(contrast, bound.luminance(shift), None))

    def _best_share(self, contrast: Loss, luminance: Loss, share: Tensor | None, steps: int = SHARE_STEPS) -> Tensor:
        share = best_share(contrast, luminance, self.bound.constraint.threshold, share, steps)
        return share.clamp(MIN_SHARE, 1 - MIN_SHARE)

    def _set_share(self, share: Tensor) -> None:
        """Fix the splits, and what follows from them."""
        split = self.bound.split(share)
        self.share, self.center, self.radius = share, torch.as_tensor(split.ball_center), split.radius
        self.middle, self.half_width = split.mean_middle, split.mean_half_width


def dual_windows(bound: BoundConstraint) -> DualWindows | None:
    """The windows of a bound set; ``None`` for sets of another kind."""
    if isinstance(bound, BoundProductSSIM):
        return SplitWindows(bound)
    return FixedWindows(bound) if isinstance(bound, BoundWindowSSIM) else None
