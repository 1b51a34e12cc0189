"""The option types of numbers: counts, and all others, which may be ``0.01``, ``1e-3`` or ``2/255``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from ssimpert.cli.errors import UsageError
from ssimpert.escaping import printable
from ssimpert.number_text import as_number

__all__ = ["as_number", "number_from_text", "number_option", "parse_number"]

VALID = "a number such as 0.01, 1e-3 or 2/255"


def number_from_text(option: str, text: str, valid: str) -> float:
    """The number of an option that also takes words, which the caller knows.

    Args:
        option: the option, for the message.
        text: its value.
        valid: what the option takes, in words.

    Raises:
        UsageError: no number.
    """
    number = as_number(text)
    if number is None:
        raise UsageError(f"{option} must be {valid}, got {text!r}")
    return number


def parse_number(text: str | float) -> float:
    """What typer calls with the text of an option; a default is a number already.

    Raises:
        typer.BadParameter: no number.
    """
    number = as_number(text) if isinstance(text, str) else float(text)
    if number is None:
        raise typer.BadParameter(f"'{printable(str(text))}' is not {VALID}")
    return number


def number_option(**options: Any) -> Any:
    """``typer.Option`` for a number; the annotation is ``float`` or ``float | None``."""
    return typer.Option(parser=parse_number, metavar="NUMBER", **options)


def count_option(*, at_least: int | None = None, **options: Any) -> Any:
    """``typer.Option`` for a whole number; the annotation is ``int`` or ``int | None``.

    Args:
        at_least: the smallest number that is taken; None where only the command knows.
        options: as for ``typer.Option``.
    """
    return typer.Option(parser=_count_parser(at_least), metavar="COUNT", **options)


def _count_parser(at_least: int | None) -> Callable[[str | int], int]:
    valid = "a whole number" if at_least is None else f"a whole number of at least {at_least}"

    def parse_count(text: str | int) -> int:
        try:
            count = int(text)
        except ValueError:
            count = None
        if count is None or (at_least is not None and count < at_least):
            raise typer.BadParameter(f"'{printable(str(text))}' is not {valid}")
        return count

    return parse_count
