"""What perturbations and comparisons print, as tables of :mod:`solvers.printing`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from solvers.printing import IMAGES_SHOWN, cell, cells


def changes(before: Any, after: Any, form: str = "+.3g") -> list[str]:
    """The cells of a column "before -> after", for values of one entry per image."""
    return [f"{a} -> {b}" for a, b in zip(cells(before, form), cells(after, form), strict=True)]


def norms(delta: Any) -> list[str]:
    """The cells of a column of l2 norms of perturbations (B, C, H, W)."""
    return [cell(float(part.double().norm())) for part in delta[:IMAGES_SHOWN]]


def shares_below_one(shares: Any) -> list[str]:
    """The cells of a column of shares; nothing where a share is 1."""
    return ["" if text == "1" else text for text in cells(shares)]


def listed(values: Sequence[str], most: int = 6) -> str:
    """Names in a line, at most so many of them."""
    names = ", ".join(values[:most])
    return names if len(values) <= most else f"{names} and {len(values) - most} more"
