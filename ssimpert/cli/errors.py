"""Wrong use of the command line."""

from __future__ import annotations

from ssimpert.errors import InputError


class UsageError(InputError):
    """Options that contradict one another or don't belong together; the message names the options."""
