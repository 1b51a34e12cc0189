"""ReLU and LeakyReLU: ``z`` for z >= 0 and ``s z`` below, 0 <= s <= 1.

With bounds ``l <= z <= u`` on both sides of 0 the function is convex. The upper line is the chord of its ends. Every
line through the origin with a slope in [s, 1] lies below the function. By default the lower slope is the one of the end
that is farther away, which leaves the smaller area between the lines (CROWN, Zhang et al., NeurIPS 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ssimpert.verification.rules.base import Interval
from ssimpert.verification.rules.lines import ActivationRule, Lines


@dataclass(frozen=True)
class LeakyReLURule(ActivationRule):
    """``max(z, s z)``.

    Attributes:
        negative_slope: s, 0 for ReLU.
    """

    negative_slope: float = 0.0

    def value(self, *inputs: Tensor) -> Tensor:
        (z,) = inputs
        return functional.leaky_relu(z, self.negative_slope)

    def loose(self, bounds: Interval) -> Tensor:
        return (bounds.lower < 0) & (bounds.upper > 0)

    def lines(self, bounds: Interval) -> tuple[Lines, Lines]:
        lower, upper = bounds
        loose, s = self.loose(bounds), self.negative_slope
        slope = torch.full_like(lower, s).masked_fill(lower >= 0, 1.0)  # where the function is linear
        chord = (upper - s * lower) / torch.where(loose, upper - lower, 1.0)
        chord = torch.where(loose, chord, slope)
        zero = torch.zeros_like(lower)
        below = Lines(
            smallest=torch.where(loose, s, slope),
            largest=torch.where(loose, 1.0, slope),
            usual=torch.where(loose, torch.where(upper > -lower, 1.0, s), slope),
            x=zero,
            y=zero,
        )
        above = Lines(chord, chord, chord, torch.where(loose, upper, zero), torch.where(loose, upper, zero))
        return below, above
