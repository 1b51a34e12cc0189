"""Exact objectives, and closed-form optima against a conic solver that knows nothing of them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import solvers
from tests.solvers import oracles
from tests.solvers.exact_arithmetic.objectives import exact_optimum, linear_objective, projection_objective
from tests.solvers.exact_arithmetic.rational_arrays import exact

TILES = [solvers.Window.uniform(3, stride=3), solvers.Window.gaussian(1.0, 4, stride=4, border="valid")]
CLOSED_FORMS: dict[str, list[solvers.Constraint]] = {
    "l1": [solvers.LpBall(1, 0.7)],
    "l2": [solvers.LpBall(2, 0.7)],
    "linf and box": [solvers.LpBall(math.inf, 0.3), solvers.Box()],
    "box": [solvers.Box(-0.5, 1.0)],
    "global": [solvers.GlobalSSIM(0.2)],
    "tiles": [solvers.WindowSSIM(0.9, TILES[0])],
    "tiles split sample": [solvers.WindowSSIM(0.8, TILES[0], "split", sample_covariance=True)],
    "tiles preserve gaussian valid": [solvers.WindowSSIM(0.9, TILES[1], "preserve")],
    "tiles number gaussian valid": [solvers.WindowSSIM(0.9, TILES[1], 0.05)],
}


def test_objectives_are_exact() -> None:
    g, d = np.array([[[1e300, 1.0, -1e300]]]), np.array([[[1.0, 2.0**-60, 1.0]]])
    assert linear_objective(exact(g), exact(d)) == Fraction(1, 2**60)
    assert (
        projection_objective(exact(np.array([0.1])), exact(np.array([0.3]))) == (Fraction(0.3) - Fraction(0.1)) ** 2 / 2
    )


@pytest.mark.parametrize("name", CLOSED_FORMS)
@pytest.mark.parametrize("linear", [True, False], ids=["linear", "projection"])
def test_closed_forms_agree_with_a_conic_solver(name: str, linear: bool) -> None:
    rng = np.random.default_rng(3)
    shape = (1, 2, 6, 5)
    x, vector = 0.1 + 0.8 * rng.random(shape), rng.normal(size=shape)
    sets = CLOSED_FORMS[name]
    problem = (solvers.LinearProblem if linear else solvers.ProjectionProblem)(vector, x, sets)
    value = exact_optimum(problem, x, vector, 0)
    if value is None:
        assert not linear
        return
    expected, _ = oracles.optimum(vector[0], x[0], sets, linear=linear)
    assert float(value) == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_no_closed_form_is_claimed_where_windows_overlap_or_sets_meet() -> None:
    x = np.full((1, 1, 4, 4), 0.5)
    overlap, tiles = (solvers.WindowSSIM(0.9, solvers.Window.uniform(2, stride=k)) for k in (1, 2))
    for sets in ([overlap], [tiles, solvers.Box()], [solvers.LpBall(2, 1.0), solvers.Box()]):
        assert exact_optimum(solvers.LinearProblem(x, x, sets), x, x, 0) is None
