"""``solve``: it chooses, refuses with help, certifies whoever answers, and shows how it went."""

from __future__ import annotations

import time
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
    History,
    HistoryRow,
    LinearProblem,
    LpBall,
    MethodError,
    MethodOutput,
    Problem,
    ProblemError,
    ProjectionProblem,
    Settings,
    SolveResult,
    Status,
    Window,
    WindowSSIM,
    registry,
)
from solvers.methods import cvxpy_solvers

Draw = Callable[..., Tensor]
Register = Callable[[str], str]
SHAPE = (2, 1, 9, 10)
TILES = WindowSSIM(0.9, Window.uniform(4, stride=4))
OVERLAP = WindowSSIM(0.9, Window.uniform(4, stride=2))


@pytest.fixture
def make(uniform: Draw, normal: Draw) -> Callable[..., LinearProblem]:
    def pose(*sets: Constraint) -> LinearProblem:
        return LinearProblem(normal(*SHAPE), uniform(*SHAPE), list(sets))

    return pose


@pytest.mark.parametrize(
    ("sets", "method"),
    [
        ([LpBall(2, 1.0)], "closed_form"),
        ([GlobalSSIM(0.1), Box()], "closed_form"),
        ([Box()], "closed_form"),
        ([TILES, Box()], "tiles"),
        ([OVERLAP, Box()], "dual"),
        ([TILES, LpBall(1, 1.0)], "cvxpy:clarabel"),
    ],
)
def test_auto_takes_the_exact_method_where_there_is_one_and_says_which(
    sets: list[Constraint], method: str, make: Callable[..., LinearProblem]
) -> None:
    result = solvers.solve(make(*sets))
    assert result.method == method
    assert result.all_optimal
    assert solvers.solve(make(*sets), "auto").method == method


def test_auto_without_any_method_says_what_hinders_each(
    make: Callable[..., LinearProblem], monkeypatch: pytest.MonkeyPatch
) -> None:
    from solvers import registry

    kept = {name: info for name, info in registry._METHODS.items() if name in ("closed_form", "tiles")}
    monkeypatch.setattr(registry, "_METHODS", kept)
    with pytest.raises(
        MethodError,
        match=r"no method takes this problem: closed_form can't take WindowSSIM; .*tiles needs windows that don't",
    ):
        solvers.solve(make(OVERLAP, Box()))


def test_an_incapable_method_names_those_that_can(make: Callable[..., LinearProblem]) -> None:
    with pytest.raises(MethodError, match=r"'closed_form' can't take WindowSSIM; methods that can: .*tiles"):
        solvers.solve(make(TILES, Box()), "closed_form")
    with pytest.raises(MethodError, match=r"'tiles' needs windows that don't overlap, got size 4 at stride 2; .*cvxpy"):
        solvers.solve(make(OVERLAP, Box()), "tiles")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tile", "did you mean tiles"),
        ("closedform", "did you mean closed_form"),
        ("cvxpy-clarabel", "did you mean cvxpy:clarabel"),
        ("zzz", "known: auto, "),
        ("cvxpy:", "unknown method 'cvxpy:'"),
    ],
)
def test_an_unknown_method_is_met_with_near_matches(name: str, hint: str, make: Callable[..., LinearProblem]) -> None:
    with pytest.raises(MethodError, match=rf"unknown method '{name}'") as caught:
        solvers.solve(make(LpBall(2, 1.0)), name)
    assert hint in str(caught.value)


def test_only_problems_are_solved() -> None:
    with pytest.raises(ProblemError, match="takes a LinearProblem or ProjectionProblem, got list"):
        solvers.solve([1, 2])  # type: ignore[arg-type]


