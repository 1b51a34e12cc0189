"""The windows of ``dual``: at given multipliers, their part of the Lagrangian, and how much of it a point uses.

A window of :class:`~solvers.WindowSSIM` is a ball around ``a R_p x`` and an interval, with one a for
all windows. One of :class:`~solvers.ProductSSIM` is that too, at a split of its loss, but a and the sizes are its own.
After every ascent it takes the split at which its dual vector is worth most
(:mod:`solvers.constraints.ssim_windows.loss_split`);
its multipliers are then measured by the new sizes, so that the vector stays: what the split changes, they need not
learn anew.
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
LEAST_SHARE = 1e-6


class DualWindows(ABC):
    """The windows of some images.

    Attributes:
        bound: the bound set.
        radius, middle, half: of balls, and of intervals, (K, C, P_h, P_w), for the multipliers set last.
        remembers: whether what they do next depends on more than the multipliers and the point.
    """

    remembers = False
    bound: BoundWindowSSIM | BoundProductSSIM
    radius: Tensor
    middle: Tensor
    half: Tensor

    @property
    def operator(self) -> WindowOperator:
        return self.bound.operator

    @abstractmethod
    def gather(self, ball: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """At multipliers (K, C, P_h, P_w): the diagonal part of ``-L''``, and L's slope at d = 0, (K, C, H, W) each."""

    @abstractmethod
    def ratios(self, delta: Tensor, ball: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """How much of its radius and of its half width every window uses at ``delta``, for the multipliers set last."""

    @abstractmethod
    def block(self, delta: Tensor, ball: Tensor, mean: Tensor) -> WindowDual:
        """The dual block that the constraints' gradients at ``delta`` make: ball a multiplier, mean ``s_p``."""

    @abstractmethod
    def resume(self, block: WindowDual) -> Tensor:
        """The point that an earlier block was made at, (K, C, H, W); splits are taken over."""

    def follow(self, earlier: DualWindows, keep: Tensor) -> None:  # noqa: B027 (most windows have no memory)
        """Go on where the windows of more images were; ``keep`` (long) are those that are left."""

    def start(self, force: Tensor) -> None:  # noqa: B027
        """Begin as if every window had but its own part ``force`` (K, C, H, W) of the gradient."""


class FixedWindows(DualWindows):
    """Those of WindowSSIM."""

    def __init__(self, bound: BoundWindowSSIM) -> None:
        self.bound, self.radius = bound, bound.radius
        self.middle = (bound.mean_upper + bound.mean_lower) / 2
        self.half = (bound.mean_upper - bound.mean_lower) / 2
        self.centre = bound.ball_center * bound.reference
        self._centre_mean = self.operator.mean(self.centre)

    def gather(self, ball: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        asked = self.operator.adjoint(torch.stack([ball, mean * self.middle - ball * self._centre_mean]))
        return asked[0], asked[0] * self.centre + asked[1]

    def ratios(self, delta: Tensor, ball: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        centred = delta - self.centre
        means = self.operator.mean(torch.stack([centred, centred.square()]))
        spread = (means[1] - means[0].square()).clamp_min(0).sqrt()
        shift = (means[0] + self._centre_mean - self.middle).abs()
        # A window cut to one pixel has no structure, and with the sample covariance a radius of 0.
        tiny = torch.finfo(spread.dtype).tiny
        return spread / self.radius.clamp_min(tiny), shift / self.half

    def block(self, delta: Tensor, ball: Tensor, mean: Tensor) -> WindowDual:
        return WindowDual(ball, delta - self.centre, mean)

    def resume(self, block: WindowDual) -> Tensor:
        return block.point + self.centre


class SplitWindows(DualWindows):
    """Those of ProductSSIM.

    Attributes:
        share, center: (K, C, P_h, P_w), contrast's share of each window's loss, for the next multipliers, and a_p, for
            those set last.
    """

    remembers = True
    bound: BoundProductSSIM
    share: Tensor
    center: Tensor

    def __init__(self, bound: BoundProductSSIM) -> None:
        self.bound = bound
        self._take(torch.full_like(bound.spread_base, 0.5))

    def gather(self, ball: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        self._take(self.share)
        pull = ball * self.center
        asked = self.operator.adjoint(torch.stack([ball, pull, mean * self.middle - pull * self.bound.reference_mean]))
        return asked[0], asked[1] * self.bound.reference + asked[2]

    def ratios(self, delta: Tensor, ball: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        bound, a = self.bound, self.center
        shift, spread, along = bound.moments(delta)
        apart = (spread - 2 * a * along + a.square() * bound.reference_variance).clamp_min(0).sqrt()
        moved = shift - self.middle
        contrast = Loss(
            ball * (along - a * bound.reference_variance), ball * apart, bound.spread_base, bound.reference_variance
        )
        self.share = self._best(contrast, bound.luminance(mean * moved), self.share, steps=2)
        split = bound.split(self.share)
        return apart / split.radius.clamp_min(torch.finfo(apart.dtype).tiny), moved.abs() / (
            (split.mean_upper - split.mean_lower) / 2
        )

    def block(self, delta: Tensor, ball: Tensor, mean: Tensor) -> WindowDual:
        return WindowDual(ball, delta, mean, -ball * self.center)

    def resume(self, block: WindowDual) -> Tensor:
        if block.reference is not None:
            center = -block.reference / block.ball
            known = center.isfinite() & (center > 0)
            level = torch.where(known, center, 1.0)
            other = ((1 / self.bound.constraint.threshold) / (1 + level) - 1).clamp_min(0)
            self._take(torch.where(known, share_of(level, other), self.share))
        return block.point

    def follow(self, earlier: DualWindows, keep: Tensor) -> None:
        assert isinstance(earlier, SplitWindows)
        self._take(earlier.share[keep])

    def start(self, force: Tensor) -> None:
        bound = self.bound
        shift, spread, along = bound.moments(force)
        contrast = Loss(along, spread.sqrt(), bound.spread_base, bound.reference_variance)
        self._take(self._best(contrast, bound.luminance(shift), None))

    def _best(self, contrast: Loss, luminance: Loss, share: Tensor | None, steps: int = SHARE_STEPS) -> Tensor:
        share = best_share(contrast, luminance, self.bound.constraint.threshold, share, steps)
        return share.clamp(LEAST_SHARE, 1 - LEAST_SHARE)

    def _take(self, share: Tensor) -> None:
        """Fix the splits, and what follows from them."""
        split = self.bound.split(share)
        self.share, self.center, self.radius = share, torch.as_tensor(split.ball_center), split.radius
        self.middle = (split.mean_upper + split.mean_lower) / 2
        self.half = (split.mean_upper - split.mean_lower) / 2


def dual_windows(bound: BoundConstraint) -> DualWindows | None:
    """The windows of a bound set; ``None`` for sets of another kind."""
    if isinstance(bound, BoundProductSSIM):
        return SplitWindows(bound)
    return FixedWindows(bound) if isinstance(bound, BoundWindowSSIM) else None
