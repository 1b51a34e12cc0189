"""What reaches the terminal: tables that fit its width, and characters that its encoding has."""

from __future__ import annotations

import codecs
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssimpert.escaping import printable, terminal_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

# What takes the place of characters that a terminal's encoding lacks. cp1252 has no arrow.
_PLAIN = {"→": "->", "…": "...", "−": "-", "×": "x", "≤": "<=", "≥": ">=", "σ": "sigma"}  # noqa: RUF001
_ERRORS = "ssimpert.plain"

# A word, such as the name of a file, may be folded at this many columns; a number never is. Where a table leaves less
# room, its rows are printed one below the other.
NAME_WIDTH = 20


def survive_encodings() -> None:
    """Let this process print any text to stdout and stderr, whatever their encoding. ``main`` calls it, once."""
    codecs.register_error(_ERRORS, _plain)
    for stream in (sys.stdout, sys.stderr):
        # None stands for no stream, and a stream that some program put there need not be a text file of Python's.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ERRORS)


def encodable(text: str, *, to_stderr: bool = False) -> str:
    """``text`` with a plain substitute for every character that the encoding of stdout, or stderr, lacks."""
    codecs.register_error(_ERRORS, _plain)
    encoding = getattr(sys.stderr if to_stderr else sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, errors=_ERRORS).decode(encoding)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter, letter.encode("unicode_escape").decode("ascii")) for letter in letters), error.end


def cell(*parts: str | tuple[str, str]) -> Text:
    """A cell of a table from texts, or texts with a style of rich. Names are shown as they stand, not as markup."""
    from rich.text import Text

    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*(terminal_text(encodable(text), style) for text, style in pairs))


def table(title: str, caption: str | None = None, **options: Any) -> Table:
    """An empty table, to be filled with :func:`cell` and printed by :func:`show`. The caption may have lines."""
    from rich.table import Table

    return Table(
        title=cell(title),
        caption=None if caption is None else _lines(caption),
        title_justify="left",
        caption_justify="left",
        **options,
    )


def _lines(text: str) -> Text:
    from rich.text import Text

    return Text("\n").join(cell(line) for line in text.splitlines())


def show(shown: Table) -> None:
    """Print a table. Where the terminal is too narrow for its columns, print the rows one below the other.

    No cell is cut in either form: what does not fit is folded.
    """
    console = _console()
    if fit(shown, console.width):
        console.print(shown)
    else:
        _print_rows(console, shown)


def print_line(text: str) -> None:
    """Print ``text`` in one line on stdout, as it stands."""
    _console().print(cell(text), soft_wrap=True)


def say(text: str) -> None:
    """Print ``text`` in one line on stderr: what a command tells beside its results."""
    print(encodable(printable(text), to_stderr=True), file=sys.stderr, flush=True)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


@dataclass(frozen=True)
class _Widths:
    """The least width at which a column can be read, that of its longest word, and that at which nothing is folded."""

    least: int
    word: int
    natural: int


def fit(shown: Table, width: int) -> bool:
    """Give the columns of a table widths that add up to at most ``width``; False where they can't be read then.

    A table that fits as it is does not change. Else the lines between columns make room, and cells are folded.
    """
    from rich.box import SIMPLE_HEAD

    widths = [_widths(column) for column in shown.columns]
    lines, gaps = 3 * len(widths) + 1, 2 * len(widths) - 1
    for column in shown.columns:
        column.overflow = "fold"
    if sum(entry.natural for entry in widths) + lines <= width:
        return True
    room = width - gaps
    chosen = [entry.least for entry in widths]
    if sum(chosen) > room:
        return False
    # First whole words, beginning where the least is missing.
    for k in sorted(range(len(chosen)), key=lambda k: widths[k].word - chosen[k]):
        chosen[k] += min(widths[k].word - chosen[k], room - sum(chosen))
    while sum(chosen) < room:
        # Then one more for whichever column is folded most.
        most = max(range(len(chosen)), key=lambda k: widths[k].natural / chosen[k])
        if chosen[most] >= widths[most].natural:
            break
        chosen[most] += 1
    for column, column_width in zip(shown.columns, chosen, strict=True):
        column.width, column.no_wrap = column_width, False
    shown.box, shown.show_edge, shown.pad_edge, shown.padding = SIMPLE_HEAD, False, False, (0, 1, 0, 0)
    shown.show_lines, shown.leading = False, int(_folded_rows(shown, chosen) > shown.row_count / 2)
    return True


def _folded_rows(shown: Table, widths: list[int]) -> int:
    """How many rows have a cell that takes several lines at these widths."""
    from rich.cells import cell_len

    rows = zip(*(list(column.cells) for column in shown.columns), strict=True)
    return sum(any(cell_len(str(entry)) > width for entry, width in zip(row, widths, strict=True)) for row in rows)


def _widths(column: Column) -> _Widths:
    from rich.cells import cell_len

    texts = [str(column.header), *(str(entry) for entry in column.cells)]
    natural = max(cell_len(line) for text in texts for line in text.split("\n"))
    if column.no_wrap:
        return _Widths(natural, natural, natural)
    longest_word = max((cell_len(word) for text in texts for word in text.split()), default=1)
    is_number = column.justify == "right"
    header_word = max((cell_len(word) for word in str(column.header).split()), default=1)
    least = longest_word if is_number else max(header_word, min(longest_word, NAME_WIDTH))
    return _Widths(least, longest_word, max(natural, 1))


def _print_rows(console: Console, shown: Table) -> None:
    """Every row as a list of headings and cells."""
    from rich.table import Table

    if shown.title:
        console.print(shown.title, style="table.title")
    headings = [cell(str(column.header)) for column in shown.columns]
    for row in zip(*(list(column.cells) for column in shown.columns), strict=True):
        console.print()
        lines = Table.grid(padding=(0, 1))
        lines.add_column(overflow="fold")
        lines.add_column(overflow="fold")
        for heading, entry in zip(headings, row, strict=True):
            if str(entry):
                lines.add_row(heading, entry)
        console.print(lines)
    if shown.caption:
        console.print()
        console.print(shown.caption, style="table.caption")
