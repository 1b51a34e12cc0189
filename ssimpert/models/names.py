"""Names of classes, and errors for a name looked up in a catalogue too long to print."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from ssimpert.errors import InputError, unknown_name


def unknown_among_many(kind: str, name: str, known: Iterable[str], otherwise: str) -> InputError:
    """Like :func:`ssimpert.errors.unknown_name`, but says ``otherwise`` when no name is near."""
    near = difflib.get_close_matches(name, list(known), n=5, cutoff=0.5)
    if near:
        return unknown_name(kind, name, near)
    return InputError(f"unknown {kind} {name!r}; {otherwise}")


def class_name(index: int, labels: Sequence[str], model_name: str) -> str:
    """The name of class ``index`` among ``labels``, 0 to K-1.

    Raises:
        InputError: no such class.
    """
    if not 0 <= index < len(labels):
        raise InputError(f"class {index} is out of range; model {model_name!r} has 0 to {len(labels) - 1}")
    return labels[index]
