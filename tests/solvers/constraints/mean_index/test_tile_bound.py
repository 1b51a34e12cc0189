"""The rectangles of levels that the bound on tiles is searched over."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from solvers import MeanSSIM, Window
from solvers.constraints.mean_index.tile_bound import (
    LARGEST_LEVEL,
    _first_rectangles,
    _halved,
    _rectangle_bounds,
    first_cuts,
    lagrangian_values,
    refine,
)
from solvers.constraints.mean_index.tile_losses import TileLevels

Draw = Callable[..., Tensor]


def tile_levels(uniform: Draw, luminance: float | None) -> TileLevels:
    x = uniform(1, 1, 4, 4)
    bound = MeanSSIM(0.5, Window.uniform(2, stride=2), luminance=luminance).bind(x)
    return TileLevels(bound, uniform(1, 1, 4, 4) - 0.5, -x, 1 - x)


@pytest.mark.parametrize("luminance", [None, 1e-2, "preserve"])
@pytest.mark.parametrize("halvings", [0, 1, 2])
def test_rectangles_cover_every_level_of_every_tile_once(luminance: float | None, halvings: int, uniform: Draw) -> None:
    levels = tile_levels(uniform, luminance)
    tile, corners = _first_rectangles(levels)
    for _ in range(halvings):
        tile, corners = _halved(tile, corners, levels.highest_b)
    a_low, a_high, b_low, b_high = corners
    exponents = 20 * uniform(300) - 8
    for level_a in (0.0, 1e-6, *(10**exponents).tolist(), LARGEST_LEVEL / 2):
        level_b = min(level_a / 3, levels.highest_b)
        holds_a = (a_low <= level_a) & ((level_a < a_high) | (a_high >= LARGEST_LEVEL))
        is_last = b_high >= min(levels.highest_b, LARGEST_LEVEL)
        holds_b = (b_low <= level_b) & ((level_b < b_high) | is_last)
        assert torch.bincount(tile[holds_a & holds_b], minlength=4).tolist() == [1, 1, 1, 1], (level_a, level_b)


@pytest.mark.parametrize("luminance", [None, 1e-2])
def test_no_point_of_a_rectangle_lies_above_its_bound(luminance: float | None, uniform: Draw) -> None:
    """The Lagrangian's bound by planes at many levels of each rectangle, corners among them."""
    planes = torch.stack([10 * uniform(5), 3 * uniform(5), uniform(5)], dim=1)  # five planes: start and slopes
    price = 2.0
    corners = torch.tensor([[0.0, 0.1, 0.0, 0.01], [0.1, 3.0, 0.01, 0.5], [1.0, 9.0, 0.0, 0.2]], dtype=torch.float64).T
    count = corners.shape[1]
    bounds = _rectangle_bounds(
        planes[:, :, None].expand(-1, -1, count),
        corners.new_full((count,), price),
        corners.new_full((count,), 1e3),
        corners,
    )
    for k in range(count):
        a_low, a_high, b_low, b_high = corners[:, k].tolist()
        shares = torch.cat([uniform(500, 2), torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1.0]], dtype=torch.float64)])
        a, b = a_low + shares[:, 0] * (a_high - a_low), b_low + shares[:, 1] * (b_high - b_low)
        on_planes = planes[:, :1] + planes[:, 1:2] * a + planes[:, 2:] * b
        values = on_planes.amin(dim=0) + price * (1 / ((1 + a) * (1 + b)) - 1)
        assert float(values.max()) <= float(bounds[k])
        # The bound of the best single plane is attained at a corner.
        at_corners = on_planes[:, -4:] + (price * (1 / ((1 + a) * (1 + b)) - 1))[-4:]
        torch.testing.assert_close(bounds[k], at_corners.amax(dim=1).min(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("luminance", [None, 1e-2])
def test_cuts_are_added_until_the_bound_is_near_what_points_attain(luminance: float | None, uniform: Draw) -> None:
    levels = tile_levels(uniform, luminance)
    first_cuts(levels)
    multiplier, slack = torch.tensor([0.3], dtype=torch.float64), 1e-3
    bound = refine(levels, multiplier, max_cuts=60, slack=slack)
    budget_part = multiplier * (1 - levels.bound.constraint.threshold)
    attained = budget_part + levels.sum(lagrangian_values(levels, multiplier).amax(dim=0))
    assert float(attained[0]) <= float(bound[0]) <= float(attained[0]) * (1 + 2 * slack)
    coarse = refine(tile_levels_with_cuts(uniform, luminance), multiplier, max_cuts=0, slack=slack)
    assert float(bound[0]) < float(coarse[0])


def tile_levels_with_cuts(uniform: Draw, luminance: float | None) -> TileLevels:
    levels = tile_levels(uniform, luminance)
    first_cuts(levels)
    return levels
