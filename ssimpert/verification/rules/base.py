"""What every propagation rule offers.

A rule belongs to one layer of a network. All tensors have one leading axis: a batch of images for values, and M *rows*
for coefficients. A row is a linear function of a layer's output, ``row'output``, with a coefficient for each number of
the output.

A rule answers three questions:

- ``value``: the layer's output.
- ``interval``: bounds on the output, number by number, from bounds on the inputs.
- ``backward``: for rows A on the output, rows A_k on the inputs and constants c with
  ``A'output >= sum_k A_k'input_k + c`` for all inputs within their bounds. For an affine layer this is an equality.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Interval(NamedTuple):
    """Bounds on every number of a layer's output, each (1 or M, *shape)."""

    lower: Tensor
    upper: Tensor

    def intersected(self, other: Interval) -> Interval:
        """The numbers that lie in both intervals. Where rounding leaves none, the interval is one number."""
        lower, upper = torch.maximum(self.lower, other.lower), torch.minimum(self.upper, other.upper)
        return Interval(torch.minimum(lower, upper), torch.maximum(lower, upper))


class Pulled(NamedTuple):
    """Rows on a layer's inputs, (M, *shape) each, and the constants (M,) that belong to them."""

    rows: tuple[Tensor, ...]
    constant: Tensor


class Rule(ABC):
    """How one layer propagates bounds."""

    @abstractmethod
    def value(self, *inputs: Tensor) -> Tensor:
        """The layer's output for ``inputs`` (B, *shape)."""

    @abstractmethod
    def interval(self, *inputs: Interval) -> Interval:
        """Bounds on the output for all inputs within their bounds."""


class AffineRule(Rule):
    """A layer ``output = sum_k W_k input_k + offset``."""

    @abstractmethod
    def linear(self, *inputs: Tensor) -> Tensor:
        """``sum_k W_k input_k``, without the offset."""

    @abstractmethod
    def absolute(self, *inputs: Tensor) -> Tensor:
        """``sum_k |W_k| input_k``, with the magnitudes of the coefficients."""

    @abstractmethod
    def adjoint(self, rows: Tensor) -> tuple[Tensor, ...]:
        """``W_k' row`` for every row and every input, (M, *shape) each."""

    @property
    def offset(self) -> Tensor | None:
        """The offset, broadcastable to the output (1, *shape); ``None`` for none."""
        return None

    def value(self, *inputs: Tensor) -> Tensor:
        linear = self.linear(*inputs)
        return linear if self.offset is None else linear + self.offset

    def interval(self, *inputs: Interval) -> Interval:
        """The tightest interval: around the value of the middle, as wide as ``|W|`` makes the inputs' half widths."""
        middle = self.value(*((entry.lower + entry.upper) / 2 for entry in inputs))
        half_width = self.absolute(*((entry.upper - entry.lower) / 2 for entry in inputs))
        return Interval(middle - half_width, middle + half_width)

    def backward(self, rows: Tensor) -> Pulled:
        """Exact rows on the inputs, for ``rows`` (M, *shape)."""
        constant = rows.new_zeros(len(rows)) if self.offset is None else (rows * self.offset).flatten(1).sum(dim=1)
        return Pulled(self.adjoint(rows), constant)


class Relaxation(ABC):
    """Linear functions below and above a nonlinear layer, valid while its input lies within given bounds."""

    @abstractmethod
    def backward(self, rows: Tensor) -> Pulled:
        """Rows (M, *shape) on the output as rows on the input: from below where a coefficient is positive, from above
        where it is negative."""


class NonlinearRule(Rule):
    """A layer with one input that is not affine, and that rises with its input."""

    def interval(self, *inputs: Interval) -> Interval:
        """The values of both ends: the layer rises with every number of its input."""
        (bounds,) = inputs
        return Interval(self.value(bounds.lower), self.value(bounds.upper))

    @abstractmethod
    def loose(self, bounds: Interval) -> Tensor:
        """Where tighter bounds on the input make a tighter relaxation, bool, in the shape of the bounds."""

    @abstractmethod
    def relaxation(self, bounds: Interval, shares: Shares | None = None) -> Relaxation:
        """The relaxation for inputs within ``bounds``.

        Args:
            bounds: on the input, (1 or M, *shape).
            shares: which of the admissible slopes are taken; ``None`` for the slopes that usually are best. Ignored by
                layers without free slopes.
        """


@dataclass(frozen=True)
class Shares:
    """Which slopes an activation's lower and upper lines have: 0 the smallest admissible, 1 the largest.

    Attributes:
        lower, upper: (1 or M, *shape), in [0, 1].
    """

    lower: Tensor
    upper: Tensor
