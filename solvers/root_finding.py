"""Scalar root searches, many at once: one independent search for each entry of a tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SearchTolerances:
    """When a search by :func:`last_nonnegative` ends.

    Attributes:
        value: the search ends where the function's value at the lower end is at most this.
        width: the search ends where the bracket is at most this share of its upper end.
        max_steps: the largest number of evaluations.
    """

    value: Tensor | float
    width: float
    max_steps: int


def last_nonnegative(
    function: Callable[[Tensor], Tensor],
    at_zero: Tensor,
    at_one: Tensor,
    tolerances: SearchTolerances,
    solved: Tensor | None = None,
) -> Tensor:
    """The largest t in [0, 1] with ``function(t) >= 0``, by the Illinois method, entry by entry.

    The Illinois method is the false-position method with a safeguard: the value at an end of the bracket that stays for
    two steps in a row is halved (Dowell and Jarratt, BIT 1971). The lower end of the bracket is returned, where the
    function is not negative.

    Args:
        function: falling in t, from a tensor to a tensor of the same shape; it must be positive at 0.
        at_zero: ``function(0)``, positive; its shape is that of the result.
        at_one: ``function(1)``; a search expects it to be negative.
        tolerances: when the search ends; it ends for all entries at once.
        solved: entries that need no search, bool; ``None`` for none. Their result has no meaning.

    Returns:
        t, in the shape of ``at_zero``.
    """
    low, high = torch.zeros_like(at_zero), torch.ones_like(at_zero)
    low_value, high_value = at_zero, at_one
    # low_value is halved now and then; this is the function's true value at `low`.
    remaining = at_zero
    last_moved_end = torch.zeros_like(low)
    for _ in range(tolerances.max_steps):
        done = (remaining <= tolerances.value) | (high - low <= tolerances.width * high)
        if solved is not None:
            done = done | solved
        if bool(done.all()):
            break
        secant = low + (high - low) * low_value / (low_value - high_value)
        middle = torch.where((secant > low) & (secant < high), secant, (low + high) / 2)
        value = function(middle)
        is_inside = value >= 0
        remaining = torch.where(is_inside, value, remaining)
        high_stays = torch.where(is_inside & (last_moved_end > 0), high_value / 2, high_value)
        low_stays = torch.where(~is_inside & (last_moved_end < 0), low_value / 2, low_value)
        high_value = torch.where(is_inside, high_stays, value)
        low_value = torch.where(is_inside, value, low_stays)
        low, high = torch.where(is_inside, middle, low), torch.where(is_inside, high, middle)
        last_moved_end = torch.where(is_inside, 1.0, -1.0)
    return low
