"""One window at a time, against CVXPY and against the conditions that a solution meets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import Tensor

from solvers.constraints.ssim_windows.single_window_solver import Groups, solve_groups

Draw = Callable[..., Tensor]
COUNT, PIXELS = 6, 5


@pytest.fixture
def groups(uniform: Draw, normal: Draw) -> Groups:
    """Groups of five pixels with active and inactive bounds; the fourth target is constant, the fifth nearly so."""
    weights = 0.2 + uniform(COUNT, PIXELS)
    target = normal(COUNT, PIXELS)
    target[3] = 0.7
    target[4] = -0.4 + 1e-9 * normal(PIXELS)
    half = torch.tensor([0.05, 10.0, 0.3, 0.2, 0.2, 0.0], dtype=torch.float64)
    return Groups(
        target=target,
        weights=weights / weights.sum(dim=1, keepdim=True),
        center=0.1 * normal(COUNT, PIXELS),
        radius=torch.tensor([0.3, 0.5, 5.0, 0.4, 0.4, 0.4], dtype=torch.float64),
        mean_lower=-half,
        mean_upper=half,
        lower=-0.1 - uniform(COUNT, PIXELS),
        upper=0.1 + uniform(COUNT, PIXELS),
    )


def best_by_cvxpy(groups: Groups, index: int, *, linear: bool) -> float:
    """The optimal value of one group, by another solver."""
    target, weights, center, lower, upper = (
        getattr(groups, name)[index].numpy() for name in ("target", "weights", "center", "lower", "upper")
    )
    delta = cp.Variable(PIXELS)
    center = center - weights @ center
    offset = delta - weights @ delta - center
    ball = cp.norm(cp.multiply(np.sqrt(weights), offset)) <= float(groups.radius[index])
    interval = [weights @ delta >= float(groups.mean_lower[index]), weights @ delta <= float(groups.mean_upper[index])]
    objective = cp.Maximize((weights * target) @ delta) if linear else cp.Minimize(cp.sum_squares(delta - target) / 2)
    problem = cp.Problem(objective, [ball, *interval, delta >= lower, delta <= upper])
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return float(problem.value)


@pytest.mark.parametrize("linear", [True, False], ids=["linear", "projection"])
def test_every_group_is_solved_as_another_solver_does(groups: Groups, linear: bool) -> None:
    delta = solve_groups(groups, linear=linear).delta
    if linear:
        values = (groups.weights * groups.target * delta).sum(dim=1)
    else:
        values = (delta - groups.target).square().sum(dim=1) / 2
    expected = [best_by_cvxpy(groups, index, linear=linear) for index in range(COUNT)]
    np.testing.assert_allclose(values, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("linear", [True, False], ids=["linear", "projection"])
def test_a_solution_lies_in_its_set(groups: Groups, linear: bool) -> None:
    delta = solve_groups(groups, linear=linear).delta
    assert bool(groups.inside(delta).all())
    centred = replace(groups, center=groups.centred(groups.center))
    assert bool((centred.deviation(delta) <= groups.radius * (1 + 1e-12)).all())
    mean = groups.mean(delta)
    assert bool(((mean >= groups.mean_lower - 1e-14) & (mean <= groups.mean_upper + 1e-14)).all())


def test_a_point_on_a_bound_is_inside_and_a_point_beyond_it_is_not(groups: Groups) -> None:
    assert groups.inside(groups.upper).tolist() == [True] * COUNT
    assert groups.inside(groups.lower).tolist() == [True] * COUNT
    for bound, direction in ((groups.upper, torch.inf), (groups.lower, -torch.inf)):
        beyond = bound.clone()
        beyond[2, 1] = torch.nextafter(beyond[2, 1], torch.tensor(direction, dtype=torch.float64))
        assert groups.inside(beyond).tolist() == [True, True, False, True, True, True]
