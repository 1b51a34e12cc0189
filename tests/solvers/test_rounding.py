"""Sums, products, lengths and differences against exact rational arithmetic: every bound on rounding holds."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from solvers.rounding import (
    TINY,
    UNIT,
    difference_towards_zero,
    gamma,
    length,
    length_operations,
    products,
    rounded_down,
    rounded_up,
    times_power_of_two,
    total,
    total_and_error,
    total_up,
    unscaled_value,
)

ROUNDS = range(20)


def random_numbers(rng: np.random.Generator, *shape: int, spread: float = 12) -> Tensor:
    """Numbers of many sizes and both signs."""
    return torch.from_numpy(rng.normal(size=shape) * 10.0 ** rng.uniform(-spread, spread, size=shape))


def exact_sum(values: Tensor) -> Fraction:
    return sum((Fraction(value) for value in values.flatten().tolist()), Fraction(0))


@pytest.mark.parametrize("seed", ROUNDS)
def test_a_sum_is_wrong_by_at_most_its_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = random_numbers(rng, 2, 3, *rng.integers(1, 9, size=2).tolist())
    values[1] -= values[1].flip(0)  # a sum that cancels
    sums, errors = total_and_error(values)
    for image in range(2):
        exact = exact_sum(values[image])
        assert abs(Fraction(float(sums[image])) - exact) <= Fraction(float(errors[image]))
        assert Fraction(float(total_up(values)[image])) >= exact
        assert Fraction(float(rounded_down(sums, errors)[image])) <= exact
        assert Fraction(float(rounded_up(sums, errors)[image])) >= exact
    size = total(values.abs())
    assert bool((errors <= 100 * UNIT * size + 1e-290).all())


def test_products_that_vanish_are_counted() -> None:
    first = torch.tensor([[1e-200, 0.0, 2.0, 1e-170]], dtype=torch.float64)
    second = torch.tensor([[1e-200, 5.0, 3.0, -1e-170]], dtype=torch.float64)
    made = products(first, second)
    assert made.tolist() == [[TINY, 0.0, 6.0, TINY]]
    value, error = total_and_error(made, operations=2)
    exact = sum(Fraction(a) * Fraction(b) for a, b in zip(first[0].tolist(), second[0].tolist(), strict=True))
    assert abs(Fraction(float(value)) - exact) <= Fraction(float(error))


def test_nothing_rounds_to_nothing() -> None:
    zero = torch.zeros(2, dtype=torch.float64)
    assert rounded_up(zero, zero).tolist() == rounded_down(zero, zero).tolist() == [0, 0]
    assert float(rounded_up(zero, zero + 1e-300)[0]) > 0 > float(rounded_down(zero, zero + 1e-300)[0])


@pytest.mark.parametrize("seed", ROUNDS)
def test_a_difference_never_grows_by_rounding_and_is_nearly_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    second = random_numbers(rng, 400, spread=3)
    first = float(rng.choice([0.0, 1.0, 255.0, 1 / 3, rng.normal()]))
    second[:100] = first + second[:100] * 1e-14  # nearly equal, and rounded
    for got, value in zip(difference_towards_zero(first, second).tolist(), second.tolist(), strict=True):
        exact = Fraction(first) - Fraction(value)
        assert abs(Fraction(got)) <= abs(exact)
        assert got == 0 or (got > 0) == (exact > 0)
        assert abs(Fraction(got) - exact) <= Fraction(2 * UNIT) * abs(exact)
    # Where the rounded difference is no larger than the exact one, it is the answer.
    rounded = first - second
    pairs = zip(rounded.tolist(), second.tolist(), strict=True)
    smaller = torch.tensor([abs(Fraction(a)) <= abs(Fraction(first) - Fraction(b)) for a, b in pairs])
    assert torch.equal(difference_towards_zero(first, second)[smaller], rounded[smaller])
    assert float(smaller.double().mean()) > 0.2
    assert first == 0 or not bool(smaller.all())


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1.0, 1e160, 1e300])
def test_a_length_neither_vanishes_nor_overflows(scale: float) -> None:
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 2, 4, 5)))
    values[2] = 0
    lengths = length(values * scale)
    np.testing.assert_allclose(lengths / scale, values.flatten(1).norm(dim=1), rtol=1e-14)
    square = sum(Fraction(value) ** 2 for value in (values[0] * scale).flatten().tolist())
    share = Fraction(float(gamma(length_operations(values))))
    assert square * (1 - share) ** 2 <= Fraction(float(lengths[0])) ** 2 <= square * (1 + share) ** 2


def test_powers_of_two_are_exact_and_values_scaled_back_are_rounded_outwards() -> None:
    value = torch.tensor([1.7, -3.3, 1.1, 1.1, 0.0], dtype=torch.float64)
    exponent = torch.tensor([3, -5, 1000, -1000, 7])
    scaled = times_power_of_two(value, exponent)
    for got, number, power in zip(scaled.tolist(), value.tolist(), exponent.tolist(), strict=True):
        assert Fraction(got) == Fraction(number) * Fraction(2) ** power
    # Below the normal numbers the exact value lies between two numbers.
    small = times_power_of_two(torch.tensor([1.1, -1.1], dtype=torch.float64), torch.tensor([0, 0]))
    far = torch.tensor([-1073, -1073])
    above, below = unscaled_value(small, far, up=True), unscaled_value(small, far, up=False)
    for low, high, number in zip(below.tolist(), above.tolist(), small.tolist(), strict=True):
        assert Fraction(low) < Fraction(number) * Fraction(2) ** -1073 < Fraction(high)
    largest, far = torch.finfo(torch.float64).max, torch.tensor([400, 400])
    huge = torch.tensor([1e300, -1e300], dtype=torch.float64)
    assert unscaled_value(huge, far, up=True).tolist() == [math.inf, -largest]
    assert unscaled_value(huge, far, up=False).tolist() == [largest, -math.inf]
