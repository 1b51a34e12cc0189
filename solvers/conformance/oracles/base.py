"""What the checks ask of a convex set, one image at a time, in NumPy.

Each oracle answers membership from the set's *definition* (SSIM from its two factors, not from the ball that they
amount to), and splits the set's share of the duality gap, ``h(y) - (A d)'y``, into two parts that are each 0 at an
optimum and never negative for a feasible d: how far y points away from d's outward normal (``direction``), and
multiplier times slack (``slackness``). No oracle calls the numerics of the set that it stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class DualParts:
    """One set's block at a point.

    Attributes:
        adjoint: ``A'y``, (C, H, W).
        support: ``h(y)``.
        direction: ``|y||u| - y'u`` summed over the set's pieces, u the piece's distance from its centre.
        slackness: ``|y| (r - |u|)`` and the like, summed over the set's pieces.
    """

    adjoint: Array
    support: float
    direction: float
    slackness: float


class Oracle(Protocol):
    """One set for one image.

    Attributes:
        unit: the size of the set's own unit, for radii far from 1: excess is small beside it or it is not.
    """

    unit: float

    def excess(self, delta: Array) -> float:
        """How far outside, in the unit of ``SolveResult.max_violation``; 0 or less inside."""

    def equality_error(self, delta: Array) -> float:
        """How far an equality of the set (a kept mean, a fixed pixel) is missed, in pixel units; 0 without one."""

    def bounds(self) -> tuple[Array, Array] | None:
        """Elementwise bounds on d that the set implies, or ``None``."""

    def reach(self, direction: Array) -> float:
        """An upper bound on ``max z'd`` over the set; infinite where there is none."""

    def parts(self, delta: Array, block: Any) -> DualParts:
        """The block's terms at ``delta``."""


def box_support(direction: Array, lower: Array, upper: Array) -> float:
    """``sum_i max(lo_i z_i, hi_i z_i)``; infinite where a non-zero z_i meets an infinite bound."""
    moving = direction != 0
    limit = np.where(direction > 0, upper, lower)[moving]
    return float((direction[moving] * limit).sum())
