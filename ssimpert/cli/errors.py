"""Wrong use of the command line."""

from __future__ import annotations

from ssimpert.errors import InputError


class UsageError(InputError):
    """Options that contradict one another, or values that they don't take; the message names them."""