def test_a_users_method_in_ten_lines_is_certified_like_ours(
    make: Callable[..., LinearProblem], registered: Register
) -> None:
    @solvers.register_method(registered("ascent"), problems=(LinearProblem,), required={"LpBall"}, optional={"Box"})
    def ascent(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
        """Projected gradient ascent; the multiplier of the ball is what is left of the gradient."""
        ball = problem.constraints[0].bind(problem.reference)
        delta = torch.zeros_like(problem.reference)
        for _ in range(settings.max_iter):
            projected = ball.project(delta + problem.vector)
            assert projected is not None
            delta = projected
        return MethodOutput(delta, (problem.vector, None), (Status.MAX_ITER,) * problem.batch, (10,) * problem.batch)

    problem = make(LpBall(2, 1.0), Box(-5.0, 6.0))
    result = solvers.solve(problem, "ascent", {"max_iter": 200, "eps_rel": 1e-4})
    assert result.method == "ascent"
    assert result.all_optimal  # the certificate promotes a limit that is good enough
    exact = solvers.solve(problem, "closed_form")
    np.testing.assert_allclose(result.objective, exact.objective, rtol=1e-4)
    assert [info.name for info in solvers.methods()][-1] == "ascent"
    assert solvers.methods()[-1].description.startswith("Projected gradient ascent")
    with pytest.raises(MethodError, match="'ascent' needs LpBall"):
        solvers.solve(make(Box()), "ascent")
    with pytest.raises(MethodError, match="a method named 'ascent' is registered already"):
        solvers.register_method("ascent", problems=(LinearProblem,))(ascent)
    solvers.register_method("ascent", problems=(LinearProblem,), replace=True)(ascent)
    solvers.unregister_method("ascent")
    with pytest.raises(MethodError, match="unknown method 'ascent'"):
        solvers.solve(problem, "ascent")
    with pytest.raises(MethodError, match="'auto' is registered already"):
        solvers.register_method("auto", problems=(LinearProblem,))(ascent)


def constant(answer: MethodOutput) -> Any:
    def run(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
        return answer

    return run


def test_a_method_that_lies_about_optimality_is_exposed(
    make: Callable[..., LinearProblem], registered: Register
) -> None:
    problem = make(LpBall(2, 1.0), Box())
    exact = solvers.solve(problem)
    for name, delta, dual in (
        ("lazy", torch.zeros(SHAPE, dtype=torch.float64), exact.dual),
        ("greedy", 100 * torch.as_tensor(exact.delta), (None, None)),
        ("undefined", torch.full(SHAPE, torch.nan, dtype=torch.float64), exact.dual),
        ("wrong dual", torch.as_tensor(exact.delta), tuple(None if b is None else -b for b in exact.dual)),
    ):
        output = MethodOutput(delta, dual, (Status.OPTIMAL,) * 2, (1, 1), messages=("done", ""))
        solvers.register_method(registered(name), problems=(LinearProblem,), required={"LpBall", "Box"})(
            constant(output)
        )
        result = solvers.solve(problem, name)
        assert result.status == (Status.NUMERICAL_ERROR,) * 2, name
        assert result.messages[0].startswith("done; method ended, but the certified gap is"), name
        # Even so the point is feasible and the bound valid.
        assert float(torch.as_tensor(result.max_violation).max()) < 1e-9
        assert bool((torch.as_tensor(result.bound) >= exact.objective * (1 - 1e-12)).all())


def test_a_failure_that_a_method_admits_stays_one(make: Callable[..., LinearProblem], registered: Register) -> None:
    problem = make(LpBall(2, 1.0))
    exact = solvers.solve(problem)
    output = MethodOutput(
        torch.as_tensor(exact.delta),
        exact.dual,
        (Status.INFEASIBLE, Status.TIME_LIMIT),
        (1, 1),
        messages=("no", "slow"),
    )
    solvers.register_method(registered("glum"), problems=(LinearProblem,), required={"LpBall"})(constant(output))
    result = solvers.solve(problem, "glum")
    assert result.status == (Status.INFEASIBLE, Status.OPTIMAL)
    assert result.messages == ("no", "slow")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delta": torch.zeros(2, 1, 9, 9)}, r"returned delta of shape \(2, 1, 9, 9\), expected \(2, 1, 9, 10\)"),
        ({"status": (Status.OPTIMAL,)}, "returned 1 entries of status for a batch of 2"),
        ({"iterations": (1, 2, 3)}, "returned 3 entries of iterations for a batch of 2"),
    ],
)
def test_output_that_does_not_fit_is_named(
    change: dict[str, Any], message: str, make: Callable[..., LinearProblem], registered: Register
) -> None:
    sound: dict[str, Any] = {
        "delta": torch.zeros(SHAPE),
        "dual": (None,),
        "status": (Status.OPTIMAL,) * 2,
        "iterations": (1, 1),
    }
    solvers.register_method(registered("odd"), problems=(LinearProblem,), required={"LpBall"})(
        constant(MethodOutput(**(sound | change)))
    )
    with pytest.raises(MethodError, match=f"method 'odd' {message}"):
        solvers.solve(make(LpBall(2, 1.0)), "odd")


