"""Errors for a name looked up in a catalogue too long to print."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ssimpert.errors import InputError, unknown_name


def unknown_among_many(kind: str, name: str, known: Iterable[str], otherwise: str) -> InputError:
    """Like :func:`ssimpert.errors.unknown_name`, but says ``otherwise`` when no name is near."""
    near = difflib.get_close_matches(name, list(known), n=5, cutoff=0.5)
    if near:
        return unknown_name(kind, name, near)
    return InputError(f"unknown {kind} {name!r}; {otherwise}")
