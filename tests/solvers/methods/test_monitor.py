"""The monitor: what an iterative method may rely on at every check."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import solvers
from solvers import Box, LinearProblem, LpBall, ProjectionProblem, Settings, Status, Window, WindowDual, WindowSSIM
from solvers.certificate import Certifier
from solvers.conformance import KnownOptimum, known_optimum
from solvers.constraints.dual_blocks import map_dual_block
from solvers.constraints.ssim_windows.window_dual import window_vectors
from solvers.methods.monitor import Monitor


@pytest.fixture(scope="module")
def known() -> KnownOptimum:
    return known_optimum(Window.uniform(5, stride=2), shape=(1, 25, 25), batch=3)


def zeros(problem: solvers.Problem) -> tuple[None, ...]:
    return (None,) * len(problem.constraints)


def test_best_point_and_best_dual_are_kept_apart(known: KnownOptimum) -> None:
    monitor = Monitor(known.problem, Settings(eps_rel=1e-9))
    weaker = map_dual_block(lambda part: 0.9 * part, known.dual[0])
    assert monitor.check(1, known.delta, (weaker, None))
    assert monitor.running.all()
    # A worse point with the better dual: together with the point of before it is optimal.
    assert not monitor.check(2, 0.5 * known.delta, known.dual)
    output = monitor.output()
    assert output.status == (Status.OPTIMAL,) * 3
    assert output.iterations == (2, 2, 2)
    certificate = solvers.certify(known.problem, output.delta, output.dual)
    assert float(certificate.rel_gap.max()) < 1e-9
    torch.testing.assert_close(certificate.delta, output.delta, rtol=0, atol=1e-13)
    assert [row.iteration for row in output.history] == [1, 2]


def test_projections_count_downwards() -> None:
    known = known_optimum(Window.uniform(5, stride=2), shape=(1, 25, 25), projection=True)
    monitor = Monitor(known.problem, Settings(eps_rel=1e-9))
    assert monitor.objective.item() == pytest.approx(0.5 * float(known.problem.vector.square().sum()))
    monitor.check(1, 0.9 * known.delta, known.dual)
    monitor.check(2, 0.8 * known.delta, (None, None))
    torch.testing.assert_close(monitor.delta, 0.9 * known.delta)
    assert monitor.bound.tolist() == pytest.approx(known.values)


def test_some_images_leave_the_others_alone(known: KnownOptimum) -> None:
    monitor = Monitor(known.problem, Settings(eps_rel=1e-9))
    images = torch.tensor([2, 0])
    assert monitor.check(5, known.delta[images], (known.dual[0][images], None), images)
    assert monitor.running.tolist() == [False, True, False]
    assert monitor.output().status == (Status.OPTIMAL, Status.MAX_ITER, Status.OPTIMAL)
    assert monitor.iterations == [5, 0, 5]
    assert not monitor.delta[1].any()
    image = torch.tensor([1])
    assert not monitor.check(9, known.delta[image], (known.dual[0][image], None), image)
    assert monitor.iterations == [5, 9, 5]
    assert float(solvers.certify(known.problem, monitor.delta, tuple(monitor.dual)).rel_gap.max()) < 1e-9


def test_blocks_of_either_form_are_held(known: KnownOptimum) -> None:
    bound = Certifier(known.problem).sets[0]
    vectors = window_vectors(bound.operator, known.dual[0])
    torch.testing.assert_close(bound.adjoint(vectors), bound.adjoint(known.dual[0]))
    torch.testing.assert_close(bound.dual_value(vectors), bound.dual_value(known.dual[0]))
    monitor = Monitor(known.problem, Settings(eps_rel=1e-5))
    image = torch.tensor([0])
    monitor.check(1, known.delta[image], (known.dual[0][image], None), image)
    assert isinstance(monitor.dual[0], WindowDual)
    rest = torch.tensor([1, 2])
    assert not monitor.check(2, known.delta[rest], (vectors[rest].float(), None), rest)
    assert isinstance(monitor.dual[0], Tensor)
    assert float(solvers.certify(known.problem, known.delta, tuple(monitor.dual)).rel_gap.max()) < 1e-5


def test_an_image_that_breaks_down_keeps_its_best_point(known: KnownOptimum) -> None:
    monitor = Monitor(known.problem, Settings(eps_rel=1e-9))
    assert monitor.check(1, 0.5 * known.delta, zeros(known.problem))
    broken = known.delta.clone()
    broken[1, 0, 3, 3] = math.nan
    assert not monitor.check(2, broken, known.dual)
    output = monitor.output()
    assert output.status == (Status.OPTIMAL, Status.NUMERICAL_ERROR, Status.OPTIMAL)
    torch.testing.assert_close(output.delta[1], 0.5 * known.delta[1])
    assert output.messages[1] == "iterate is not finite"
    # So does a broken dual.
    monitor = Monitor(known.problem, Settings(eps_rel=1e-9))
    block = WindowDual(known.dual[0].ball.clone(), known.dual[0].point, known.dual[0].mean)
    block.ball[0, 0, 0, 0] = math.inf
    monitor.check(1, 0.5 * known.delta, (block, None))
    assert monitor.output().status[0] is Status.NUMERICAL_ERROR


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"max_iter": 7}, Status.MAX_ITER),
        ({"time_limit": 1e-9}, Status.TIME_LIMIT),
        ({"callback": lambda progress: True}, Status.STOPPED),
    ],
)
def test_limits_and_the_callback_end_the_run(settings: dict[str, Any], status: Status, known: KnownOptimum) -> None:
    monitor = Monitor(known.problem, Settings(eps_rel=1e-9, **settings))
    monitor.setup_done()
    assert monitor.due(7) == (status is not Status.STOPPED)
    image = torch.tensor([0])
    assert not monitor.check(7, known.delta[image], (known.dual[0][image], None), image)
    # Where there is no time for the first check, it is left out.
    first = Status.OPTIMAL if monitor.settings.time_limit > 1 else status
    assert monitor.output().status == (first, status, status)
    assert not monitor.running.any()
    assert monitor.output().setup_time > 0


def test_callback_sees_the_best_so_far(known: KnownOptimum) -> None:
    seen: list[solvers.Progress] = []
    monitor = Monitor(known.problem, Settings(callback=seen.append))  # type: ignore[arg-type]
    monitor.check(25, 0.5 * known.delta, zeros(known.problem))
    monitor.check(50, 0.2 * known.delta, zeros(known.problem))
    assert [progress.iteration for progress in seen] == [25, 50]
    assert seen[1].objective.tolist() == pytest.approx([0.5 * value for value in known.values])
    assert seen[0].time <= seen[1].time


def test_verbose_prints_a_line_a_check(known: KnownOptimum, capsys: pytest.CaptureFixture[str]) -> None:
    monitor = Monitor(known.problem, Settings(verbose=True))
    for iteration in (25, 50):
        monitor.check(iteration, known.delta, zeros(known.problem))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_zero_gradients_are_done_at_once() -> None:
    x = torch.full((2, 1, 8, 8), 0.5)
    g = torch.zeros_like(x)
    g[1] = 1.0
    problem = LinearProblem(g, x, [WindowSSIM(0.9, Window.uniform(4)), Box(), LpBall(2, 1.0)])
    monitor = Monitor(problem, Settings())
    assert monitor.check(0, torch.zeros_like(x), zeros(problem))
    assert monitor.running.tolist() == [False, True]


def test_point_already_feasible_is_done_at_once() -> None:
    x = torch.full((1, 1, 8, 8), 0.5, dtype=torch.float64)
    problem = ProjectionProblem(1e-6 * x, x, [LpBall(2, 1.0)])
    monitor = Monitor(problem, Settings())
    assert not monitor.check(0, problem.point, (None,))
    assert monitor.output().status == (Status.OPTIMAL,)
