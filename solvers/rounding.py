"""Bounds on the rounding errors of float64, for numbers that must be right on one side.

Write ``u = 2^-53`` for the unit roundoff and ``gamma_k = k u/(1 - k u)``. A computed number that is made by at most k
roundings from its terms differs from the exact one by at most ``gamma_k`` times the sum of the terms' magnitudes,
whatever the order of the operations (Higham, *Accuracy and Stability of Numerical Algorithms*, sections 3.1 and 4.2).
The functions below compute such bounds. A bound is itself rounded, by a share of a few u of itself: every count of
operations here is a little larger than needed, and covers this.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNIT = 2.0**-53
# Products and quotients below this size may lose their relative accuracy.
TINY = torch.finfo(torch.float64).tiny
# Roundings that every bound allows on top of those that are counted.
SPARE_OPERATIONS = 16
# Exponents of powers of two that float64 holds, and a little less.
_LARGEST_EXPONENT = 1000


def gamma(operations: int) -> float:
    """``gamma_k`` for k operations and a few spare ones."""
    share = (operations + SPARE_OPERATIONS) * UNIT
    return share / (1 - share)


def total(values: Tensor) -> Tensor:
    """The sum per image, one axis after the other: (B, ...) -> (B,). It takes :func:`sum_operations` roundings."""
    while values.ndim > 1:
        values = values.sum(dim=-1)
    return values


def sum_operations(values: Tensor) -> int:
    """How many roundings a term of :func:`total` goes through, at most."""
    return sum(values.shape[1:])


def total_and_error(values: Tensor, operations: int = 0) -> tuple[Tensor, Tensor]:
    """:func:`total`, and a bound on the rounding of the sum and of its terms, (B,) each.

    Args:
        values: (B, ...), the terms.
        operations: the roundings by which each term was made.
    """
    share = gamma(operations + sum_operations(values))
    nonzero = total((values != 0).to(values.dtype))
    return total(values), share * total(values.abs()) + 4 * TINY * nonzero


def products(first: Tensor, second: Tensor) -> Tensor:
    """``first * second``, with the smallest normal number in the place of products that underflow to 0.

    So :func:`total_and_error` counts them.
    """
    product = first * second
    lost = (product == 0) & (first != 0) & (second != 0)
    return torch.where(lost, TINY, product)


def total_up(values: Tensor, operations: int = 0) -> Tensor:
    """The sum per image, rounded up, (B,); see :func:`total_and_error`."""
    return rounded_up(*total_and_error(values, operations))


def rounded_up(value: Tensor, error: Tensor) -> Tensor:
    """A number that is at least the exact ``value + error``; 0 stays 0 where the error is 0."""
    is_exact = (value == 0) & (error == 0)
    return torch.where(is_exact, value, torch.nextafter(value + error, torch.full_like(value, torch.inf)))


def rounded_down(value: Tensor, error: Tensor) -> Tensor:
    """A number that is at most the exact ``value - error``; 0 stays 0 where the error is 0."""
    is_exact = (value == 0) & (error == 0)
    return torch.where(is_exact, value, torch.nextafter(value - error, torch.full_like(value, -torch.inf)))


def difference_towards_zero(first: float, second: Tensor) -> Tensor:
    """``first - second``, rounded towards 0, in the shape of ``second``."""
    minuend = torch.full_like(second, first)
    difference = minuend - second
    # Knuth's exact error of a sum: the exact difference is `difference + error`.
    virtual = minuend - difference
    error = (minuend - (difference + virtual)) + (virtual - second)
    too_large = difference.sign() * error < 0
    return torch.where(too_large, torch.nextafter(difference, torch.zeros_like(difference)), difference)


def length(value: Tensor) -> Tensor:
    """Euclidean norm per image without overflow or underflow of squares: (B, ...) -> (B,).

    It is right up to the share ``gamma_k``, k being :func:`length_operations`.
    """
    largest = value.abs().flatten(1).amax(dim=1)
    exponent = torch.where(largest.isfinite() & (largest > 0), torch.frexp(largest).exponent, 0)
    scaled = times_power_of_two(value, -exponent.reshape(-1, *[1] * (value.ndim - 1)))
    return times_power_of_two(total(scaled.square()).sqrt(), exponent)


def length_operations(value: Tensor) -> int:
    """How many roundings :func:`length` makes, at most."""
    return sum_operations(value) + 4


def times_power_of_two(value: Tensor, exponent: Tensor) -> Tensor:
    """``value * 2^exponent``, exact where the result is a normal number; ``exponent`` integer, broadcastable."""
    half = torch.div(exponent, 2, rounding_mode="floor")
    return value * power_of_two(half, value) * power_of_two(exponent - half, value)


def unscaled_value(value: Tensor, exponent: Tensor, *, up: bool) -> Tensor:
    """``2^k`` times an objective or a bound, (B,), rounded up or down where it is rounded at all."""
    if not bool(exponent.any()):
        return value
    result = times_power_of_two(value, exponent)
    is_exact = (times_power_of_two(result, -exponent) == value) & (result.isfinite() | value.isinf())
    direction = torch.full_like(result, torch.inf if up else -torch.inf)
    rounded = torch.nextafter(result, direction)
    # The number beside infinity, which not every build of torch gives.
    largest = torch.finfo(value.dtype).max
    overflown = result.isinf() & (result != direction)
    rounded = torch.where(overflown, result.sign() * largest, rounded)
    return torch.where(is_exact, result, rounded)


def power_of_two(exponent: Tensor, like: Tensor) -> Tensor:
    """``2^exponent`` in the dtype of ``like``, exactly; exponents beyond 1000 count as 1000."""
    limited = exponent.to(torch.int64).clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    # The bits of a float64: 11 of the exponent, which counts from -1023, before 52 of the fraction.
    return ((limited + 1023) << 52).view(torch.float64).to(like.dtype)
