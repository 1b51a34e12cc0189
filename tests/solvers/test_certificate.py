"""The certificate: valid whatever it is given, sharp where it is given an optimum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import solvers
from solvers import (
    Box,
    Constraint,
    FeatureBall,
    GlobalSSIM,
    LinearOperator,
    LinearProblem,
    LpBall,
    MeanSSIM,
    ProblemError,
    ProjectionProblem,
    Support,
    Window,
    WindowDual,
    WindowSSIM,
)
from solvers.certificate import Certifier
from tests.solvers import oracles

Draw = Callable[..., Tensor]
SHAPE = (1, 1, 8, 9)
MASK = torch.ones(8, 9, dtype=torch.bool)
MASK[3:5, 2:6] = False
MATRIX = torch.randn(6, 72, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
JACOBIAN = LinearOperator(
    lambda v: v.flatten(1) @ MATRIX.T.to(v.dtype), lambda u: (u @ MATRIX.to(u.dtype)).reshape(-1, *SHAPE[1:])
)
TILES = WindowSSIM(0.9, Window.uniform(4, stride=4))
OVERLAP = WindowSSIM(0.9, Window.gaussian(1.0, 5, stride=2), luminance="split", sample_covariance=True)
VALID = WindowSSIM(0.9, Window.uniform(3, stride=2, border="valid"), luminance=0.01)
PRESERVE = WindowSSIM(0.9, Window.uniform(4, stride=2), luminance="preserve")

COMBINATIONS: dict[str, list[Constraint]] = {
    "l1": [LpBall(1, 0.7)],
    "l2 box": [LpBall(2, 0.7), Box()],
    "linf": [LpBall(math.inf, 0.1), Box()],
    "global": [GlobalSSIM(0.2)],
    "global box support": [GlobalSSIM(0.2), Box(), Support(MASK)],
    "tiles": [TILES],
    "tiles box": [TILES, Box()],
    "overlap box": [OVERLAP, Box()],
    "valid box support": [VALID, Box(), Support(MASK)],
    "preserve box": [PRESERVE, Box()],
    "tiles overlap l2 l1": [TILES, OVERLAP, LpBall(2, 0.5), LpBall(1, 2.0)],
    "global overlap box": [GlobalSSIM(0.2), OVERLAP, Box()],
    "preserve overlap box": [PRESERVE, OVERLAP, Box()],
}
each_combination = pytest.mark.parametrize("name", COMBINATIONS)
both = pytest.mark.parametrize("linear", [True, False], ids=["linear", "projection"])


@dataclass(frozen=True)
class Case:
    problem: solvers.Problem
    optimum: float
    delta: Tensor


_CASES: dict[tuple[str, bool], Case] = {}


@pytest.fixture
def case(name: str, linear: bool) -> Case:
    """A small problem with its optimum by an independent statement; some pixels at 0 and 1."""
    if (name, linear) not in _CASES:
        generator = torch.Generator().manual_seed(5)
        x = 0.05 + 0.9 * torch.rand(SHAPE, generator=generator, dtype=torch.float64)
        x[..., :3, :3] = 0.0
        x[..., 6, 7] = 1.0
        vector = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
        if not linear:
            vector = 0.2 * vector
        sets = COMBINATIONS[name]
        value, delta = oracles.optimum(vector[0].numpy(), x[0].numpy(), sets, linear=linear)
        kind = LinearProblem if linear else ProjectionProblem
        _CASES[name, linear] = Case(kind(vector, x, sets), value, torch.from_numpy(delta)[None])
    return _CASES[name, linear]


def not_beaten(bound: Tensor, optimum: float, linear: bool, slack: float = 1e-8) -> bool:
    """Whether the bound lies on its side of the optimum."""
    return bool(bound >= optimum * (1 - slack)) if linear else bool(bound <= optimum * (1 + slack) + 1e-12)


def random_dual(problem: solvers.Problem, normal: Draw, scale: float) -> list[Any]:
    """Blocks of every form, as large as ``scale``."""
    blocks: list[Any] = []
    for k, constraint in enumerate(problem.constraints):
        if isinstance(constraint, (Box, Support)):
            blocks.append(None)
        elif isinstance(constraint, WindowSSIM):
            op = constraint.window.operator_for(problem.reference)
            lattice = (1, 1, *op.shape)
            if k % 2:
                blocks.append(scale * normal(*lattice, constraint.window.size**2))
            else:
                blocks.append(WindowDual(scale * normal(*lattice), normal(*SHAPE), scale * normal(*lattice)))
        elif isinstance(constraint, FeatureBall):
            blocks.append(scale * normal(1, 6))
        else:
            blocks.append(scale * normal(*SHAPE))
    return blocks


@both
@each_combination
def test_any_dual_gives_a_valid_bound(case: Case, linear: bool, normal: Draw) -> None:
    for scale in (1e-3, 0.1, 1.0, 30.0):
        for _ in range(5):
            dual = random_dual(case.problem, normal, scale)
            certificate = solvers.certify(case.problem, torch.zeros(SHAPE), dual)
            assert not_beaten(certificate.bound, case.optimum, linear)


@both
@each_combination
def test_absent_duals_give_a_valid_weak_bound(case: Case, linear: bool) -> None:
    zero = torch.zeros(SHAPE)
    for dual in (None, [None] * len(case.problem.constraints)):
        bound = solvers.certify(case.problem, zero, dual).bound
        assert bool(bound.isfinite())
        assert not_beaten(bound, case.optimum, linear)
    random = random_dual(case.problem, lambda *shape: 1e6 * torch.ones(shape, dtype=torch.float64), 1.0)
    useless = solvers.certify(case.problem, zero, random).bound  # never worse than none
    assert float(useless) == pytest.approx(float(bound), rel=1e-9)


@both
@each_combination
def test_an_optimal_pair_closes_the_gap_at_the_independent_optimum(case: Case, linear: bool) -> None:
    # Clarabel's accuracy on kept means with fixed pixels, which leave no interior, hangs on single roundings.
    keeps_means = any(getattr(constraint, "luminance", None) == "preserve" for constraint in case.problem.constraints)
    tolerance = 1e-6 if keeps_means else 1e-8
    result = solvers.solve(case.problem, "cvxpy:clarabel", {"eps_rel": tolerance, "eps_abs": 1e-10})
    assert result.all_optimal
    certificate = solvers.certify(case.problem, result.delta, result.dual)
    assert float(certificate.bound) == pytest.approx(case.optimum, rel=2e-7, abs=1e-9)
    assert float(certificate.objective) == pytest.approx(case.optimum, rel=2e-7, abs=1e-9)
    assert float(certificate.rel_gap) < 1e-7 or float(certificate.gap) < 1e-9
    np.testing.assert_allclose(result.delta, case.delta, atol=3e-4)


@both
@each_combination
def test_an_infeasible_point_is_repaired_to_a_feasible_one(case: Case, linear: bool, normal: Draw) -> None:
    problem = case.problem
    sets = [constraint.bind(problem.reference) for constraint in problem.constraints]
    for delta in (1.5 * case.delta, case.delta + 0.05 * normal(*SHAPE), 10 * normal(*SHAPE), case.delta):
        certificate = solvers.certify(problem, delta)
        for bound in sets:
            assert float(bound.excess(certificate.delta)) < 1e-9
        torch.testing.assert_close(certificate.objective, problem.objective(certificate.delta), rtol=1e-11, atol=1e-300)
        objective = float(certificate.objective)
        slack = 1e-7 * abs(case.optimum) + 1e-10
        assert objective <= case.optimum + slack if linear else objective >= case.optimum - slack
        worst = max(float(bound.excess(delta)) for bound in sets)
        assert float(certificate.max_violation) == pytest.approx(max(worst, 0), abs=1e-15)
    # A point near the optimum keeps most of what it has.
    near = solvers.certify(problem, case.delta * (1 + 1e-6))
    assert float(near.objective) == pytest.approx(case.optimum, rel=1e-3)


def test_a_feature_ball_is_certified_like_the_others(uniform: Draw, normal: Draw) -> None:
    import cvxpy as cp

    x, g = uniform(*SHAPE), normal(*SHAPE)
    problem = LinearProblem(g, x, [FeatureBall(0.3, JACOBIAN), Box()])
    d, flat = cp.Variable(72), x.numpy().reshape(-1)
    sets = [cp.norm(MATRIX.numpy() @ d) <= 0.3, d >= -flat, d <= 1 - flat]
    reference = cp.Problem(cp.Maximize(g.numpy().reshape(-1) @ d), sets)
    reference.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    result = solvers.solve(problem, settings={"eps_rel": 1e-7})
    assert result.all_optimal
    assert float(result.objective) == pytest.approx(reference.value, rel=1e-7)
    for scale in (0.01, 0.1, 1.0):
        certificate = solvers.certify(problem, 10 * normal(*SHAPE), random_dual(problem, normal, scale))
        assert float(certificate.bound) >= reference.value
        assert float(np.linalg.norm(MATRIX.numpy() @ certificate.delta.numpy().reshape(-1))) <= 0.3 * (1 + 1e-12)


def test_products_in_single_precision_do_not_throw_the_point_away(uniform: Draw, normal: Draw) -> None:
    x = uniform(*SHAPE)
    narrow = LinearOperator(JACOBIAN.forward, JACOBIAN.adjoint, torch.float32)
    for radius in (0.3, 3.0, 30.0):
        problem = LinearProblem(normal(*SHAPE), x, [FeatureBall(radius, narrow), Box(-40.0, 40.0)])
        kept = 0
        for _ in range(10):
            certificate = solvers.certify(problem, normal(*SHAPE))
            kept += float(certificate.delta.norm()) > 0
            assert float(solvers.certify(problem, certificate.delta).max_violation) < 1e-9
        assert kept == 10


def test_a_window_dual_and_its_vectors_certify_alike(uniform: Draw, normal: Draw) -> None:
    x = uniform(*SHAPE)
    for constraint in (TILES, OVERLAP, VALID, PRESERVE):
        problem = LinearProblem(normal(*SHAPE), x, [constraint, Box()])
        op = constraint.window.operator_for(x)
        lattice = (1, 1, *op.shape)
        dual = WindowDual(0.1 * normal(*lattice), normal(*SHAPE), 0.1 * normal(*lattice))
        centred = op.vectors(dual.point) - op.mean(dual.point)[..., None] * op.root_weights
        vectors = dual.ball[..., None] * centred + dual.mean[..., None] * op.root_weights
        first = solvers.certify(problem, torch.zeros(SHAPE), [dual, None]).bound
        second = solvers.certify(problem, torch.zeros(SHAPE), [vectors, None]).bound
        np.testing.assert_allclose(first, second, rtol=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_point_that_is_not_finite_counts_as_zero_with_infinite_violation(
    bad: float, uniform: Draw, normal: Draw
) -> None:
    x, g = uniform(2, 1, 8, 9), normal(2, 1, 8, 9)
    problem = LinearProblem(g, x, [TILES, Box()])
    delta = 0.01 * normal(2, 1, 8, 9)
    sound = solvers.certify(problem, delta)
    delta[0, 0, 0, 0] = bad
    certificate = solvers.certify(problem, delta)
    assert math.isinf(float(certificate.max_violation[0]))
    assert float(certificate.delta[0].abs().max()) == 0
    assert float(certificate.objective[0]) == 0
    for name in ("objective", "bound", "rel_gap", "max_violation"):
        assert getattr(certificate, name)[1] == getattr(sound, name)[1]


def test_a_dual_that_is_not_finite_falls_back_to_no_dual(uniform: Draw, normal: Draw) -> None:
    problem = LinearProblem(normal(*SHAPE), uniform(*SHAPE), [TILES, LpBall(2, 1.0), Box()])
    weak = solvers.certify(problem, torch.zeros(SHAPE)).bound
    lattice = (1, 1, 2, 3)
    for bad in (math.nan, math.inf, -math.inf):
        block = torch.full(lattice, bad, dtype=torch.float64)
        for window in (
            WindowDual(block, normal(*SHAPE), block),
            WindowDual(normal(*lattice), torch.full(SHAPE, bad, dtype=torch.float64), normal(*lattice)),
            torch.full((*lattice, 16), bad, dtype=torch.float64),
        ):
            assert torch.equal(solvers.certify(problem, torch.zeros(SHAPE), [window, None, None]).bound, weak)
        image = torch.full(SHAPE, bad, dtype=torch.float64)
        assert torch.equal(solvers.certify(problem, torch.zeros(SHAPE), [None, image, None]).bound, weak)


def test_max_violation_is_that_of_the_point_as_given(uniform: Draw) -> None:
    x = uniform(*SHAPE)
    problem = LinearProblem(x, x, [LpBall(2, 1.0), Box()])
    delta = torch.zeros(SHAPE, dtype=torch.float64)
    delta[0, 0, 0, 0] = 5.0
    certificate = solvers.certify(problem, delta)
    assert float(certificate.max_violation) == pytest.approx(max(4.0, 5.0 + float(x[0, 0, 0, 0]) - 1))
    assert float(solvers.certify(problem, certificate.delta).max_violation) == 0


def test_float32_input_is_judged_in_float64(uniform: Draw, normal: Draw) -> None:
    x, g, delta = uniform(*SHAPE).float(), normal(*SHAPE).float(), (0.01 * normal(*SHAPE)).float()
    narrow = solvers.certify(LinearProblem(g, x, [TILES, Box()]), delta)
    wide = solvers.certify(LinearProblem(g.double(), x.double(), [TILES, Box()]), delta.double())
    for name in ("objective", "bound", "rel_gap", "max_violation", "delta"):
        assert getattr(narrow, name).dtype == torch.float64
        assert torch.equal(getattr(narrow, name), getattr(wide, name))


def test_a_projection_is_bounded_from_below_and_closes_at_the_nearest_point(uniform: Draw, normal: Draw) -> None:
    x, point = uniform(*SHAPE), normal(*SHAPE)
    problem = ProjectionProblem(point, x, [LpBall(2, 1.0)])
    size = float(point.norm())
    nearest = point / size
    certificate = solvers.certify(problem, nearest, [point - nearest])
    assert float(certificate.objective) == pytest.approx(0.5 * (size - 1) ** 2, rel=1e-12)
    assert float(certificate.bound) == pytest.approx(0.5 * (size - 1) ** 2, rel=1e-12)
    inside = solvers.certify(ProjectionProblem(0.5 * nearest, x, [LpBall(2, 1.0)]), 0.5 * nearest)
    assert inside.objective.tolist() == inside.bound.tolist() == inside.rel_gap.tolist() == [0.0]


def test_an_unbounded_problem_has_an_infinite_gap_not_nan(normal: Draw) -> None:
    x = 0.5 * torch.ones(SHAPE, dtype=torch.float64)
    part = LinearProblem(normal(*SHAPE), x, [FeatureBall(1.0, JACOBIAN), LpBall(2, 1.0)])
    lone = part._replace(reference=x, vector=part.gradient, constraints=part.constraints[:1], defects={})
    certificate = solvers.certify(lone, torch.zeros(SHAPE))
    assert certificate.bound.tolist() == [math.inf]
    assert certificate.rel_gap.tolist() == [math.inf]


def test_images_are_certified_independently(uniform: Draw, normal: Draw) -> None:
    x, g, delta = uniform(3, 1, 8, 9), normal(3, 1, 8, 9), 0.1 * normal(3, 1, 8, 9)
    sets: list[Constraint] = [OVERLAP, Box(), PRESERVE]
    whole = solvers.certify(LinearProblem(g, x, sets), delta)
    for k in range(3):
        part = slice(k, k + 1)
        single = solvers.certify(LinearProblem(g[part], x[part], sets), delta[part])
        for name in ("objective", "bound", "max_violation"):
            np.testing.assert_allclose(getattr(whole, name)[part], getattr(single, name), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_certificate_is_of_the_problems_kind_whatever_the_points(dtype: torch.dtype) -> None:
    """Numpy for numpy, tensors for tensors, with the same numbers."""
    generator = torch.Generator().manual_seed(2)
    g, x = torch.randn(3, *SHAPE[1:], generator=generator).to(dtype), torch.rand(3, *SHAPE[1:]).to(dtype)
    d, sets = 0.1 * torch.randn(3, *SHAPE[1:], generator=generator, dtype=torch.float64), [LpBall(2, 0.7), Box()]
    of_arrays, of_tensors = LinearProblem(g.numpy(), x.numpy(), sets), LinearProblem(g, x, sets)
    expected = solvers.certify(of_tensors, d)
    for point in (d, d.numpy()):
        for dual in (None, [g, None], [g.numpy(), None]):
            arrays, tensors = solvers.certify(of_arrays, point, dual), solvers.certify(of_tensors, point, dual)
            for name in ("objective", "bound", "rel_gap", "max_violation", "delta", "gap"):
                array, tensor = getattr(arrays, name), getattr(tensors, name)
                assert isinstance(array, np.ndarray)
                assert isinstance(tensor, Tensor)
                assert (array.dtype, tensor.dtype) == (np.float64, torch.float64)
                np.testing.assert_array_equal(array, tensor.numpy())
            np.testing.assert_array_equal(arrays.objective, expected.objective.numpy())


def test_a_gap_closes_within_either_tolerance_in_both_kinds() -> None:
    """``gap <= eps_abs + eps_rel max(|objective|, |bound|)``, by hand: gaps of 1, 0.5 and 0 at sizes 10, 1 and 0."""
    objective, bound = np.array([9.0, -1.0, 0.0]), np.array([10.0, -0.5, 0.0])
    for convert in (np.asarray, torch.as_tensor):
        values = [convert(value) for value in (objective, bound, np.array([0.1, 0.5, 0.0]))]
        certificate = solvers.Certificate(*values, max_violation=values[2], delta=values[2])
        assert certificate.gap.tolist() == [1.0, 0.5, 0.0]
        for eps_abs, eps_rel, closed in (
            (0, 0.1, [True, False, True]),
            (0, 0.099, [False, False, True]),
            (0.5, 0, [False, True, True]),
            (0.5, 0.05, [True, True, True]),
        ):
            answer = certificate.closes(eps_abs, eps_rel)
            assert type(answer) is type(certificate.gap)
            assert answer.tolist() == closed


def test_shapes_that_do_not_fit_are_refused(uniform: Draw) -> None:
    problem = LinearProblem(uniform(*SHAPE), uniform(*SHAPE), [TILES, Box()])
    with pytest.raises(ProblemError, match=r"delta has shape \(1, 1, 8, 8\), the problem's images \(1, 1, 8, 9\)"):
        solvers.certify(problem, torch.zeros(1, 1, 8, 8))
    with pytest.raises(ProblemError, match="dual has 1 blocks, the problem 2 constraints; give one each, or None"):
        solvers.certify(problem, torch.zeros(SHAPE), [None])


KEPT_MEANS: dict[str, Constraint] = {
    "global": GlobalSSIM(0.2),
    "windows": PRESERVE,
    "mean index": MeanSSIM(0.9, Window.uniform(4, stride=4), luminance="preserve"),
    "intersection": solvers.Intersection([GlobalSSIM(0.2), LpBall(2, 1.0)]),
}


@pytest.mark.parametrize("kept", KEPT_MEANS)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_means_are_kept_after_other_sets_have_moved_the_point(
    kept: str, first: bool, uniform: Draw, normal: Draw
) -> None:
    """Else the mean is wrong by more than its tolerance, and nothing but d = 0 is left."""
    sets = [KEPT_MEANS[kept], OVERLAP if kept != "mean index" else Box()]
    problem = LinearProblem(normal(*SHAPE), uniform(*SHAPE), sets if first else sets[::-1])
    certificate = solvers.certify(problem, normal(*SHAPE))
    assert float(certificate.delta.abs().max()) > 1e-3
    assert float(solvers.certify(problem, certificate.delta).max_violation) == 0


@pytest.mark.parametrize("kept", KEPT_MEANS)
def test_a_point_in_single_precision_that_keeps_means_stays(kept: str, uniform: Draw, normal: Draw) -> None:
    certifier = Certifier(LinearProblem(normal(*SHAPE), uniform(*SHAPE), [KEPT_MEANS[kept], Box()]))
    point = certifier.repair(normal(*SHAPE))
    moved = certifier.moved_inside(point, torch.float32)
    assert float(moved.abs().max()) > 1e-3
    assert torch.equal(moved, moved.float().double())
    difference = (moved - point).abs()
    assert bool((difference <= 2.0**-23 * point.abs()).all())
    assert bool((moved.abs() <= point.abs()).all())


def test_a_point_that_no_step_brings_inside_becomes_zero(uniform: Draw, normal: Draw) -> None:
    certifier = Certifier(LinearProblem(normal(2, 1, 8, 9), uniform(2, 1, 8, 9), [LpBall(2, 1.0)]))
    point = normal(2, 1, 8, 9)
    point[0] *= 1.5 / point[0].norm()  # no step shortens by a third
    point[1] *= 0.5 / point[1].norm()
    moved = certifier.moved_inside(point)
    assert float(moved[0].abs().max()) == 0
    assert torch.equal(moved[1], point[1])
    single = certifier.moved_inside(point, torch.float32)
    assert float(single[0].abs().max()) == 0
    assert float(single[1].abs().max()) > 0


@pytest.mark.parametrize("shape", [(1, 1, 1, 9), (1, 1, 9, 1)], ids=["one row", "one column"])
def test_an_image_of_one_row_or_column_is_certified(shape: tuple[int, ...], uniform: Draw, normal: Draw) -> None:
    x, g = uniform(*shape), normal(*shape)
    problem = LinearProblem(g, x, [LpBall(2, 0.1), Box(0, 1)])
    result = solvers.solve(problem)
    certificate = solvers.certify(problem, 2 * result.delta, result.dual)  # outside: brought back by its scale
    assert float(certificate.objective[0]) == pytest.approx(float(result.objective[0]))
    assert float(certificate.bound[0]) >= float(result.objective[0])
    assert float(certificate.rel_gap[0]) < 1e-6
