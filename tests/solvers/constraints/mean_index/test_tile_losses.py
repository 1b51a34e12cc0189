"""Bounds on tiles against very many points of a tile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from solvers import MeanSSIM, Window
from solvers.constraints.mean_index.tile_losses import TileLevels

Draw = Callable[..., Tensor]
POINTS = 4000


def points_of_any_structure(x: Tensor, uniform: Draw, normal: Draw) -> Tensor:
    """Perturbed tiles less x (POINTS, N), with pixels in [0, 1]: reversed, flattened, darkened, brightened, noisy."""
    centred = x - x.mean()
    stretch = 4 * uniform(POINTS, 1) - 3
    mean = uniform(POINTS, 1) ** 2
    noise = 0.1 * normal(POINTS, x.numel()) * uniform(POINTS, 1)
    return (mean + stretch * centred + noise).clamp(0, 1) - x


@pytest.mark.parametrize("price", [1e-3, 0.05, 1.0, 20.0])
@pytest.mark.parametrize("luminance", [None, 1e-2], ids=["any mean", "few means"])
def test_no_point_of_reversed_structure_beats_its_bound(
    price: float, luminance: float | None, uniform: Draw, normal: Draw
) -> None:
    for brightness in (0.05, 0.3, 0.7):
        x = brightness + 0.04 * normal(1, 1, 3, 3).clamp(-1, 1)
        bound = MeanSSIM(0.5, Window.uniform(3, stride=3), luminance=luminance).bind(x)
        points = points_of_any_structure(x.flatten(), uniform, normal)
        for direction in (
            normal(1, 1, 3, 3),
            x.mean() - x,
            -torch.ones_like(x),
            torch.ones_like(x) + 5 * (x.mean() - x),
        ):
            levels = TileLevels(bound, direction, -x, 1 - x)
            attained = torch.full((1,), -1e9, dtype=torch.float64)  # so that the sharpest bound is asked for
            upper, point = levels.negative(torch.tensor([price], dtype=torch.float64), -attained)
            sharper, _ = levels.negative(torch.tensor([price], dtype=torch.float64), attained)
            losses = levels.loss(points)
            reversed_structure = losses > 1
            if luminance is not None:
                mean, mean_x = (points + x.flatten()).mean(dim=1), x.mean()
                first = (2 * mean * mean_x + bound.c1) / (mean.square() + mean_x.square() + bound.c1)
                reversed_structure &= first >= 1 - bound.constraint.beta
            values = points @ direction.flatten() - price * losses
            if bool(reversed_structure.any()):
                largest = float(values[reversed_structure].max())
                assert largest <= float(upper)
                assert largest <= float(sharper) <= float(upper)
            assert bool(((point[0] >= -x.flatten() - 1e-9) & (point[0] <= 1 - x.flatten() + 1e-9)).all())


@pytest.mark.parametrize("luminance", [None, 1e-2], ids=["any mean", "few means"])
def test_no_point_lies_above_a_cut(luminance: float | None, uniform: Draw, normal: Draw) -> None:
    """``z'd <= start + slope_a A + slope_b B`` at the levels of every point with S1 and S2 above 0."""
    x = 0.4 + 0.1 * normal(1, 1, 3, 3).clamp(-2, 2)
    bound = MeanSSIM(0.5, Window.uniform(3, stride=3), luminance=luminance).bind(x)
    points = points_of_any_structure(x.flatten(), uniform, normal)
    direction = normal(1, 1, 3, 3)
    levels = TileLevels(bound, direction, -x, 1 - x)
    mean, centred = points.mean(dim=1), points - points.mean(dim=1, keepdim=True)
    weighted = (x - x.mean()).flatten()
    variance, covariance = centred.square().mean(dim=1), (weighted * centred).mean(dim=1)
    contrast = variance / (levels.base_a + 2 * covariance + variance)
    brightness = mean.square() / (levels.base_b + 2 * levels.mean * mean + mean.square())
    inside = (contrast < 1) & (brightness < 1)
    if luminance is not None:
        inside &= brightness <= bound.constraint.beta
    level_a, level_b = contrast / (1 - contrast), brightness / (1 - brightness)
    values = points @ direction.flatten()
    assert int(inside.sum()) > 20
    for a, b in [(0.0, 0.0), (1e-4, 1e-4), (1e-2, 1e-3), (0.3, 0.01), (3.0, 1.0), (50.0, 0.0)]:
        cut = levels.solve(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64))
        plane = cut.start + cut.slope_a * level_a + cut.slope_b * level_b
        assert bool((values <= plane)[inside].all())
    assert bool((values <= levels.largest_value)[inside].all())


def test_a_dark_point_of_reversed_structure_lies_below_its_bound() -> None:
    """The one bright pixel of a tile that turned dark is the one that was dark: S2 < 0 counts little, since S1 is
    small."""
    x = torch.full((1, 1, 3, 3), 0.7, dtype=torch.float64)
    x[..., 1, 1] = 0.3
    bound = MeanSSIM(0.5, Window.uniform(3, stride=3)).bind(x)
    direction = torch.where(x < 0.5, 1.0, -1.0)
    lower, upper = -x, (0.1 - x).contiguous()
    levels = TileLevels(bound, direction, lower, upper)
    point = torch.where(direction > 0, upper, lower).reshape(1, 9)
    for price in (0.01, 0.1, 1.0):
        value = float((point[0] * direction.reshape(9)).sum() - price * levels.loss(point)[0])
        for attained in (-1e9, 1e9):
            upper_bound, _ = levels.negative(
                torch.tensor([price], dtype=torch.float64), torch.tensor([attained], dtype=torch.float64)
            )
            assert value <= float(upper_bound), (price, attained)
