"""What functions accept as counts and seeds."""

from __future__ import annotations

from ssimpert.errors import InputError


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raise :class:`InputError` unless ``value`` is an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} must be an integer of at least {least}, got {value!r}")


def check_seed(seed: int) -> None:
    """Raise :class:`InputError` unless ``seed`` is an integer from 0 to 2**63 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"seed must be an integer from 0 to 2**63 - 1, got {seed!r}")
