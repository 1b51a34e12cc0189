"""Numbers as text in tables of studies."""

from __future__ import annotations

import math

DIGITS = 4


def number_text(value: float | None) -> str:
    """A number with four digits; ``n/a`` for NaN and ``None``."""
    if value is None or math.isnan(value):
        return "n/a"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e4):
        return f"{value:.{DIGITS}g}"
    return f"{value:.{DIGITS}f}".rstrip("0").rstrip(".")


def estimate_text(estimate: float, low: float, high: float) -> str:
    """``0.431 [0.402, 0.467]``; without the interval where the interval is NaN."""
    if math.isnan(low) or math.isnan(high):
        return number_text(estimate)
    return f"{number_text(estimate)} [{number_text(low)}, {number_text(high)}]"


def name_text(value: object) -> str:
    """A name, or a number that names a column, such as a level: short, yet different for different numbers."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))
