"""Floats become the rationals that they are, and square roots are enclosed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests.solvers.exact_arithmetic.rational_arrays import RationalArray, exact, root_bounds


def test_every_finite_float_has_its_exact_value() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [
            [0.0, -0.0, 1.0, -0.1, 5e-324, -1.7976931348623157e308, 2.0**-1074, 3.0, 1e16],
            rng.normal(size=50) * 10.0 ** rng.uniform(-300, 300, size=50),
        ]
    )
    for subset in (values, values[:4], values[2:3], values[-10:]):
        array = exact(subset)
        assert [Fraction(int(n), array.denominator) for n in array.numerators] == [Fraction(v) for v in subset]


def test_single_precision_keeps_its_own_value() -> None:
    array = exact(np.float32([[0.1, 0.6]]))
    assert Fraction(int(array.numerators[0, 0]), array.denominator) == Fraction(float(np.float32(0.1)))
    assert array.numerators.shape == (1, 2)


def test_scaling_is_exact_and_reduced() -> None:
    array = exact(np.array([1.5, -6.0])).scaled(Fraction(2, 3))
    assert [Fraction(int(n), array.denominator) for n in array.numerators] == [1, -4]
    assert array.denominator == 1
    assert RationalArray(np.array([4, 6], dtype=object), 8).reduced().denominator == 4


@pytest.mark.parametrize("value", [Fraction(2), Fraction(1, 3), Fraction(10) ** 600, Fraction(1, 10**600), Fraction(4)])
def test_a_square_root_lies_between_its_bounds(value: Fraction) -> None:
    below, above = root_bounds(value)
    assert below * below <= value < above * above
    assert above - below <= below / 2**198
