"""Numbers in files of annotations: boxes and sides, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ssimpert.errors import InputError

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1)."""


def side(value: Any) -> int | None:
    """A width or height as an int; None where a file gives none, or 0."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number > 0 else None


def four_numbers(path: Path, number: int, values: Iterable[Any]) -> Box:
    """The four numbers of box ``number`` in the file ``path``; :class:`InputError` unless they are such."""
    values = list(values)
    try:
        x0, y0, x1, y1 = (float(value) for value in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{str(path)!r}: box {number} has {values!r}; four numbers are valid") from error
    return x0, y0, x1, y1


def check_area(path: Path, number: int, box: Box) -> Box:
    """``box``; :class:`InputError` unless it is finite and has x0 < x1 and y0 < y1."""
    if not all(math.isfinite(value) for value in box) or not (box[0] < box[2] and box[1] < box[3]):
        raise InputError(f"{str(path)!r}: box {number} has no area: it reaches from {box[:2]} to {box[2:]}")
    return box
