"""The global SSIM ball against the definition of d2 and methods.md, section B."""

from __future__ import annotations

import math
from collections.abc import Callable

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import Tensor

from solvers import GlobalSSIM, ProblemError
from tests.solvers.conftest import Photos

Draw = Callable[..., Tensor]


def d2(x: np.ndarray, y: np.ndarray) -> float:
    """sqrt(1 - S2) with the mean kept, on pixels in [-1, 1], c2 = 9e-4 added to sums of squares."""
    u, v = (2 * x - 1).reshape(-1), (2 * y - 1).reshape(-1)
    u, v = u - u.mean(), v - v.mean()
    s2 = (2 * (u @ v) + 9e-4) / (u @ u + v @ v + 9e-4)
    return math.sqrt(max(1 - s2, 0))


def centred(value: Tensor) -> Tensor:
    return value - value.mean(dim=(1, 2, 3), keepdim=True)


def test_distance_is_the_square_root_of_one_minus_s2(uniform: Draw, normal: Draw) -> None:
    x, delta = uniform(3, 3, 6, 7), centred(0.1 * normal(3, 3, 6, 7))
    own = GlobalSSIM(0.1).bind(x).distance(delta)
    expected = [d2(a.numpy(), (a + d).numpy()) for a, d in zip(x, delta, strict=True)]
    np.testing.assert_allclose(own, expected, rtol=1e-10)


def test_distance_does_not_cancel_for_tiny_perturbations(uniform: Draw, normal: Draw) -> None:
    x, direction = uniform(1, 1, 8, 8), centred(normal(1, 1, 8, 8))
    bound = GlobalSSIM(0.1).bind(x)
    assert float(bound.distance(1e-12 * direction) / bound.distance(1e-6 * direction)) == pytest.approx(1e-6, rel=1e-5)


def test_excess_is_the_distance_beyond_e_or_the_mean(uniform: Draw, normal: Draw) -> None:
    x, delta = uniform(1, 3, 6, 7), centred(0.1 * normal(1, 3, 6, 7))
    bound = GlobalSSIM(0.05).bind(x)
    assert float(bound.excess(delta)) == pytest.approx(d2(x.numpy(), (x + delta).numpy()) - 0.05, abs=1e-12)
    assert float(bound.excess(delta + 0.7)) == pytest.approx(0.7, abs=0.05)
    assert float(bound.excess(torch.full_like(delta, 1e-3))) == pytest.approx(1e-3)


def test_the_ball_holds_exactly_what_the_definition_allows(uniform: Draw, normal: Draw) -> None:
    x = uniform(1, 2, 5, 6)
    for e in (0.005, 0.1, 0.6):
        bound = GlobalSSIM(e).bind(x)
        inside = 0
        for _ in range(200):
            direction = centred(normal(1, 2, 5, 6))
            delta = direction * float(bound.radius) / float(direction.norm()) * (0.3 + 2 * float(uniform(1)))
            in_ball = float((delta - bound.center).norm()) <= float(bound.radius)
            assert in_ball == (d2(x.numpy(), (x + delta).numpy()) <= e)
            inside += in_ball
        assert 20 < inside < 180


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (1, 1, 40, 30)])
def test_radius_is_within_1e_4_of_sqrt_2_e_times_the_contrast(shape: tuple[int, ...], uniform: Draw) -> None:
    x, e = uniform(*shape), 0.005
    scaled = centred(2 * x - 1)  # the paper's pixels
    k1 = 2 * float(GlobalSSIM(e).bind(x).radius)
    size = float(scaled.norm())
    formula = math.sqrt(size**2 * (1 / (1 - e**2) ** 2 - 1) + 9e-4 * e**2 / (1 - e**2))
    assert k1 == pytest.approx(formula, rel=1e-9)
    assert k1 == pytest.approx(math.sqrt(2) * e * size, rel=1e-4)


def test_the_radius_of_a_real_photo_is_that_of_the_control(photos: Photos) -> None:
    for image in photos.reference:
        contrast = float(centred(image[None]).norm())
        assert float(GlobalSSIM(0.005).bind(image[None]).radius) == pytest.approx(
            math.sqrt(2) * 0.005 * contrast, rel=1e-4
        )


