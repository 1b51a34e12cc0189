"""Batched L-BFGS in step with torch's, image by image; boxes; endings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssimpert.perturbation.perceptual_ball.curvature_pairs import CurvaturePairs
from ssimpert.perturbation.perceptual_ball.lbfgs import (
    Bounds,
    Evaluate,
    LBFGSSettings,
    LBFGSState,
    descend,
    start,
)

Function = Callable[[Tensor], Tensor]


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum() / 50


def quadratic(x: Tensor) -> Tensor:
    return (torch.linspace(1, 30, len(x), dtype=x.dtype) * x * x).sum() / 2 - x.sum()


def torchs(function: Function, point: Tensor, iterations: int, history_size: int) -> tuple[Tensor, int]:
    """The iterate that torch.optim.LBFGS ends with, and its steps begun."""
    parameter = point.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([parameter], max_iter=iterations, history_size=history_size)

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = function(parameter)
        value.backward()
        return value

    optimiser.step(closure)  # type: ignore[arg-type]
    return parameter.detach(), optimiser.state[parameter]["n_iter"]


class Counted:
    """A function of one point as an ``Evaluate`` on a batch, which remembers the problems it was asked for."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.asked: list[int] = []

    def __call__(self, points: Tensor, problems: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.asked += problems.tolist()
        leaf = points.clone().requires_grad_()
        value = torch.stack([self.function(point) for point in leaf])
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient, value.detach()[:, None]


def ours(evaluate: Evaluate, points: Tensor, settings: LBFGSSettings, bounds: Bounds | None = None) -> LBFGSState:
    state = start(evaluate, points, settings, bounds)
    for _ in descend(evaluate, state, settings, bounds=bounds):
        pass
    return state


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("function", [rosenbrock, quadratic])
@pytest.mark.parametrize("history_size", [3, 100])
def test_iterates_are_those_of_torch(function: Function, history_size: int) -> None:
    point = 0.8 + 0.1 * normal(7)
    for iterations in (1, 2, 3, 4, 9, 15, 60):
        expected, begun = torchs(function, point, iterations, history_size)
        settings = LBFGSSettings(iterations, history_size, max_evaluations=iterations * 5 // 4)
        state = ours(Counted(function), point[None], settings)
        torch.testing.assert_close(state.points[0], expected, rtol=1e-6, atol=1e-6)
        assert int(state.steps) in (begun, begun - 1)  # torch counts an iteration that ends before its step


def test_a_batch_takes_the_steps_of_its_problems_alone() -> None:
    points = torch.cat([0.8 + 0.1 * normal(3, 5), torch.ones(1, 5, dtype=torch.float64) * 1.01])
    settings = LBFGSSettings(25, 4, line_search="backtracking")
    together = ours(Counted(rosenbrock), points, settings)
    for k in range(4):
        alone = ours(Counted(rosenbrock), points[k : k + 1], settings)
        torch.testing.assert_close(together.points[k], alone.points[0], rtol=1e-9, atol=1e-9)
        assert together.evaluations[k] == alone.evaluations[0]
        assert together.messages[k] == alone.messages[0]


def test_a_problem_that_is_done_is_neither_evaluated_nor_moved() -> None:
    evaluate, settings = Counted(quadratic), LBFGSSettings(40, 5)
    easy = torch.linspace(1, 30, 6, dtype=torch.float64).reciprocal()  # the minimum
    points = torch.stack([easy + 1e-6, normal(6), easy])
    state = start(evaluate, points, settings)
    seen: dict[int, Tensor] = {}
    for reached in descend(evaluate, state, settings):
        for k in (~reached.active).nonzero()[:, 0].tolist():
            seen.setdefault(k, reached.points[k].clone())
    assert evaluate.asked.count(2) == 1
    assert torch.equal(state.points[2], easy)
    assert evaluate.asked.count(0) < evaluate.asked.count(1)
    assert [evaluate.asked.count(k) for k in range(3)] == state.evaluations.tolist()
    assert all(torch.equal(state.points[k], point) for k, point in seen.items())
    assert all(state.messages)


def test_projection_ends_at_the_minimum_within_the_box() -> None:
    lower, upper = torch.full((1, 8), 0.0, dtype=torch.float64), torch.full((1, 8), 0.2, dtype=torch.float64)
    curvature = torch.linspace(1, 30, 8, dtype=torch.float64)
    settings = LBFGSSettings(80, 10, line_search="backtracking")
    evaluate, inside = Counted(quadratic), []

    def watched(points: Tensor, problems: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inside.append(bool(((points >= lower) & (points <= upper)).all()))
        return evaluate(points, problems)

    state = ours(watched, normal(2, 8), settings, Bounds(lower, upper))
    # The quadratic is separable: its minimum in a box is its minimum, clipped.
    torch.testing.assert_close(state.points, (1 / curvature).clamp(0, 0.2).expand(2, 8), rtol=0, atol=1e-6)
    assert all(inside)


def test_backtracking_lowers_the_value_at_every_step_where_full_steps_do_not() -> None:
    def steep(x: Tensor) -> Tensor:
        return (1 + x.square()).sqrt().sum() + 5 * (3 * x).cos().sum()

    values: dict[str, list[float]] = {}
    for line_search in ("none", "backtracking"):
        settings = LBFGSSettings(30, 5, line_search=line_search)  # type: ignore[arg-type]
        evaluate = Counted(steep)
        state = start(evaluate, 4 * normal(1, 6), settings)
        values[line_search] = [float(state.value)]
        values[line_search] += [float(reached.value) for reached in descend(evaluate, state, settings)]
    assert values["backtracking"] == sorted(values["backtracking"], reverse=True)
    assert values["none"] != sorted(values["none"], reverse=True)


def test_nan_stops_a_problem_at_its_best_iterate_and_leaves_the_others() -> None:
    def broken(x: Tensor) -> Tensor:
        return torch.where((x[0] > 1.05) & (x[1] < 0.2), torch.nan, quadratic(x))

    settings = LBFGSSettings(40, 5)
    evaluate = Counted(broken)
    points = torch.stack([torch.full((4,), 1.5, dtype=torch.float64), torch.full((4,), 1.2, dtype=torch.float64)])
    points[1, 0] = 1.0  # its minimum along this axis: it never comes where the function is broken
    state = start(evaluate, points, settings)
    values = [float(state.value[0])] + [float(reached.value[0]) for reached in descend(evaluate, state, settings)]
    assert bool(state.failed[0])
    assert "NaN" in state.messages[0]
    assert len(values) > 2
    assert float(state.best_value[0]) == min(values) == float(quadratic(state.best_points[0]))
    assert float(state.best_notes[0, 0]) == float(state.best_value[0])
    assert not state.failed[1]


def test_backtracking_walks_around_nan() -> None:
    def walled(x: Tensor) -> Tensor:
        return torch.where(x.abs().amax() > 2, torch.nan, 1e-3 * quadratic(x))

    state = ours(Counted(walled), 1.9 * torch.ones(1, 4, dtype=torch.float64), LBFGSSettings(60, 5, "backtracking"))
    assert float(state.value) < -5e-4
    assert not state.failed.any()


def test_an_objective_that_hardly_falls_ends_the_problem() -> None:
    settings = LBFGSSettings(60, 10, relative_change=1e-2)
    state = ours(Counted(lambda x: 100 + quadratic(x)), normal(1, 6), settings)
    assert state.messages == ["the objective hardly falls any more"]
    assert int(state.steps) == 6


def test_pairs_without_curvature_are_left_out_and_the_oldest_makes_room() -> None:
    like = torch.zeros(1, 3, dtype=torch.float64)
    pairs, one = CurvaturePairs.none_yet(2, like), torch.tensor([0])
    pairs.add(one, normal(1, 3), -normal(1, 3))
    assert int(pairs.count) == 0
    curvature = torch.tensor([[1.0, 2.0, 5.0]], dtype=torch.float64)
    for axis in range(3):  # a quadratic's pairs along three axes: the first is forgotten
        move = torch.eye(3, dtype=torch.float64)[axis : axis + 1]
        pairs.add(one, move, curvature * move)
    expected = -torch.tensor([[1 / 5, 1 / 2, 1 / 5]], dtype=torch.float64)
    torch.testing.assert_close(pairs.times_negative(torch.ones_like(like), one), expected)


def test_dropped_pairs_count_no_more_beside_a_problem_that_keeps_its_own() -> None:
    like = torch.zeros(2, 3, dtype=torch.float64)
    pairs, both = CurvaturePairs.none_yet(2, like), torch.tensor([0, 1])
    move = normal(2, 3)
    pairs.add(both, move, 3 * move)
    pairs.drop(torch.tensor([1]))
    direction = pairs.times_negative(torch.ones_like(like), both)
    torch.testing.assert_close(direction, torch.tensor([[-1 / 3], [-1.0]], dtype=torch.float64).expand(2, 3))
