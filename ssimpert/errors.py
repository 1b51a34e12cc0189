"""Errors that a user's input can cause. Each message is one line that names the value and what would be valid."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ssimpert.escaping import printable


class InputError(ValueError):
    """An input (an image, a name, an option, a folder) that can't be used as it was given.

    The message is one line that can be printed, whatever the names in it hold (:func:`ssimpert.escaping.printable`).
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


def unknown_name(kind: str, name: str, valid_names: Iterable[str]) -> InputError:
    """An :class:`InputError` for a ``name`` that is not among ``valid_names``.

    The message says what ``kind`` of name it is, and lists the near names, or all of them where none is near.
    """
    names = sorted(valid_names)
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(names)}"
    return InputError(f"unknown {kind} {name!r}; {hint}")