def test_a_method_that_is_not_available_says_why(make: Callable[..., LinearProblem], registered: Register) -> None:
    solvers.register_method(
        registered("remote"), problems=(LinearProblem,), any_of={"Box"}, available=lambda: "package nosuch is missing"
    )(constant(MethodOutput(torch.zeros(SHAPE), (None,), (Status.OPTIMAL,) * 2, (1, 1))))
    with pytest.raises(MethodError, match="method 'remote' is not available: package nosuch is missing"):
        solvers.solve(make(Box()), "remote")
    assert solvers.solve(make(Box())).method == "closed_form"


def test_methods_lists_what_each_method_can_take() -> None:
    table = {info.name: info for info in solvers.methods()}
    assert {"closed_form", "tiles", "cvxpy:clarabel", "cvxpy:scs"} <= set(table)
    assert table["tiles"].exact
    assert table["tiles"].windows == "tiles"
    assert table["tiles"].required == {"WindowSSIM"}
    assert table["tiles"].problems == (LinearProblem, ProjectionProblem)
    assert not table["cvxpy:scs"].exact
    assert all(info.description and "\n" not in info.description for info in table.values())


def test_the_result_is_what_the_certificate_says(make: Callable[..., LinearProblem]) -> None:
    problem = make(TILES, Box())
    result = solvers.solve(problem)
    certificate = solvers.certify(problem, result.delta, result.dual)
    for name in ("objective", "bound", "rel_gap", "max_violation"):
        value = torch.as_tensor(getattr(result, name))
        assert value.dtype == torch.float64
        np.testing.assert_allclose(value, getattr(certificate, name), rtol=1e-12, atol=1e-14)
    assert result.iterations == (1, 1)
    assert len(result.dual) == 2
    assert result.dual[1] is None


def test_times_add_up_to_the_call(make: Callable[..., LinearProblem]) -> None:
    started = time.perf_counter()
    result = solvers.solve(make(OVERLAP, Box()))
    whole = time.perf_counter() - started
    assert result.setup_time > 0
    assert result.solve_time > 0
    assert 0.5 * whole < result.setup_time + result.solve_time <= whole


def test_the_history_has_a_row_for_each_image_and_check(
    make: Callable[..., LinearProblem], registered: Register
) -> None:
    result = solvers.solve(make(TILES, Box()))
    (row,) = result.history
    assert row.objective == tuple(torch.as_tensor(result.objective).tolist())
    table = result.history.table()
    assert [entry["image"] for entry in table] == [0, 1]
    assert set(table[0]) == {"image", "iteration", "time", "objective", "bound", "rel_gap"}
    rows = History(
        [HistoryRow(5, 0.1, (1.0, 2.0), (3.0, 4.0), (0.5, 0.6)), HistoryRow(10, 0.2, (2.0,), (3.0,), (0.3,))]
    )
    output = MethodOutput(torch.zeros(SHAPE), (None, None), (Status.STOPPED,) * 2, (10, 5), history=rows)
    solvers.register_method(registered("steps"), problems=(LinearProblem,), any_of={"WindowSSIM", "Box"})(
        constant(output)
    )
    kept = solvers.solve(make(TILES, Box()), "steps").history
    assert kept == rows
    assert [(r["image"], r["iteration"], r["bound"]) for r in kept.table()] == [(0, 5, 3.0), (1, 5, 4.0), (0, 10, 3.0)]


