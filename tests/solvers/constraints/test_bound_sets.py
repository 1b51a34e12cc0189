"""What every bound set says of itself: how large its conic form is, and how exact its products are."""

from __future__ import annotations

from collections.abc import Callable

import cvxpy as cp
import pytest
import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint

Draw = Callable[..., Tensor]
EXACT: list[Constraint] = [
    solvers.Box(0, 1),
    solvers.LpBall(1, 0.5),
    solvers.LpBall(2, 0.5),
    solvers.LpBall(float("inf"), 0.5),
    solvers.GlobalSSIM(0.1),
    solvers.WindowSSIM(0.9, solvers.Window.uniform(4, stride=4)),
    solvers.WindowSSIM(0.9, solvers.Window.uniform(5, border="valid")),
]


@pytest.mark.parametrize("constraint", EXACT, ids=lambda constraint: f"{constraint.kind}-{constraint}")
def test_the_size_of_a_conic_form_is_about_that_of_the_matrix_that_cvxpy_makes(
    constraint: Constraint, uniform: Draw
) -> None:
    x = uniform(1, 2, 8, 8)
    bound = constraint.bind(x)
    delta = cp.Variable(x[0].numel())
    problem = cp.Problem(cp.Maximize(cp.sum(delta)), bound.conic_form(delta, 0).constraints)
    data = problem.get_problem_data(cp.CLARABEL)[0]
    assert 0.7 <= bound.conic_size() / data["A"].nnz <= 1.6


@pytest.mark.parametrize("constraint", EXACT, ids=lambda constraint: f"{constraint.kind}-{constraint}")
def test_no_objective_of_an_exact_set_may_lie_beyond_its_bound(constraint: Constraint, uniform: Draw) -> None:
    x = uniform(1, 2, 8, 8)
    assert constraint.bind(x).product_rounding == 0
    certifier = solvers.certificate.Certifier(solvers.LinearProblem(torch.ones_like(x), x, [constraint]))
    beyond = certifier.relative_gap(torch.tensor([1.001]).double(), torch.tensor([1.0]).double())
    assert float(beyond) < 0
