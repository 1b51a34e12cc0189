"""Numbers as a report shows them, with their units."""

from __future__ import annotations

import math
from typing import Any

from ssimpert.report.drawing import MINUS

NONE = "–"  # noqa: RUF001 - a dash in a table
INDEX_DIGITS = 6


def number(value: Any, unit: str = "", digits: int = 4) -> str:
    """A number to ``digits`` significant digits with its unit; a dash for None, NaN and infinity."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return NONE
    words = str(value) if isinstance(value, int) else f"{value:.{digits}g}"
    return f"{words.replace('-', MINUS)} {unit}".rstrip()


def index(value: Any) -> str:
    """An SSIM: six decimals, since most are near 1."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return NONE
    return f"{value:.{INDEX_DIGITS}f}".replace("-", MINUS)


def finite(value: Any) -> float | None:
    """A number, or None where it is none."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def counted(count: int, noun: str) -> str:
    """ "1 photo", "2 photos"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def set_and_steps(conditions: str) -> str:
    """The set with its threshold, windows and border, and the steps, as the end of a caption."""
    return f"Set and steps: {conditions.rstrip('.')}."
