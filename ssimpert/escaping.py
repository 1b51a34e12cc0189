"""Names as text that is safe to show: in messages, in the terminal and in figures.

The name of a file, a key of a weight file and a label may hold anything: control characters that move the cursor,
``[red]``, which rich takes for markup, and ``$``, which matplotlib takes for a formula. Every name that is shown passes
through this file. Records keep names as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text


def printable(text: str) -> str:
    """``text`` in one line, with an escape such as ``\\x1b`` or ``\\n`` for every character that can't be printed.

    These are the characters that ``str.isprintable`` refuses: control characters, line breaks, marks that change the
    direction of writing, and the halves of surrogate pairs that stand for bytes of file names that are no text. A text
    that was escaped already stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def terminal_text(text: str, style: str = "") -> Text:
    """:func:`printable` ``text`` for rich, which then reads neither markup nor names of emojis in it.

    Args:
        text: what to show.
        style: a style of rich, such as "bold".
    """
    from rich.text import Text

    return Text(printable(text), style)


def figure_text(text: str) -> str:
    """:func:`printable` ``text`` for matplotlib, which draws it as it stands: no ``$`` in it begins a formula."""
    return printable(text).replace("$", r"\$")
