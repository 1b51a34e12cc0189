"""How wide a figure is, and how large its letters, lines and markers are at this width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from solvers.validation import as_real, shown
from ssimpert.errors import InputError

NamedWidth = Literal["column", "page"]
Width = NamedWidth | float | None
"""``"column"`` and ``"page"`` of a paper with two columns, or inches; ``None`` for the figure's width on a screen."""

WIDTHS: dict[str, float] = {"column": 3.5, "page": 7.16}
"""In inches: what IEEE and most conferences print in two columns."""
LEAST_WIDTH = 3.0
# Below this width panels stand one below the other, and tables lose columns.
NARROW = 5.5
# At 9.5 points so many letters fit into an inch.
LETTERS_PER_INCH, LETTERS_AT_SIZE = 13.5, 9.5


@dataclass(frozen=True)
class FigureStyle:
    """Sizes within a figure.

    Attributes:
        width: of the figure, in inches.
        title, text, small: letters, in points.
        marker, line: of curves, in points.
    """

    width: float
    title: float = 11.5
    text: float = 10.5
    small: float = 9.5
    marker: float = 5.0
    line: float = 1.6

    @property
    def is_narrow(self) -> bool:
        """Whether panels stand one below the other."""
        return self.width < NARROW

    @property
    def scale(self) -> float:
        """How large letters are, compared with those on a screen."""
        return self.small / LETTERS_AT_SIZE

    def letters(self, inches: float) -> int:
        """How many small letters fit into a line."""
        return max(8, int(inches * LETTERS_PER_INCH / self.scale))


def figure_style(width: Width, default: float) -> FigureStyle:
    """The sizes for a width: letters of 7 to 8 points, as papers print them, where a width is given.

    Args:
        width: :data:`Width`.
        default: the width on a screen, in inches.

    Raises:
        InputError: an unknown name, or a number below 3.
    """
    if width is None:
        return FigureStyle(default)
    number = WIDTHS.get(width) if isinstance(width, str) else as_real(width)
    if number is None or not LEAST_WIDTH <= number < float("inf"):
        names = ", ".join(repr(name) for name in get_args(NamedWidth))
        raise InputError(f"width must be {names}, or inches from {LEAST_WIDTH:g} on, got {shown(width)}")
    return FigureStyle(number, title=8.0, text=7.5, small=7.0, marker=3.5, line=1.1)
