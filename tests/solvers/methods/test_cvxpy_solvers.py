"""CVXPY methods: duals mapped back so that our certificate confirms them, limits kept, failures told, never raised."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cvxpy as cp
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
    MethodError,
    ProjectionProblem,
    Settings,
    Status,
    Support,
    Window,
    WindowSSIM,
)
from tests.solvers import oracles
from tests.solvers.conftest import Photos

Draw = Callable[..., Tensor]
TIGHT = {"eps_rel": 1e-7}
SHAPE = (1, 2, 9, 10)
TILES = WindowSSIM(0.9, Window.uniform(4, stride=4))

# 30 problems (windows, side, channels, how many).
REAL = {
    "tiles at 32": (Window.uniform(8, stride=8), 32, 3, 5),
    "tiles at 64": (Window.uniform(8, stride=8), 64, 3, 5),
    "stride 4 at 32": (Window.uniform(7, stride=4), 32, 3, 7),
    "stride 4 at 64": (Window.uniform(7, stride=4), 64, 3, 5),
    "stride 1 at 32, grey": (Window.uniform(7, stride=1), 32, 1, 5),
    "stride 1 at 32": (Window.uniform(7, stride=1), 32, 3, 2),
    "Gaussian stride 1 at 32, grey": (Window.gaussian(1.5, 11, stride=1), 32, 1, 1),
}


def agrees_with_oracle(result: solvers.SolveResult, problem: solvers.Problem, tolerance: float = 1e-6) -> None:
    linear = isinstance(problem, LinearProblem)
    for k in range(problem.batch):
        value, _ = oracles.optimum(
            problem.vector[k].numpy(), problem.reference[k].numpy(), problem.constraints, linear=linear
        )
        assert float(result.objective[k]) == pytest.approx(value, rel=tolerance, abs=1e-9)
        assert float(result.bound[k]) == pytest.approx(value, rel=tolerance, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_every_optimum_on_real_gradients_is_certified_to_1e_6(name: str, photos: Photos) -> None:
    window, size, channels, count = REAL[name]
    for k, crop in enumerate(photos.random_crops(count, size, seed=100 + size + channels, channels=channels)):
        constraint = WindowSSIM((0.95, 0.9, 0.99, 0.8)[k % 4], window, luminance=("split", 1e-3)[k % 2])
        problem = LinearProblem(crop.gradient, crop.reference, [constraint, Box()])
        result = solvers.solve(problem, "cvxpy:clarabel", TIGHT)
        assert result.all_optimal, result.messages
        assert float(result.rel_gap[0]) <= 1e-6
        assert float(result.max_violation[0]) < 1e-9
        if window.stride == window.size:
            tiles = solvers.solve(problem, "tiles")
            assert float(tiles.objective[0]) == pytest.approx(float(result.objective[0]), rel=1e-7)


COMBINATIONS: dict[str, list[Constraint]] = {
    "l1 box": [LpBall(1, 3.0), Box()],
    "l2": [LpBall(2, 1.0)],
    "linf l1": [LpBall(math.inf, 0.1), LpBall(1, 3.0)],
    "global box": [GlobalSSIM(0.1), Box()],
    "tiles": [TILES],
    "overlap support": [
        WindowSSIM(0.9, Window.gaussian(1.5, 7, stride=3), luminance="split"),
        Support(torch.arange(90).reshape(9, 10) % 4 > 0),
        Box(),
    ],
    "preserve": [WindowSSIM(0.9, Window.uniform(5, stride=2), luminance="preserve"), Box()],
    "valid": [WindowSSIM(0.9, Window.uniform(4, stride=3, border="valid"), sample_covariance=True), Box()],
    "many": [TILES, GlobalSSIM(0.2), LpBall(2, 2.0), LpBall(1, 5.0), Box()],
}


@pytest.mark.parametrize("linear", [True, False], ids=["linear", "projection"])
@pytest.mark.parametrize("name", COMBINATIONS)
def test_combinations_agree_with_a_statement_of_our_own(name: str, linear: bool, uniform: Draw, normal: Draw) -> None:
    x, vector = uniform(2, *SHAPE[1:]), normal(2, *SHAPE[1:])
    x[1, :, :4, :4] = 0.0
    kind = LinearProblem if linear else ProjectionProblem
    problem = kind(vector if linear else 0.2 * vector, x, COMBINATIONS[name])
    result = solvers.solve(problem, "cvxpy:clarabel", TIGHT)
    assert result.all_optimal, result.messages
    assert all(count > 0 for count in result.iterations)
    agrees_with_oracle(result, problem)


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1e6])
def test_the_scale_of_the_gradient_does_not_matter(scale: float, uniform: Draw, normal: Draw) -> None:
    x, g = uniform(*SHAPE), normal(*SHAPE)
    result = solvers.solve(LinearProblem(scale * g, x, [TILES, Box()]), "cvxpy:clarabel", TIGHT | {"eps_abs": 1e-300})
    assert result.all_optimal
    value, _ = oracles.optimum(g[0].numpy(), x[0].numpy(), [TILES, Box()])
    assert float(result.objective[0]) == pytest.approx(scale * value, rel=1e-6)


def test_scs_reaches_what_it_is_asked_for(uniform: Draw, normal: Draw) -> None:
    problem = LinearProblem(normal(*SHAPE), uniform(*SHAPE), [TILES, Box()])
    result = solvers.solve(problem, "cvxpy:scs", {"eps_rel": 1e-4, "max_iter": 50_000})
    assert result.all_optimal
    agrees_with_oracle(result, problem, tolerance=2e-4)


def feature_ball(normal: Draw, radius: float | Tensor = 0.5) -> tuple[FeatureBall, Tensor]:
    matrix = normal(4, 180)
    operator = LinearOperator(
        lambda v: v.flatten(1) @ matrix.T.to(v.dtype), lambda u: (u @ matrix.to(u.dtype)).reshape(-1, *SHAPE[1:])
    )
    return FeatureBall(radius, operator), matrix


@pytest.mark.parametrize("linear", [True, False], ids=["linear", "projection"])
def test_a_feature_ball_agrees_with_its_matrix_written_out(linear: bool, uniform: Draw, normal: Draw) -> None:
    x, vector = uniform(2, *SHAPE[1:]), normal(2, *SHAPE[1:])
    radius = torch.tensor([0.25, 0.5], dtype=torch.float64)
    ball, matrix = feature_ball(normal, radius)
    kind = LinearProblem if linear else ProjectionProblem
    result = solvers.solve(kind(vector, x, [ball, Box()]), "cvxpy:clarabel", TIGHT)
    assert result.all_optimal
    for k in range(2):
        d, flat, v = cp.Variable(180), x[k].numpy().reshape(-1), vector[k].numpy().reshape(-1)
        goal = cp.Maximize(v @ d) if linear else cp.Minimize(0.5 * cp.sum_squares(d - v))
        problem = cp.Problem(goal, [cp.norm(matrix.numpy() @ d) <= float(radius[k]), d >= -flat, d <= 1 - flat])
        problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        assert float(result.objective[k]) == pytest.approx(problem.value, rel=1e-6)
        assert float(result.bound[k]) == pytest.approx(problem.value, rel=1e-6)


def test_a_problem_beyond_the_stated_size_is_refused_with_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_late(*arguments: object, **options: object) -> None:
        raise AssertionError("a conic problem is being built")

    monkeypatch.setattr(cp, "Variable", too_late)
    x = torch.full((1, 3, 224, 224), 0.5)
    problem = LinearProblem(x, x, [WindowSSIM(0.95), Box()])
    with pytest.raises(MethodError, match=r"'cvxpy:clarabel' .* about 22,\d{3},\d{3} non-zeros .* GB.*force=True"):
        solvers.solve(problem, "cvxpy:clarabel")
    with pytest.raises(MethodError, match=r"'cvxpy:scs' .* more than 12,000,000"):
        solvers.solve(problem, "cvxpy:scs")


def test_force_runs_it_all_the_same(uniform: Draw, normal: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    from solvers.methods import cvxpy_solvers

    monkeypatch.setitem(cvxpy_solvers.LIMITS, "clarabel", 100)
    problem = LinearProblem(normal(*SHAPE), uniform(*SHAPE), [TILES, Box()])
    with pytest.raises(MethodError, match="more than 100"):
        solvers.solve(problem, "cvxpy:clarabel")
    assert solvers.solve(problem, "cvxpy:clarabel", Settings(force=True)).all_optimal


def test_any_installed_solver_goes_by_its_name(uniform: Draw, normal: Draw) -> None:
    problem = LinearProblem(normal(*SHAPE), uniform(*SHAPE), [LpBall(1, 3.0), Box()])
    exact = solvers.solve(problem, "closed_form")
    # A linear program: every conic and LP solver of CVXPY's takes it.
    for name in cp.installed_solvers():
        result = solvers.solve(problem, f"cvxpy:{name.lower()}", {"eps_rel": 4e-2, "max_iter": 20_000})
        assert result.method == f"cvxpy:{name.lower()}"
        assert result.all_optimal, (name, result.messages)
        assert float(result.objective[0]) == pytest.approx(float(exact.objective[0]), rel=4e-2)
    assert solvers.solve(problem, "cvxpy:CLARABEL").all_optimal


def test_a_solver_that_is_not_installed_is_refused_with_those_that_are(uniform: Draw) -> None:
    problem = LinearProblem(uniform(*SHAPE), uniform(*SHAPE), [LpBall(1, 3.0), Box()])
    with pytest.raises(MethodError, match=r"'cvxpy:nosuch' is not available: .*'nosuch'; installed: .*clarabel"):
        solvers.solve(problem, "cvxpy:nosuch")


@pytest.mark.parametrize("solver", ["clarabel", "scs"])
def test_an_iteration_limit_is_a_status_with_the_solvers_word(solver: str, uniform: Draw, normal: Draw) -> None:
    problem = LinearProblem(normal(*SHAPE), uniform(*SHAPE), [TILES, Box()])
    result = solvers.solve(problem, f"cvxpy:{solver}", {"max_iter": 5, "eps_rel": 1e-6})
    assert result.status == (Status.MAX_ITER,)
    assert result.messages[0].startswith(f"{solver}: ")
    assert result.status[0].has_solution
    assert float(result.max_violation[0]) < 1e-9
    assert float(result.rel_gap[0]) > 1e-6
    assert 0 < result.iterations[0] <= 5


@pytest.mark.parametrize("solver", ["clarabel", "scs"])
def test_a_time_limit_is_a_status(solver: str, uniform: Draw, normal: Draw) -> None:
    problem = LinearProblem(normal(2, *SHAPE[1:]), uniform(2, *SHAPE[1:]), [TILES, Box()])
    result = solvers.solve(problem, f"cvxpy:{solver}", {"time_limit": 1e-6})
    assert result.status == (Status.TIME_LIMIT,) * 2
    assert all("time limit" in message for message in result.messages)
    assert bool((torch.as_tensor(result.bound) >= torch.as_tensor(result.objective)).all())


def test_a_solver_that_cannot_take_the_cones_says_so_in_its_word(uniform: Draw, normal: Draw) -> None:
    problem = LinearProblem(normal(*SHAPE), uniform(*SHAPE), [TILES, Box()])
    result = solvers.solve(problem, "cvxpy:osqp" if "OSQP" in cp.installed_solvers() else "cvxpy:scipy")
    assert result.status == (Status.NUMERICAL_ERROR,)
    assert "cannot solve this problem" in result.messages[0]
    assert float(torch.as_tensor(result.delta).abs().max()) == 0


class Panic(BaseException):
    """What a panic in Rust looks like from Python."""


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (cp.error.SolverError("Solver 'CLARABEL' failed.\nTry another."), "clarabel: Solver 'CLARABEL' failed."),
        (MemoryError(), "clarabel: MemoryError"),
        (ZeroDivisionError("division by zero"), "clarabel: division by zero"),
        (KeyError("tol"), "clarabel: 'tol'"),
        (Panic("index out of bounds"), "clarabel: index out of bounds"),
    ],
)
def test_whatever_a_solver_raises_becomes_a_status(
    error: BaseException, word: str, uniform: Draw, normal: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = cp.Problem.solve, []

    def second_fails(problem: cp.Problem, *args: Any, **kwargs: Any) -> Any:
        calls.append(problem)
        if len(calls) == 2:
            raise error
        return real(problem, *args, **kwargs)

    monkeypatch.setattr(cp.Problem, "solve", second_fails)
    problem = LinearProblem(normal(3, *SHAPE[1:]), uniform(3, *SHAPE[1:]), [TILES, Box()])
    result = solvers.solve(problem, "cvxpy:clarabel", TIGHT)
    assert result.status == (Status.OPTIMAL, Status.NUMERICAL_ERROR, Status.OPTIMAL)
    assert result.messages[1].startswith(word)
    # The image without an answer has a feasible point and the trivial bound; the others are untouched.
    assert float(torch.as_tensor(result.delta)[1].abs().max()) == 0
    assert bool(torch.as_tensor(result.bound).isfinite().all())


def test_an_interrupt_is_not_swallowed(uniform: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cp.Problem, "solve", interrupt)
    with pytest.raises(KeyboardInterrupt):
        solvers.solve(LinearProblem(uniform(*SHAPE), uniform(*SHAPE), [TILES]), "cvxpy:clarabel")


@pytest.mark.parametrize(
    ("word", "status"),
    [
        (cp.INFEASIBLE, Status.NUMERICAL_ERROR),
        (cp.UNBOUNDED, Status.NUMERICAL_ERROR),
        (cp.USER_LIMIT, Status.MAX_ITER),
        ("solver_error", Status.NUMERICAL_ERROR),
    ],
)
def test_a_solvers_own_verdict_is_passed_on(
    word: str, status: Status, uniform: Draw, normal: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cp.Problem, "solve", lambda *args, **kwargs: None)
    monkeypatch.setattr(cp.Problem, "status", word)
    problem = LinearProblem(normal(*SHAPE), uniform(*SHAPE), [TILES, LpBall(2, 1.0), Box()])
    result = solvers.solve(problem, "cvxpy:clarabel")
    assert result.status == (status,)
    assert result.messages == (f"clarabel: {word}",)


def test_an_answer_far_from_optimal_is_exposed(uniform: Draw, normal: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cp.Problem.solve

    def careless(problem: cp.Problem, *args: Any, **kwargs: Any) -> Any:
        value = real(problem, *args, **kwargs)
        for variable in problem.variables():
            variable.value = 0.5 * np.asarray(variable.value)
        return value

    monkeypatch.setattr(cp.Problem, "solve", careless)
    result = solvers.solve(LinearProblem(normal(*SHAPE), uniform(*SHAPE), [TILES, Box()]), "cvxpy:clarabel")
    assert result.status == (Status.NUMERICAL_ERROR,)
    assert "the certified gap is" in result.messages[0]


def test_float32_problems_are_posed_in_float64(uniform: Draw, normal: Draw) -> None:
    g, x = normal(*SHAPE).float(), uniform(*SHAPE).float()
    result = solvers.solve(LinearProblem(g, x, [TILES, Box()]), "cvxpy:clarabel", TIGHT)
    assert torch.as_tensor(result.delta).dtype == torch.float32
    agrees_with_oracle(result, LinearProblem(g.double(), x.double(), [TILES, Box()]))


def test_the_callback_sees_every_image_and_may_stop_the_rest() -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(3, 1, 8, 8, generator=generator, dtype=torch.float64)
    g = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    problem = solvers.LinearProblem(g, x, [solvers.LpBall(2, 0.5), solvers.Box()])
    seen: list[solvers.Progress] = []

    def stop_after_two(progress: solvers.Progress) -> bool:
        seen.append(progress)
        return len(seen) == 2

    settings = solvers.Settings(eps_rel=1e-6, callback=stop_after_two)
    result = solvers.solve(problem, method="cvxpy:clarabel", settings=settings)
    assert [status.name for status in result.status] == ["OPTIMAL", "OPTIMAL", "STOPPED"]
    assert [int(progress.rel_gap.isnan().sum()) for progress in seen] == [2, 1]
    assert torch.as_tensor(result.delta)[2].abs().max() == 0
    assert float(result.bound[2]) > float(result.objective[2]) == 0.0