def test_a_constant_image_has_the_ball_that_c2_leaves() -> None:
    bound = GlobalSSIM(0.1).bind(torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64))
    assert float(bound.radius) == pytest.approx(math.sqrt(9e-4 / 4 * 0.01 / 0.99))
    assert float(bound.center.abs().max()) < 1e-15


def test_scale_factor_is_the_largest_admissible(uniform: Draw, normal: Draw) -> None:
    x, delta = uniform(5, 2, 5, 6), centred(normal(5, 2, 5, 6))
    bound = GlobalSSIM(0.05).bind(x)
    factor = bound.scale_factor(delta).reshape(-1, 1, 1, 1)
    assert bool((factor < 1).all())
    assert bool((bound.excess(factor * delta) <= 1e-14).all())
    assert bool((bound.excess(1.0001 * factor * delta) > 0).all())
    assert bound.scale_factor(1e-6 * delta).tolist() == [1.0] * 5


def test_projection_equals_cvxpy(uniform: Draw, normal: Draw) -> None:
    x, point = uniform(1, 2, 4, 5), 0.3 * normal(1, 2, 4, 5)
    bound = GlobalSSIM(0.2).bind(x)
    flat, square = x.numpy().reshape(-1), 0.04
    u = flat - flat.mean()
    d = cp.Variable(40)
    radius = math.sqrt((u @ u) * (1 / (1 - square) ** 2 - 1) + 9e-4 / 4 * square / (1 - square))
    sets = [cp.norm(u + d - u / (1 - square)) <= radius, cp.sum(d) == 0]
    cp.Problem(cp.Minimize(cp.sum_squares(d - point.numpy().reshape(-1))), sets).solve(
        solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10
    )
    np.testing.assert_allclose(bound.project(point).reshape(-1), d.value, atol=1e-6)
    member = 0.01 * centred(point)
    np.testing.assert_allclose(bound.project(member), member, atol=1e-15)


def test_support_equals_cvxpy_and_ignores_the_mean(uniform: Draw, normal: Draw) -> None:
    x, z = uniform(1, 2, 4, 5), normal(1, 2, 4, 5)
    bound = GlobalSSIM(0.2).bind(x)
    flat, square = x.numpy().reshape(-1), 0.04
    u = flat - flat.mean()
    radius = math.sqrt((u @ u) * (1 / (1 - square) ** 2 - 1) + 9e-4 / 4 * square / (1 - square))
    d = cp.Variable(40)
    sets = [cp.norm(u + d - u / (1 - square)) <= radius, cp.sum(d) == 0]
    problem = cp.Problem(cp.Maximize(z.numpy().reshape(-1) @ d), sets)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    assert float(bound.support(z)) == pytest.approx(problem.value, rel=1e-8)
    assert float(bound.support(z + 3)) == pytest.approx(problem.value, rel=1e-8)


def test_retraction_brings_the_mean_to_zero_within_the_bounds(uniform: Draw, normal: Draw) -> None:
    x = uniform(3, 1, 6, 7)
    lower, upper = -x, 1 - x
    delta = (0.5 * normal(3, 1, 6, 7) + 0.2).clamp(lower, upper)
    moved = GlobalSSIM(0.1).bind(x).retract(delta, lower, upper)
    assert float(moved.mean(dim=(1, 2, 3)).abs().max()) < 1e-15
    assert bool((moved >= lower).all())
    assert bool((moved <= upper).all())
    # One number is added before clipping: pixels that stay off the bounds move alike.
    free = ((moved > lower) & (moved < upper) & (delta > lower) & (delta < upper))[0]
    shift = (moved - delta)[0][free]
    assert float(shift.max() - shift.min()) < 1e-14


@pytest.mark.parametrize("distance", [0.0, 1.0, -0.1, math.nan])
def test_distance_must_lie_between_0_and_1(distance: float) -> None:
    with pytest.raises(ProblemError, match=f"strictly between 0 and 1, got {distance}"):
        GlobalSSIM(distance)


@pytest.mark.parametrize("name", ["constant", "pixel_scale"])
def test_constants_must_be_positive(name: str) -> None:
    for value in (0.0, -1.0, math.inf):
        with pytest.raises(ProblemError, match=f"{name} must be positive and finite, got {value}"):
            GlobalSSIM(0.1, **{name: value})
