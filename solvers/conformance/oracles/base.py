"""What the checks ask of a convex set, one image at a time, in NumPy.

An oracle answers for one set. It decides membership from the set's *definition*: from the two factors of SSIM, not from
the ball that they amount to. And it splits the set's part of the duality gap, ``h(y) - (A d)'y``, into two parts, each
0 at an optimum and never negative for a feasible d: how far y points away from d's outward normal (``direction``), and
multiplier times slack (``slackness``). No oracle calls the code of the set that it stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class DualParts:
    """The terms of one set's dual block y at a point d.

    Attributes:
        adjoint: ``A'y``, (C, H, W).
        support: ``h(y)``.
        direction: ``|y||u| - y'u`` summed over the set's balls, u being the vector from a ball's centre to d.
        slackness: ``|y| (r - |u|)`` summed over the balls, with like terms for intervals.
    """

    adjoint: Array
    support: float
    direction: float
    slackness: float


class Oracle(Protocol):
    """One set for one image.

    Attributes:
        unit: the scale against which an excess is judged, for sets whose radius is far from 1.
    """

    unit: float

    def excess(self, delta: Array) -> float:
        """How far ``delta`` lies outside, in the unit of ``SolveResult.max_violation``; 0 or less inside."""

    def equality_error(self, delta: Array) -> float:
        """By how much ``delta`` misses an equality of the set (a kept mean, a fixed pixel), in pixel units; 0 for a set
        without equalities."""

    def bounds(self) -> tuple[Array, Array] | None:
        """Elementwise bounds on d that the set implies, or ``None``."""

    def reach(self, direction: Array) -> float:
        """An upper bound on ``max z'd`` over the set; infinite where there is none."""

    def parts(self, delta: Array, block: Any) -> DualParts:
        """The block's terms at ``delta``."""


def box_support(direction: Array, lower: Array, upper: Array) -> float:
    """``sum_i max(lo_i z_i, hi_i z_i)``; infinite where a non-zero z_i meets an infinite bound."""
    nonzero = direction != 0
    limit = np.where(direction > 0, upper, lower)[nonzero]
    return float((direction[nonzero] * limit).sum())
