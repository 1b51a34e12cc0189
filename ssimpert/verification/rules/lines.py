"""Lines below and above an activation: each turns around a fixed point, and its slope may be chosen in a range."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ssimpert.verification.rules.base import Interval, NonlinearRule, Pulled, Relaxation, Shares


@dataclass(frozen=True)
class Lines:
    """For every number of the input a line through the point (x, y), whose slope lies in [smallest, largest].

    Attributes:
        smallest, largest: the range of slopes with which the line stays on its side of the activation.
        usual: the slope in that range that is taken by default.
        x, y: the point. All five are (1 or M, *shape).
    """

    smallest: Tensor
    largest: Tensor
    usual: Tensor
    x: Tensor
    y: Tensor

    def slope(self, share: Tensor | None) -> Tensor:
        """The slope at this share of the range; the usual one for ``None``."""
        return self.usual if share is None else self.smallest + share * (self.largest - self.smallest)

    @property
    def usual_share(self) -> Tensor:
        """The share at which :meth:`slope` is the usual one; 0 where the range is a single slope."""
        width = self.largest - self.smallest
        return torch.where(width > 0, (self.usual - self.smallest) / torch.where(width > 0, width, 1.0), 0.0)

    @property
    def free(self) -> Tensor:
        """Where there is a choice, bool."""
        return self.largest > self.smallest


@dataclass(frozen=True)
class LinesAround(Relaxation):
    """``lower_slope z + lower_offset <= activation(z) <= upper_slope z + upper_offset``."""

    lower_slope: Tensor
    lower_offset: Tensor
    upper_slope: Tensor
    upper_offset: Tensor

    def backward(self, rows: Tensor) -> Pulled:
        positive, negative = rows.clamp_min(0), rows.clamp_max(0)
        constant = (positive * self.lower_offset + negative * self.upper_offset).flatten(1).sum(dim=1)
        return Pulled((positive * self.lower_slope + negative * self.upper_slope,), constant)


class ActivationRule(NonlinearRule):
    """A function of one number, applied to every number of the input, that rises and is linear in pieces."""

    @abstractmethod
    def lines(self, bounds: Interval) -> tuple[Lines, Lines]:
        """The lines below and above the function for inputs within ``bounds``."""

    def relaxation(self, bounds: Interval, shares: Shares | None = None) -> LinesAround:
        below, above = self.lines(bounds)
        lower_slope = below.slope(None if shares is None else shares.lower)
        upper_slope = above.slope(None if shares is None else shares.upper)
        return LinesAround(
            lower_slope,
            below.y - lower_slope * below.x,
            upper_slope,
            above.y - upper_slope * above.x,
        )

    def usual_shares(self, bounds: Interval) -> Shares:
        """The shares of the usual slopes, each in the shape of the bounds."""
        below, above = self.lines(bounds)
        return Shares(below.usual_share, above.usual_share)
