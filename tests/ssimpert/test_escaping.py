"""Hostile names are shown as they stand: in messages, in the terminal and in figures."""

from __future__ import annotations

import io
import unicodedata

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

from ssimpert.errors import InputError, unknown_name
from ssimpert.escaping import figure_text, printable, terminal_text

HOSTILE = ["\x1b[31mred", "a\nb", "a\rb\x08", "\u202egnp.exe", "\udcff.png", "\x9b31m", "\u2028"]


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_that_moves_the_cursor_is_left(name: str) -> None:
    shown = printable(name)
    assert not {"Cc", "Cf", "Cs", "Zl", "Zp"} & {unicodedata.category(letter) for letter in shown}
    assert shown.encode().decode("unicode_escape") == name or "\udcff" in name
    assert printable(shown) == shown


def test_what_can_be_printed_stays_as_it_is() -> None:
    assert printable("Müsli → 猫 [red] $x$ \\n") == "Müsli → 猫 [red] $x$ \\n"


@pytest.mark.parametrize("name", HOSTILE)
def test_errors_are_one_line_whatever_they_name(name: str) -> None:
    for error in (InputError(f"image {name} is damaged"), unknown_name("class", "x", [name])):
        assert str(error).isprintable()


@pytest.mark.parametrize(
    "name", ["[red]x.png", "[/]", "[link=file:///]x", ":cat:.png", "\\[bold]", "x\\", "[@click=a]b"]
)
def test_a_terminal_shows_markup_and_emoji_names_as_letters(name: str) -> None:
    stream = io.StringIO()
    Console(file=stream, width=80, force_terminal=True, color_system="truecolor", highlight=False).print(
        terminal_text(name)
    )
    assert stream.getvalue() == f"{name}\n"


@pytest.mark.parametrize("name", ["$x$", "$\\frac$", "a\\$b$", "50$ or 60$", "_^{}"])
def test_a_figure_shows_dollars_as_letters(name: str) -> None:
    def drawn(text: str, *, parse_math: bool) -> bytes:
        figure = Figure((3, 1))
        canvas = FigureCanvasAgg(figure)
        figure.text(0.1, 0.5, text, parse_math=parse_math)
        canvas.draw()
        return bytes(canvas.buffer_rgba())

    # Without formulas matplotlib draws a text as it stands.
    assert drawn(figure_text(name), parse_math=True) == drawn(name, parse_math=False)
