"""ReLU6 and Hardtanh: ``min(max(z, p), q)`` with p < q.

The function bends up at p and down at q. With bounds ``l <= z <= u``:

- Lower lines. If ``u <= q``, no more than the bend at p lies within the bounds, and the lines turn around (p, p) with
  slopes in [0, 1], as for ReLU. If ``u > q``, every line through (p, p) with a slope of at most ``(q - p)/(u - p)``
  passes below (u, q), and so lies below the function wherever ``l < p``. If ``l >= p`` the function is concave within
  the bounds and the line is the chord.
- Upper lines are the same after turning the picture by half a turn: around (q, q), with slopes of at most
  ``(q - p)/(q - l)`` if ``l < p``, and the chord if ``u <= q``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssimpert.verification.rules.base import Interval
from ssimpert.verification.rules.lines import ActivationRule, Lines


@dataclass(frozen=True)
class ClippingRule(ActivationRule):
    """``min(max(z, smallest), largest)``.

    Attributes:
        smallest, largest: p and q; 0 and 6 for ReLU6.
    """

    smallest: float = 0.0
    largest: float = 6.0

    def value(self, *inputs: Tensor) -> Tensor:
        (z,) = inputs
        return z.clamp(self.smallest, self.largest)

    def loose(self, bounds: Interval) -> Tensor:
        return self._bends_up(bounds) | self._bends_down(bounds)

    def lines(self, bounds: Interval) -> tuple[Lines, Lines]:
        lower, upper = bounds
        return self._below(lower, upper, self.smallest, self.largest), self._above(lower, upper)

    def _below(self, lower: Tensor, upper: Tensor, p: float, q: float) -> Lines:
        """The lines below the function with the bends p and q."""
        bends_up, bends_down = (lower < p) & (upper > p), (lower < q) & (upper > q)
        inside = (lower >= p) & (upper <= q)
        value_lower, value_upper = lower.clamp(p, q), upper.clamp(p, q)
        width = torch.where(upper > lower, upper - lower, 1.0)
        chord = torch.where(inside, 1.0, (value_upper - value_lower) / width)
        # Around (p, p): up to 1 where the function does not bend down again, else up to the line through (u, q).
        steepest = torch.where(bends_down, (q - p) / torch.where(upper > p, upper - p, 1.0), 1.0)
        steepest = torch.where(bends_up, steepest, chord)
        smallest = torch.where(bends_up, 0.0, chord)
        # The line that leaves the smaller area: steep where the part above p is longer than the part below.
        usual = torch.where(bends_up & (upper - p <= p - lower), smallest, steepest)
        x = torch.where(bends_up, p, lower)
        return Lines(smallest, steepest, usual, x, x.clamp(p, q))

    def _above(self, lower: Tensor, upper: Tensor) -> Lines:
        """Half a turn of the picture: ``clip(z; p, q) = -clip(-z; -q, -p)``, and a line below becomes one above."""
        turned = self._below(-upper, -lower, -self.largest, -self.smallest)
        return Lines(turned.smallest, turned.largest, turned.usual, -turned.x, -turned.y)

    def _bends_up(self, bounds: Interval) -> Tensor:
        return (bounds.lower < self.smallest) & (bounds.upper > self.smallest)

    def _bends_down(self, bounds: Interval) -> Tensor:
        return (bounds.lower < self.largest) & (bounds.upper > self.largest)
