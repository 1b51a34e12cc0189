"""Balls in the l1, l2 and l-infinity norms against numpy and CVXPY."""

from __future__ import annotations

import math
from collections.abc import Callable

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import Tensor

from solvers import LpBall, ProblemError

Draw = Callable[..., Tensor]
SHAPE = (2, 4, 5)
orders = pytest.mark.parametrize("p", [1, 2, math.inf])


def norm(value: Tensor, p: float) -> float:
    return float(np.linalg.norm(value.numpy().reshape(-1), ord=p))


@orders
def test_excess_is_norm_less_radius_per_image(p: float, normal: Draw) -> None:
    delta = normal(3, *SHAPE)
    radius = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    excess = LpBall(p, radius).bind(delta).excess(delta)
    assert excess.tolist() == [pytest.approx(norm(d, p) - float(r)) for d, r in zip(delta, radius, strict=True)]


@orders
def test_projection_equals_cvxpy(p: float, normal: Draw) -> None:
    point, radius = normal(2, *SHAPE), 0.7
    projected = LpBall(p, radius).bind(point).project(point)
    assert projected is not None
    for own, image in zip(projected, point, strict=True):
        d = cp.Variable(math.prod(SHAPE))
        problem = cp.Problem(
            cp.Minimize(cp.sum_squares(d - image.numpy().reshape(-1))),
            [cp.norm(d, "inf" if p == math.inf else int(p)) <= radius],
        )
        problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        np.testing.assert_allclose(own.reshape(-1), d.value, atol=1e-6)
        assert norm(own, p) == pytest.approx(radius, rel=1e-12)
        assert float((own - image).square().sum()) <= problem.value * (1 + 1e-9)


@orders
def test_projection_leaves_members_alone(p: float, normal: Draw) -> None:
    point = 1e-3 * normal(2, *SHAPE)
    projected = LpBall(p, 5.0).bind(point).project(point)
    assert projected is not None
    assert torch.equal(projected, point)


@orders
def test_support_equals_cvxpy_and_is_the_dual_value(p: float, normal: Draw) -> None:
    direction, radius = normal(1, *SHAPE), 0.3
    bound = LpBall(p, radius).bind(direction)
    d = cp.Variable(math.prod(SHAPE))
    problem = cp.Problem(
        cp.Maximize(direction.numpy().reshape(-1) @ d), [cp.norm(d, "inf" if p == math.inf else int(p)) <= radius]
    )
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    value = bound.support(direction)
    assert value is not None
    assert float(value) == pytest.approx(problem.value, rel=1e-8)
    assert torch.equal(bound.dual_value(direction), value)
    assert torch.equal(bound.adjoint(direction), direction)


@orders
def test_scale_factor_is_the_largest_admissible(p: float, normal: Draw) -> None:
    delta = normal(2, *SHAPE)
    bound = LpBall(p, 0.2).bind(delta)
    factor = bound.scale_factor(delta).reshape(-1, 1, 1, 1)
    assert bool((bound.excess(factor * delta) <= 1e-15).all())
    assert bool((bound.excess(1.0001 * factor * delta) > 0).all())
    assert bound.scale_factor(1e-6 * delta).tolist() == [1.0, 1.0]
    assert bound.scale_factor(0 * delta).tolist() == [1.0, 1.0]


def test_radii_follow_a_selection_of_images() -> None:
    ball = LpBall(2, torch.tensor([1.0, 2.0, 3.0]))
    assert ball.select(torch.tensor([2, 0]), 3).bind(torch.zeros(2, 1, 2, 2)).radius.tolist() == [3.0, 1.0]
    shared = LpBall(2, 1.0)
    assert shared.select(torch.tensor([0]), 3) is shared


@pytest.mark.parametrize(
    ("p", "radius", "message"),
    [
        (3, 1.0, "p in 1, 2, inf, got p=3"),
        (2, 0.0, "radius must be positive and finite, got 0.0"),
        (2, -1.0, "radius must be positive and finite, got -1.0"),
        (2, math.inf, "radius must be positive and finite, got inf"),
        (2, torch.ones(2, 2), r"one number, or one per image \(B,\), got shape \(2, 2\)"),
        (2, torch.tensor([1.0, math.nan]), "radius must be positive and finite"),
    ],
)
def test_an_invalid_order_or_radius_is_refused_with_its_value(p: float, radius: float | Tensor, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        LpBall(p, radius)


def test_the_number_of_radii_must_fit_the_batch() -> None:
    with pytest.raises(ProblemError, match="radius has 3 values for a batch of 2 images"):
        LpBall(2, torch.ones(3)).check(torch.zeros(2, 1, 4, 4))
