"""Problems on which certificates were wrong or results lay outside, each with its right value in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

import solvers
from tests.solvers.exact_arithmetic.objectives import exact_optimum, linear_objective
from tests.solvers.exact_arithmetic.rational_arrays import exact
from tests.solvers.exact_arithmetic.sets import exact_sets

TILES = solvers.Window.uniform(4, stride=4)
PRESERVE = solvers.WindowSSIM(0.95, TILES, luminance="preserve")


def draw() -> tuple[np.ndarray, np.ndarray]:
    """An image and a gradient, (1, 1, 8, 8)."""
    rng = np.random.default_rng(0)
    return rng.random((1, 1, 8, 8)), rng.normal(size=(1, 1, 8, 8))


def optimum(problem: solvers.Problem, image: int = 0) -> Fraction:
    """The optimum of one image, by a closed form."""
    value = exact_optimum(problem, problem.reference.numpy(), problem.vector.numpy(), image)
    assert value is not None
    return value


def bound_of(certificate: object, image: int = 0) -> Fraction:
    return Fraction(float(certificate.bound[image]))  # type: ignore[attr-defined]


def assert_feasible(problem: solvers.Problem, delta: object, image: int = 0) -> None:
    """``delta`` (B, C, H, W) of one image lies in every set."""
    point = exact(np.asarray(delta)[image])
    for member in exact_sets(problem.constraints, problem.reference.numpy(), image):
        assert member.violation(point) is None


# -- hostile duals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e6, 1e9, 1e12, 1e18])
def test_a_huge_dual_along_kept_means_gives_no_wrong_bound(size: float) -> None:
    x, g = draw()
    problem = solvers.LinearProblem(g, x, [PRESERVE])
    zeros = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    block = solvers.WindowDual(zeros, torch.zeros(1, 1, 8, 8, dtype=torch.float64), zeros + size / 3)
    result = solvers.solve(problem)
    assert bound_of(solvers.certify(problem, result.delta, [block])) >= optimum(problem)


@pytest.mark.parametrize("size", [1e6, 1e12, 1e18])
def test_a_huge_constant_dual_of_the_global_ball_gives_no_wrong_bound(size: float) -> None:
    x, g = draw()
    problem = solvers.LinearProblem(g, x, [solvers.GlobalSSIM(0.1)])
    result = solvers.solve(problem)
    assert bound_of(solvers.certify(problem, result.delta, [np.full(x.shape, size)])) >= optimum(problem)


# -- offsets in the gradient --------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [1e6, 1e9, 1e12])
@pytest.mark.parametrize("seed", range(6))
def test_an_offset_in_the_gradient_gives_no_bound_below_the_objective(seed: int, offset: float) -> None:
    x, _ = draw()
    g = np.random.default_rng(seed).normal(size=x.shape) + offset
    problem = solvers.LinearProblem(g, x, [PRESERVE])
    result = solvers.solve(problem)
    assert bound_of(result) >= optimum(problem)
    assert float(result.objective[0]) <= float(result.bound[0])
    assert_feasible(problem, result.delta)
    assert Fraction(float(result.objective[0])) <= linear_objective(exact(g), exact(result.delta))


# -- little contrast far from 0 -----------------------------------------------------------------------------


def test_a_point_on_little_contrast_is_truly_inside() -> None:
    rng = np.random.default_rng(17)
    x = 0.5 + 1e-6 * rng.random((1, 1, 8, 8))
    g = rng.normal(size=x.shape)
    problem = solvers.LinearProblem(g, x, [solvers.WindowSSIM(0.9, TILES, luminance="split", data_range=1e-4)])
    result = solvers.solve(problem)
    c2 = 0.03e-4**2
    for i in (0, 4):
        for j in (0, 4):
            a, d = x[0, 0, i : i + 4, j : j + 4], np.asarray(result.delta)[0, 0, i : i + 4, j : j + 4]
            assert d.var() / (a.var() + (a + d).var() + c2) <= 1 - 0.9**0.5 + 1e-9
    assert_feasible(problem, result.delta)
    assert bound_of(result) >= optimum(problem)
    assert result.status[0].is_optimal


# -- windows of one pixel -----------------------------------------------------------------------------------


def test_windows_of_one_pixel_without_a_constant_are_solved() -> None:
    window = solvers.Window.uniform(2, stride=2)
    sets = [solvers.MeanSSIM(0.95, window, sample_covariance=True), solvers.Box()]
    images = np.stack([np.zeros((1, 3, 3)), 0.2 + 0.05 * np.arange(9.0).reshape(1, 3, 3)])
    problem = solvers.LinearProblem(np.ones_like(images), images, sets)
    result = solvers.solve(problem, "mean_windows")
    for image in range(2):
        assert np.isfinite([result.objective[image], result.bound[image]]).all()
        assert not result.status[image].is_failure
        assert result.objective[image] > 0
        assert_feasible(problem, result.delta, image)
    black_alone = solvers.LinearProblem(np.ones((1, 1, 3, 3)), np.zeros((1, 1, 3, 3)), sets)
    assert_feasible(black_alone, solvers.solve(black_alone, "mean_windows").delta)


# -- nothing but d = 0 --------------------------------------------------------------------------------------


ONLY_ZERO = {
    "black tiles that keep means": ([PRESERVE, solvers.Box()], np.zeros((1, 1, 8, 8))),
    "black image that keeps its mean": ([solvers.GlobalSSIM(0.1), solvers.Box()], np.zeros((1, 1, 8, 8))),
    "overlapping windows whose means fix every pixel": (
        [solvers.WindowSSIM(0.95, solvers.Window.uniform(2), luminance="preserve")],
        draw()[0],
    ),
    "overlapping windows of three pixels": (
        [solvers.WindowSSIM(0.95, solvers.Window.uniform(3), luminance="preserve"), solvers.Box()],
        draw()[0][..., :7, :7],
    ),
    "empty support": (
        [solvers.WindowSSIM(0.95, TILES), solvers.Support(torch.zeros(8, 8, dtype=torch.bool))],
        draw()[0],
    ),
}


@pytest.mark.parametrize("name", ONLY_ZERO)
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_where_only_0_is_feasible_the_bound_does_not_lie_below_the_objective(name: str, offset: float) -> None:
    sets, x = ONLY_ZERO[name]
    for seed in range(4):
        g = np.random.default_rng(seed).normal(size=x.shape) + offset
        problem = solvers.LinearProblem(g, x, sets)
        result = solvers.solve(problem)
        assert float(result.bound[0]) >= 0
        assert float(result.objective[0]) <= float(result.bound[0])
        assert_feasible(problem, result.delta)
        projection = solvers.ProjectionProblem(1e-3 * g, x, sets)
        nearest = solvers.solve(projection)
        at_zero = sum((Fraction(v) ** 2 for v in (1e-3 * g).flat), Fraction(0)) / 2
        assert bound_of(nearest) <= at_zero
        assert float(nearest.objective[0]) >= float(nearest.bound[0])


# -- scale --------------------------------------------------------------------------------------------------


SCALES = [1e-300, 1e-250, 1e-162, 1e-30, 1e30, 1e162, 1e250, 1e300]


@pytest.mark.parametrize("scale", SCALES)
def test_a_gradient_of_any_scale_has_a_true_bound(scale: float) -> None:
    z = np.full((1, 1, 4, 4), 0.5)
    problem = solvers.LinearProblem(scale * np.ones_like(z), z, [solvers.LpBall(2, 0.5)])
    result = solvers.solve(problem)
    assert float(result.objective[0]) == pytest.approx(2 * scale, rel=1e-9, abs=0)
    assert float(result.bound[0]) == pytest.approx(2 * scale, rel=1e-9, abs=0)
    certificate = solvers.certify(problem, np.full_like(z, 0.125), result.dual)
    assert bound_of(certificate) >= optimum(problem)
    assert float(certificate.objective[0]) <= float(certificate.bound[0])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "constraint",
    [
        solvers.GlobalSSIM(0.1),
        PRESERVE,
        solvers.WindowSSIM(0.95, TILES),
        solvers.WindowSSIM(0.95, TILES, luminance="split"),
        solvers.LpBall(1, 0.5),
        solvers.LpBall(float("inf"), 0.5),
    ],
    ids=["global", "preserve", "window", "split", "l1", "linf"],
)
def test_every_set_with_a_closed_form_is_solved_at_every_scale(constraint: solvers.Constraint, scale: float) -> None:
    x, g = draw()
    problem = solvers.LinearProblem(scale * g, x, [constraint])
    result = solvers.solve(problem)
    value = optimum(problem)
    assert bound_of(result) >= value
    assert float(result.bound[0]) == pytest.approx(float(value), rel=1e-6, abs=0)
    assert float(result.objective[0]) == pytest.approx(float(value), rel=1e-3, abs=0)
    assert result.status[0].is_optimal


@pytest.mark.parametrize("scale", SCALES)
def test_the_product_of_terms_is_solved_alike_at_every_scale(scale: float) -> None:
    x, g = draw()
    sets = [solvers.ProductSSIM(0.95, TILES)]
    unit = solvers.solve(solvers.LinearProblem(g, x, sets))
    result = solvers.solve(solvers.LinearProblem(scale * g, x, sets))
    assert float(result.objective[0]) == pytest.approx(scale * float(unit.objective[0]), rel=1e-3, abs=0)
    assert float(result.bound[0]) == pytest.approx(scale * float(unit.bound[0]), rel=1e-3, abs=0)
    assert float(result.objective[0]) <= float(result.bound[0])
