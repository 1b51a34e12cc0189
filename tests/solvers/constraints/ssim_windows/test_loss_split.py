"""The hyperbola (1 + A)(1 + B) = 1/t, and the largest sum of two losses on it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from solvers.constraints.ssim_windows.loss_split import Loss, best_share, largest, levels, share_of

Draw = Callable[..., Tensor]
THRESHOLDS = [0.05, 0.5, 0.75, 0.9, 0.99, 1 - 1e-6]


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_levels_lie_on_the_hyperbola_and_have_the_share(threshold: float) -> None:
    shares = torch.tensor([0.0, 1e-9, 0.1, 0.5, 0.7, 1.0], dtype=torch.float64)
    level_a, level_b = levels(shares, threshold)
    for share, a, b in zip(shares.tolist(), level_a.tolist(), level_b.tolist(), strict=True):
        product = (1 + Fraction(a)) * (1 + Fraction(b))
        assert float(product * Fraction(threshold) - 1) == pytest.approx(0, abs=1e-15)
        assert a * (1 - share) == pytest.approx(b * share, rel=1e-12, abs=1e-300)
    np.testing.assert_allclose(share_of(level_a, level_b), shares, rtol=1e-12)


def random_losses(uniform: Draw, count: int) -> tuple[Loss, Loss]:
    """For contrast and for luminance, with values that dual vectors of ordinary windows give."""
    losses = []
    for _ in range(2):
        square, constant = uniform(count), 0.01 * uniform(count)
        size = 3 * uniform(count)
        along = size * square.sqrt() * (2 * uniform(count) - 1)
        losses.append(Loss(along, size, 2 * square + constant, square))
    return losses[0], losses[1]


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_the_largest_value_is_that_of_a_fine_grid(threshold: float, uniform: Draw) -> None:
    contrast, luminance = random_losses(uniform, 40)
    grid = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:, None]
    level_a, level_b = levels(grid, threshold)
    on_grid = (contrast.value(level_a) + luminance.value(level_b)).amax(dim=0)
    found = best_share(contrast, luminance, threshold)
    at_found = [loss.value(level) for loss, level in zip((contrast, luminance), levels(found, threshold), strict=True)]
    np.testing.assert_allclose(at_found[0] + at_found[1], on_grid, rtol=1e-3)
    bound = largest(contrast, luminance, threshold)
    assert bool((bound >= on_grid * (1 - 1e-15)).all())
    # By pieces, as at low thresholds, the bound is a little looser.
    np.testing.assert_allclose(bound, on_grid, rtol=1e-5 if threshold >= 0.5 else 1e-3)


def test_a_slope_is_the_derivative_of_the_value(uniform: Draw) -> None:
    contrast, _ = random_losses(uniform, 20)
    for level in (1e-6, 1e-3, 0.1, 3.0):
        at, step = torch.full((20,), level, dtype=torch.float64), 1e-5 * level
        difference = (contrast.value(at + step) - contrast.value(at - step)) / (2 * step)
        np.testing.assert_allclose(contrast.slope(at), difference.clamp_min(0), rtol=1e-6, atol=1e-8)
