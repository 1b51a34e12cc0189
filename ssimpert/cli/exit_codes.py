"""With which code a command ends.

- 0: done, and every image reached its goal.
- 1: something that was named can't be used (an image, a mask, a model, a file of weights, a folder, a device), or a
  check failed (``methods --conformance``, ``doctor``).
- 2: wrong usage: an option that does not exist, contradicts another, or has a value that it does not take: a number out
  of its range, or a class, a layer or a method that does not exist.
- 3: all was written, but some image did not reach its goal: its label did not change, no least level was found, or the
  label was not verified.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import typer

from ssimpert.cli.errors import UsageError
from ssimpert.errors import InputError

DONE, FAILED, WRONG_USAGE, GOAL_NOT_REACHED = 0, 1, 2, 3


def end(successes: Iterable[bool]) -> None:
    """End the command with code 3 unless every image reached its goal.

    Raises:
        typer.Exit: some image did not.
    """
    if not all(successes):
        raise typer.Exit(GOAL_NOT_REACHED)


@contextmanager
def options_are_at_fault() -> Iterator[None]:
    """Turn an :class:`InputError` into a :class:`UsageError`: within this block only values of options are checked."""
    try:
        yield
    except UsageError:
        raise
    except InputError as error:
        raise UsageError(str(error)) from error
