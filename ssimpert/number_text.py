"""Numbers that a user writes as text: ``0.01``, ``1e-3`` or ``2/255``."""

from __future__ import annotations

import math
from fractions import Fraction


def as_number(text: str) -> float | None:
    """The finite number that ``text`` writes, a decimal or a fraction of two decimals; ``None`` for other text."""
    parts = text.split("/")
    if len(parts) > 2:
        return None
    try:
        numerator, *rest = (Fraction(part.strip()) for part in parts)
        number = float(numerator / rest[0] if rest else numerator)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) else None
