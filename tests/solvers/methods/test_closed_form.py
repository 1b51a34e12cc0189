"""Closed forms against Clarabel on statements of our own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import solvers
from solvers import (
    Box,
    Constraint,
    GlobalSSIM,
    LinearProblem,
    LpBall,
    MethodError,
    ProjectionProblem,
    Support,
    Window,
    WindowSSIM,
)
from tests.solvers import oracles
from tests.solvers.conftest import Photos

Draw = Callable[..., Tensor]
SHAPE = (2, 9, 10)
MASK = torch.ones(9, 10, dtype=torch.bool)
MASK[2:6, 3:9] = False
BALLS: dict[str, Constraint] = {
    "l1": LpBall(1, 3.0),
    "l2": LpBall(2, 1.5),
    "linf": LpBall(math.inf, 0.2),
    "global": GlobalSSIM(0.15),
}
BESIDE: dict[str, list[Constraint]] = {
    "": [],
    "box": [Box()],
    "support": [Support(MASK)],
    "box support": [Box(), Support(MASK)],
    "linf box": [LpBall(math.inf, 0.12), Box()],
}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("linear", [True, False], ids=["linear", "projection"])
def test_optima_agree_with_clarabel_and_are_certified(
    ball: str, beside: str, linear: bool, uniform: Draw, normal: Draw
) -> None:
    x, vector = uniform(3, *SHAPE), normal(3, *SHAPE)
    x[1, :, :4] = 0.0  # the box is active
    x[2, :, 5:] = 1.0
    if not linear:
        vector = 0.3 * vector
    sets = [BALLS[ball], *BESIDE[beside]]
    kind = LinearProblem if linear else ProjectionProblem
    problem = kind(vector, x, sets)
    if ball == "l1" and not linear and beside:
        with pytest.raises(MethodError, match="projects onto an l1 ball only where it stands alone"):
            solvers.solve(problem, "closed_form")
        return
    result = solvers.solve(problem, "closed_form", {"eps_rel": 1e-9})
    assert result.all_optimal
    assert float(torch.as_tensor(result.rel_gap).max()) < 1e-11
    assert float(torch.as_tensor(result.max_violation).max()) < 1e-9
    for k in range(3):
        value, delta = oracles.optimum(vector[k].numpy(), x[k].numpy(), sets, linear=linear)
        assert float(result.objective[k]) == pytest.approx(value, rel=1e-7)
        if not linear:  # strictly convex: one solution
            np.testing.assert_allclose(result.delta[k], delta, atol=2e-4)


@pytest.mark.parametrize("linear", [True, False], ids=["linear", "projection"])
def test_elementwise_sets_alone_need_no_search(linear: bool, uniform: Draw, normal: Draw) -> None:
    x, vector = uniform(1, *SHAPE), normal(1, *SHAPE)
    vector[0, 0, 0, 0] = 0.0
    kind = LinearProblem if linear else ProjectionProblem
    result = solvers.solve(kind(vector, x, [Box(), Support(MASK), LpBall(math.inf, 0.3)]), "closed_form")
    lower, upper = np.maximum(-x.numpy(), -0.3), np.minimum(1 - x.numpy(), 0.3)
    lower, upper = lower * MASK.numpy(), upper * MASK.numpy()
    g = vector.numpy()
    expected = np.where(g > 0, upper, np.where(g < 0, lower, 0)) if linear else np.clip(g, lower, upper)
    np.testing.assert_allclose(result.delta, expected, atol=1e-15)
    assert result.all_optimal


def test_real_gradients_under_global_ssim_attain_the_distance_and_are_certified(photos: Photos) -> None:
    """Issue 2, "Shows when done", line 4: 20 problems at 64x64."""
    settings = {"eps_rel": 1e-6, "eps_abs": 0.0}
    for k, crop in enumerate(photos.random_crops(20, 64, seed=11)):
        e = (0.005, 0.01)[k % 2]
        part = crop.inside(0.2, 0.8)
        sets: list[Constraint] = [GlobalSSIM(e), Box()] if k % 4 < 2 else [GlobalSSIM(e)]
        problem = LinearProblem(part.gradient, part.reference, sets)
        own = solvers.solve(problem, "closed_form", settings)
        conic = solvers.solve(problem, "cvxpy:clarabel", settings)
        value, _ = oracles.optimum(part.gradient[0].numpy(), part.reference[0].numpy(), sets)
        assert own.all_optimal
        assert conic.all_optimal
        for result in (own, conic):
            assert float(result.rel_gap[0]) <= 1e-6
            assert float(result.objective[0]) == pytest.approx(value, rel=1e-6)
        delta = torch.as_tensor(own.delta)
        assert abs(float(delta.mean())) < 1e-9
        # d2 by the definition, in the paper's pixels, attains e.
        u = (2 * part.reference[0] - 1).numpy().reshape(-1)
        v = u + 2 * delta[0].numpy().reshape(-1)
        assert np.abs(v).max() < 1  # no box
        u, v = u - u.mean(), v - v.mean()
        assert math.sqrt(((u - v) @ (u - v)) / (u @ u + v @ v + 9e-4)) == pytest.approx(e, abs=1e-7)


@pytest.mark.parametrize("ball", [b for b in BALLS if b != "l1"])
@pytest.mark.parametrize("linear", [True, False], ids=["linear", "projection"])
def test_zero_and_constant_vectors_are_certified(ball: str, linear: bool, uniform: Draw) -> None:
    x = uniform(3, *SHAPE)
    x[2] = 0.4  # a constant image
    for level in (0.0, 1.0, -3.0):
        vector = torch.full_like(x, level)
        for sets in ([BALLS[ball]], [BALLS[ball], Box()], [BALLS[ball], Box(), Support(MASK)]):
            kind = LinearProblem if linear else ProjectionProblem
            result = solvers.solve(kind(vector, x, sets), "closed_form", {"eps_rel": 1e-9})
            assert result.all_optimal
            for k in (0, 2):
                value, _ = oracles.optimum(vector[k].numpy(), x[k].numpy(), sets, linear=linear)
                assert float(result.objective[k]) == pytest.approx(value, rel=1e-6, abs=1e-7)


def test_gradients_that_tie_are_certified(uniform: Draw, normal: Draw) -> None:
    x = uniform(2, *SHAPE).round(decimals=1)
    gradient = normal(2, *SHAPE).sign()
    for sets in ([LpBall(1, 3.0), Box()], [LpBall(2, 6.9), Box()], [GlobalSSIM(0.9), Box()], [LpBall(1, 3.0)]):
        result = solvers.solve(LinearProblem(gradient, x, sets), "closed_form", {"eps_rel": 1e-9})
        assert result.all_optimal
        value, _ = oracles.optimum(gradient[0].numpy(), x[0].numpy(), sets)
        assert float(result.objective[0]) == pytest.approx(value, rel=1e-7)


def test_a_radius_that_just_reaches_every_bound_is_spent_whole(uniform: Draw, normal: Draw) -> None:
    x, gradient = uniform(4000, 1, 1, 4), normal(4000, 1, 1, 4)
    corner = torch.where(gradient > 0, 1 - x, -x)
    size = corner.flatten(1).norm(dim=1)
    for radius in (torch.nextafter(size, 0 * size), size, torch.nextafter(size, 2 * size), 1.1 * size):
        result = solvers.solve(LinearProblem(gradient, x, [LpBall(2, radius), Box()]), "closed_form")
        assert result.all_optimal
        np.testing.assert_allclose(result.delta, corner, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8])
def test_the_scale_of_the_gradient_does_not_matter(scale: float, uniform: Draw, normal: Draw) -> None:
    x, gradient = uniform(1, *SHAPE), normal(1, *SHAPE)
    for ball in BALLS.values():
        base = solvers.solve(LinearProblem(gradient, x, [ball, Box()]), "closed_form")
        scaled = solvers.solve(LinearProblem(scale * gradient, x, [ball, Box()]), "closed_form", {"eps_abs": 1e-300})
        assert scaled.all_optimal
        np.testing.assert_allclose(scaled.delta, base.delta, atol=1e-9)


def test_radii_per_image_are_kept_apart(uniform: Draw, normal: Draw) -> None:
    x, gradient = uniform(2, *SHAPE), normal(2, *SHAPE)
    for p in (1, 2, math.inf):
        both = solvers.solve(LinearProblem(gradient, x, [LpBall(p, torch.tensor([0.1, 0.4])), Box()]))
        for k, radius in enumerate((0.1, 0.4)):
            part = slice(k, k + 1)
            single = solvers.solve(LinearProblem(gradient[part], x[part], [LpBall(p, radius), Box()]))
            # 0.1 in float32 is what the tensor holds.
            np.testing.assert_allclose(both.delta[part], single.delta, atol=1e-6)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([LpBall(1, 1.0), LpBall(2, 1.0)], r"got LpBall\(1\) and LpBall\(2\)"),
        ([GlobalSSIM(0.1), LpBall(2, 1.0), Box()], r"got GlobalSSIM and LpBall\(2\)"),
        ([WindowSSIM(0.9, Window.uniform(4)), Box()], "can't take WindowSSIM"),
    ],
)
def test_what_it_cannot_take_is_refused_with_the_reason(sets: list[Any], message: str, uniform: Draw) -> None:
    x = uniform(1, *SHAPE)
    with pytest.raises(MethodError, match=f"method 'closed_form' .*{message}.*methods that can: .*cvxpy:clarabel"):
        solvers.solve(LinearProblem(x, x, sets), "closed_form")
