"""Arrays of rational numbers that share one denominator, for exact and fast arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

# An array of Python's unbounded integers.
Integers = np.ndarray[Any, np.dtype[np.object_]]


@dataclass(frozen=True)
class RationalArray:
    """``numerators / denominator``.

    Attributes:
        numerators: Python integers in an object array of any shape.
        denominator: positive.
    """

    numerators: Integers
    denominator: int

    def over(self, denominator: int) -> Integers:
        """The numerators over a multiple of the denominator."""
        factor, remainder = divmod(denominator, self.denominator)
        assert remainder == 0
        return self.numerators if factor == 1 else self.numerators * factor

    def scaled(self, factor: Fraction) -> RationalArray:
        """The array times ``factor``."""
        return RationalArray(self.numerators * factor.numerator, self.denominator * factor.denominator).reduced()

    def reduced(self) -> RationalArray:
        """The same array over the smallest denominator."""
        divisor = math.gcd(self.denominator, *self.numerators.flat)
        if divisor == 1:
            return self
        return RationalArray(self.numerators // divisor, self.denominator // divisor)

    def is_zero(self) -> bool:
        """Whether every entry is 0."""
        return not self.numerators.any()

    def float64(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The nearest float64 of every entry."""
        values = [numerator / self.denominator for numerator in self.numerators.flat]
        return np.array(values, dtype=np.float64).reshape(self.numerators.shape)


def exact(values: Any) -> RationalArray:
    """The exact values of an array of finite floats (float32 or float64), over a power of two."""
    floats = np.asarray(values, dtype=np.float64)
    mantissas, exponents = np.frexp(floats)
    integers = np.ldexp(mantissas, 53).astype(np.int64)
    shifts = np.where(integers == 0, 0, exponents - 53)
    # Trailing zeros of the mantissas keep the common denominator small.
    lowest_bits = integers & -integers
    trailing = np.where(integers == 0, 0, np.log2(np.where(lowest_bits > 0, lowest_bits, 1)).astype(np.int64))
    smallest = int(min((shifts + trailing)[integers != 0].min(initial=0), 0))
    numerators = np.empty(floats.size, dtype=object)
    for position, (integer, shift) in enumerate(zip(integers.flat, shifts.flat, strict=True)):
        places = int(shift) - smallest
        numerators[position] = int(integer) << places if places >= 0 else int(integer) >> -places
    return RationalArray(numerators.reshape(floats.shape), 1 << -smallest)


def common_denominator(*arrays: RationalArray) -> int:
    """The least common multiple of the arrays' denominators."""
    return math.lcm(*(array.denominator for array in arrays))


def zeros(shape: tuple[int, ...]) -> RationalArray:
    """An array of zeros."""
    return RationalArray(np.zeros(shape, dtype=object), 1)


def ratio(numerator: int, denominator: int) -> float:
    """``numerator/denominator`` as a float for a report; infinite where it is too large for one."""
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


def root_bounds(value: Fraction, bits: int = 200) -> tuple[Fraction, Fraction]:
    """Rationals at or below, and above, the square root of ``value`` >= 0; they differ by about ``2^-bits`` of it."""
    if value == 0:
        return Fraction(0), Fraction(0)
    shift = max(0, 2 * bits + value.denominator.bit_length() - value.numerator.bit_length())
    shift += shift % 2
    root = math.isqrt((value.numerator << shift) // value.denominator)
    return Fraction(root, 1 << (shift // 2)), Fraction(root + 1, 1 << (shift // 2))
