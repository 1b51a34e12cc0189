"""Wrong use of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ssimpert.errors import InputError
from ssimpert.formulations.options import OptionFault


class UsageError(InputError):
    """Options that contradict one another, or values that they don't take; the message names them."""


def flag_of(option: str) -> str:
    """``--wanted-margin`` for the option ``wanted_margin``."""
    return f"--{option.replace('_', '-')}"


@contextmanager
def naming_flags() -> Iterator[None]:
    """Turn an :class:`OptionFault` into a :class:`UsageError` that names options as the command line does."""
    try:
        yield
    except OptionFault as fault:
        raise UsageError(fault.write(flag_of)) from fault
