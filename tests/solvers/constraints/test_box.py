"""Pixel bounds and fixed pixels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from solvers import Box, LpBall, ProblemError, Support

Draw = Callable[..., Tensor]


def test_box_excess_is_the_largest_distance_of_a_pixel_from_the_bounds() -> None:
    x = torch.tensor([[[[0.2, 0.9]]], [[[0.5, 0.5]]]], dtype=torch.float64)
    bound = Box(0.1, 0.95).bind(x)
    delta = torch.tensor([[[[-0.4, 0.0]]], [[[0.0, 0.25]]]], dtype=torch.float64)
    # Image 0 reaches -0.2, 0.3 below 0.1; image 1 keeps 0.2 and 0.4 off its nearest bounds.
    assert bound.excess(delta).tolist() == [pytest.approx(0.3), pytest.approx(-0.2)]


def test_box_projection_clips_the_moved_image(uniform: Draw, normal: Draw) -> None:
    x, point = uniform(2, 3, 5, 7), normal(2, 3, 5, 7)
    projected = Box(0.0, 1.0).bind(x).project(point)
    assert projected is not None
    np.testing.assert_allclose(x + projected, np.clip((x + point).numpy(), 0, 1), atol=1e-15)


def test_box_scale_factor_is_the_largest_admissible(uniform: Draw, normal: Draw) -> None:
    x, delta = uniform(4, 3, 5, 7), normal(4, 3, 5, 7)
    bound = Box().bind(x)
    factor = bound.scale_factor(delta).reshape(-1, 1, 1, 1)
    assert bool((bound.excess(factor * delta) <= 1e-15).all())
    assert bool((bound.excess(1.0001 * factor * delta) > 0).all())
    assert bound.scale_factor(1e-3 * delta).tolist() == [1.0] * 4


def test_box_support_is_the_sum_of_the_best_corners(uniform: Draw, normal: Draw) -> None:
    x, z = uniform(1, 1, 3, 4), normal(1, 1, 3, 4)
    value = Box(0.0, 1.0).bind(x).support(z)
    assert value is not None
    expected = sum(max(-a * v, (1 - a) * v) for a, v in zip(x.flatten().tolist(), z.flatten().tolist(), strict=True))
    assert float(value) == pytest.approx(expected, rel=1e-14)


def test_a_reference_on_the_bound_in_float32_keeps_zero_inside_in_float64() -> None:
    x = torch.tensor([[[[0.6]]], [[[0.7]]]], dtype=torch.float32).double()  # 0.6000000238 and 0.6999999881
    zero = torch.zeros_like(x)
    assert float(x[0]) > 0.6
    assert float(x[1]) < 0.7
    assert float(Box(0.0, 0.6).bind(x).excess(zero)[0]) <= 0
    assert float(Box(0.7, 1.0).bind(x).excess(zero)[1]) <= 0


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (0.5, 0.5), (0.0, math.inf), (math.nan, 1.0)])
def test_box_bounds_must_be_finite_and_ordered(bounds: tuple[float, float]) -> None:
    with pytest.raises(ProblemError, match=rf"finite lower < upper, got lower={bounds[0]}, upper={bounds[1]}"):
        Box(*bounds)


@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7), (1, 1, 5, 7), (2, 3, 5, 7), (2, 1, 5, 7)])
def test_support_fixes_the_pixels_outside_the_mask(shape: tuple[int, ...], normal: Draw) -> None:
    mask = torch.arange(math.prod(shape)).reshape(shape) % 3 > 0
    delta = normal(2, 3, 5, 7)
    support = Support(mask)
    support.check(delta)
    bound = support.bind(torch.zeros_like(delta))
    outside = ~mask.expand_as(delta)
    expected = delta.masked_fill(~outside, 0).abs().flatten(1).amax(dim=1)
    assert torch.equal(bound.excess(delta), expected)
    projected = bound.project(delta)
    assert projected is not None
    assert torch.equal(projected, delta.masked_fill(outside, 0))
    assert bool((bound.excess(projected) <= 0).all())


def test_support_is_unbounded_where_pixels_are_free() -> None:
    bound = Support(torch.tensor([[True, False]])).bind(torch.zeros(1, 1, 1, 2, dtype=torch.float64))
    value = bound.support(torch.tensor([[[[1.0, 5.0]]], [[[0.0, 5.0]]]], dtype=torch.float64))
    assert value is not None
    assert value.tolist() == [math.inf, 0.0]


def test_support_follows_a_selection_of_images() -> None:
    mask = torch.zeros(3, 1, 2, 2, dtype=torch.bool)
    mask[2] = True
    part = Support(mask).select(torch.tensor([2, 0]), 3)
    assert part.mask[:, 0, 0, 0].tolist() == [True, False]
    shared = Support(mask[0, 0])
    assert shared.select(torch.tensor([1]), 3) is shared


def test_support_refuses_masks_that_are_no_masks_or_do_not_fit() -> None:
    with pytest.raises(ProblemError, match=r"bool mask, got dtype torch\.float32"):
        Support(torch.ones(4, 4))
    with pytest.raises(ProblemError, match=r"got shape \(4,\)"):
        Support(torch.ones(4, dtype=torch.bool))
    for shape in [(4, 5), (2, 4, 4), (5, 1, 4, 4)]:
        with pytest.raises(ProblemError, match=r"does not fit images \(2, 3, 4, 4\)"):
            Support(torch.ones(shape, dtype=torch.bool)).check(torch.zeros(2, 3, 4, 4))


def test_an_l_infinity_ball_is_elementwise_too(normal: Draw) -> None:
    point = normal(2, 1, 3, 3)
    bound = LpBall(math.inf, torch.tensor([0.5, 2.0])).bind(torch.zeros_like(point))
    assert bound.is_elementwise
    projected = bound.project(point)
    assert projected is not None
    expected = np.stack([np.clip(point[0].numpy(), -0.5, 0.5), np.clip(point[1].numpy(), -2, 2)])
    np.testing.assert_array_equal(projected, expected)