def test_every_status_is_optimal_a_limit_or_a_failure_and_has_a_solution_or_none() -> None:
    seen = {
        Status.OPTIMAL: (True, False, False, True),
        Status.MAX_ITER: (False, True, False, True),
        Status.TIME_LIMIT: (False, True, False, True),
        Status.STOPPED: (False, True, False, True),
        Status.INFEASIBLE: (False, False, True, False),
        Status.NUMERICAL_ERROR: (False, False, True, False),
    }
    assert set(seen) == set(Status)
    for status, expected in seen.items():
        assert (status.is_optimal, status.is_limit, status.is_failure, status.has_solution) == expected


def test_tolerances_decide_what_counts_as_optimal(make: Callable[..., LinearProblem], registered: Register) -> None:
    problem = make(LpBall(2, 1.0))
    exact = solvers.solve(problem)
    near = MethodOutput(0.99 * torch.as_tensor(exact.delta), exact.dual, (Status.MAX_ITER,) * 2, (1, 1))
    solvers.register_method(registered("near"), problems=(LinearProblem,), required={"LpBall"})(constant(near))
    gap = float(torch.as_tensor(exact.objective).max()) * 0.01
    for settings, status in (
        ({"eps_rel": 0.011, "eps_abs": 0.0}, Status.OPTIMAL),
        ({"eps_rel": 0.009, "eps_abs": 0.0}, Status.MAX_ITER),
        ({"eps_rel": 0.0, "eps_abs": 1.01 * gap}, Status.OPTIMAL),
        ({"eps_rel": 0.0, "eps_abs": 0.5 * gap}, Status.MAX_ITER),
    ):
        assert status in solvers.solve(problem, "near", settings).status
        assert solvers.solve(problem, "near", settings).rel_gap[0] == pytest.approx(0.01)


def test_a_warm_start_of_another_shape_is_refused(make: Callable[..., LinearProblem], uniform: Draw) -> None:
    problem = make(LpBall(2, 1.0))
    earlier = solvers.solve(problem)
    again = solvers.solve(problem, warm_start=earlier)
    assert torch.equal(torch.as_tensor(again.delta), torch.as_tensor(earlier.delta))
    other = ProjectionProblem(uniform(1, 1, 4, 4), uniform(1, 1, 4, 4), [LpBall(2, 1.0)])
    with pytest.raises(ProblemError, match=r"warm_start is for images \(2, 1, 9, 10\), the problem has \(1, 1, 4, 4\)"):
        solvers.solve(other, warm_start=earlier)


def test_float32_in_gives_float32_out_certified_in_float64(make: Callable[..., LinearProblem]) -> None:
    wide = make(TILES, Box())
    result = solvers.solve(wide.to(dtype=torch.float32))
    assert torch.as_tensor(result.delta).dtype == torch.float32
    assert torch.as_tensor(result.objective).dtype == torch.float64
    np.testing.assert_allclose(result.delta, solvers.solve(wide).delta, atol=1e-5)
    assert float(torch.as_tensor(result.max_violation).max()) < 1e-6


def test_auto_passes_over_a_method_for_which_the_problem_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # Two balls and a box: none of our own but the splitting methods takes them.
    problem = solvers.LinearProblem(torch.randn_like(x), x, [LpBall(1, 5.0), LpBall(2, 1.0), solvers.Box()])
    for name in ("admm", "pdhg"):
        monkeypatch.delitem(registry._METHODS, name)
    assert solvers.solve(problem).method == "cvxpy:clarabel"
    monkeypatch.setitem(cvxpy_solvers.LIMITS, "clarabel", 10)
    assert solvers.solve(problem).method == "cvxpy:scs"
    with pytest.raises(solvers.MethodError, match=r"non-zeros .*force=True.*methods that can: cvxpy:scs"):
        solvers.solve(problem, method="cvxpy:clarabel")
    monkeypatch.setitem(cvxpy_solvers.LIMITS, "scs", 10)
    with pytest.raises(solvers.MethodError, match=r"no method takes this problem: .*non-zeros"):
        solvers.solve(problem)
    assert solvers.solve(problem, settings={"force": True}).method == "cvxpy:clarabel"
