"""Points made feasible lie in the sets exactly, and as near the surface as promised."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

import solvers
from tests.solvers.exact_arithmetic.feasible_points import scaled_into, stretched, without_kept_means
from tests.solvers.exact_arithmetic.rational_arrays import exact
from tests.solvers.exact_arithmetic.sets import contains, exact_sets
from tests.solvers.exact_arithmetic.windows import exact_windows


def test_a_point_is_scaled_to_the_surface() -> None:
    rng = np.random.default_rng(0)
    x, d = rng.random((1, 1, 5, 6)), rng.normal(size=(1, 5, 6))
    sets = exact_sets([solvers.WindowSSIM(0.9, solvers.Window.uniform(3)), solvers.LpBall(2, 1.0)], x, 0)
    inside = scaled_into(sets, exact(d))
    assert not inside.is_zero()
    assert contains(sets, inside)
    assert not contains(sets, inside.scaled(Fraction(11, 10)))
    near = stretched(exact_sets([solvers.LpBall(2, 1.0)], x, 0), exact(d / np.linalg.norm(d) * (1 - 1e-9)))
    assert 1 - 1e-9 < np.linalg.norm(near.float64()) <= 1


@pytest.mark.parametrize(("size", "stride"), [(3, 3), (3, 2), (2, 1), (4, 3)])
def test_kept_means_are_removed_exactly_and_by_the_nearest_point(size: int, stride: int) -> None:
    rng = np.random.default_rng(1)
    x, d = rng.random((1, 2, 5, 7)), rng.normal(size=(2, 5, 7))
    constraint = solvers.WindowSSIM(0.5, solvers.Window.uniform(size, stride=stride, border="full"), "preserve")
    free = without_kept_means([constraint], x, 0, exact(d))
    assert free is not None
    windows = exact_windows(constraint.window, 5, 7)
    assert not windows.sums(free.numerators).any()
    rows = np.kron(windows.rows, windows.columns).astype(float)
    for channel in range(2):
        flat = d[channel].reshape(-1)
        nearest = flat - np.linalg.pinv(rows) @ (rows @ flat)
        np.testing.assert_allclose(free.float64()[channel].reshape(-1), nearest, atol=1e-12)


def test_fixed_pixels_stay_when_means_are_removed() -> None:
    rng = np.random.default_rng(2)
    x, d = 0.2 + 0.6 * rng.random((1, 1, 4, 4)), 0.01 * rng.normal(size=(1, 4, 4))
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[0] = False
    d[0, 0] = 0
    d[0, 3, 3] = 1 - x[0, 0, 3, 3]
    window = solvers.Window.uniform(2, stride=2)
    sets = [solvers.Support(mask), solvers.Box(), solvers.WindowSSIM(0.01, window, "preserve"), solvers.GlobalSSIM(0.9)]
    free = without_kept_means(sets, x, 0, exact(d))
    assert free is not None
    assert not exact_windows(window, 4, 4).sums(free.numerators).any()
    assert not free.numerators[0, 0].any()
    assert free.numerators.sum() == 0
    # The pixel at the box's bound cannot move, so its neighbours balance it.
    assert free.float64()[0, 3, 3] == d[0, 3, 3]
