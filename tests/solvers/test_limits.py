"""Every iterative method looks at the clock and at the callback, and leaves time for what comes after its iterations.

The clock of these tests moves on by a fixed step whenever it is read. So a time limit is a number of readings, whatever
the machine, and methods that read no clock never reach it.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

import solvers
from solvers import (
    Box,
    FeatureBall,
    LinearOperator,
    LinearProblem,
    LpBall,
    MeanSSIM,
    ProductSSIM,
    ProjectionProblem,
    Settings,
    Status,
    Window,
    WindowSSIM,
)

# All registered methods are here or in EXACT, by test_all_methods_are_tried.
ITERATIVE = ("admm", "cvxpy:clarabel", "cvxpy:scs", "dual", "ellipsoid", "energy_step", "frank_wolfe", "mean_tiles",
             "mean_windows", "pdhg", "product_tiles")  # fmt: skip
EXACT = ("closed_form", "tiles")
OVERLAPPING, TILES = Window.uniform(5), Window.uniform(4, stride=4)
# Iterations don't end by themselves: the tolerance is out of reach in single precision, and on tiles by few steps.
ENDLESS: dict[str, Any] = {"eps_rel": 1e-13, "max_iter": 10**6, "check_interval": 3, "dtype": torch.float32}


def averages(images: Tensor) -> Tensor:
    """Averages of 2x2 pixels, as features."""
    return torch.nn.functional.avg_pool2d(images, 2).flatten(1)


def spread(features: Tensor) -> Tensor:
    """The adjoint of :func:`averages` for one channel of 16x16 pixels."""
    return torch.nn.functional.interpolate(features.reshape(-1, 1, 8, 8), scale_factor=2) / 4


def problem_for(method: str) -> solvers.Problem:
    """A problem that takes many iterations; two images, but for conic solvers three."""
    generator = torch.Generator().manual_seed(3)
    batch = 3 if method.startswith("cvxpy") else 2
    x = torch.rand(batch, 1, 16, 16, generator=generator, dtype=torch.float64)
    g = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    mean = MeanSSIM(0.95, OVERLAPPING)
    sets: dict[str, list[solvers.Constraint]] = {
        "ellipsoid": [FeatureBall(0.1, LinearOperator(averages, spread)), Box(), LpBall(2, 1.0)],
        "energy_step": [mean.step(x, torch.zeros_like(x)), Box()],
        "frank_wolfe": [WindowSSIM(0.95, TILES), Box()],
        "mean_tiles": [MeanSSIM(0.9, TILES, luminance=0.01), Box()],
        "mean_windows": [mean, Box()],
        "product_tiles": [ProductSSIM(0.9, TILES), Box()],
        "tiles": [WindowSSIM(0.95, TILES), Box()],
        "closed_form": [LpBall(2, 1.0), Box()],
    }
    constraints = sets.get(method, [WindowSSIM(0.95, OVERLAPPING), Box()])
    if method == "frank_wolfe":
        return ProjectionProblem(g, x, constraints)
    return LinearProblem(g, x, constraints)


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that moves on by 1 second at every reading."""
    readings = count(1)
    monkeypatch.setattr("solvers.clock.perf_counter", lambda: float(next(readings)))
    return lambda: float(next(readings))


def test_all_methods_are_tried() -> None:
    assert {info.name for info in solvers.methods()} == {*ITERATIVE, *EXACT}


@pytest.mark.parametrize("method", ITERATIVE)
def test_callback_sees_every_check_and_stops_the_run(method: str) -> None:
    problem, seen = problem_for(method), list[solvers.Progress]()

    def stop(progress: solvers.Progress) -> bool:
        seen.append(progress)
        return progress.iteration > 0

    result = solvers.solve(problem, method, Settings(**{**ENDLESS, "callback": stop}))
    # A conic solver has solved its first image by then.
    last = result.status[-1]
    assert last is Status.STOPPED
    assert seen[-1].iteration > 0
    assert all(progress.iteration == 0 for progress in seen[:-1])
    if not method.startswith("cvxpy"):
        assert [row.iteration for row in result.history] == [progress.iteration for progress in seen]
        assert max(result.iterations) <= 3
    assert bool((torch.as_tensor(result.objective)[0] >= 0).all())


@pytest.mark.parametrize("method", ITERATIVE)
def test_a_limit_that_set_up_uses_up_leaves_the_zero_perturbation(method: str) -> None:
    problem = problem_for(method)
    result = solvers.solve(problem, method, Settings(**ENDLESS, time_limit=1e-9))
    assert result.status == (Status.TIME_LIMIT,) * problem.batch
    assert result.iterations == (0,) * problem.batch
    assert not result.delta.any()
    trivial = solvers.certify(problem, torch.zeros_like(problem.reference)).bound
    torch.testing.assert_close(torch.as_tensor(result.bound), trivial)


@pytest.mark.parametrize("method", [name for name in ITERATIVE if not name.startswith("cvxpy")])
def test_the_last_check_and_the_certificate_end_within_the_limit(method: str, ticking: Any) -> None:
    # mean_tiles reads the clock within set-up and within the certificate, too.
    limit = 400.0 if method == "mean_tiles" else 120.0
    problem = problem_for(method)
    began = ticking()
    result = solvers.solve(problem, method, Settings(**ENDLESS, time_limit=limit))
    took = ticking() - began
    assert all(status in (Status.TIME_LIMIT, Status.OPTIMAL) for status in result.status)
    assert Status.TIME_LIMIT in result.status
    # Between the last check and the end the clock is read a few times more.
    assert took <= limit + 10
    assert min(result.iterations) > 0
    assert bool((torch.as_tensor(result.objective) != 0).any())


@pytest.mark.parametrize("method", EXACT)
def test_exact_methods_finish_before_the_first_check(method: str) -> None:
    result = solvers.solve(problem_for(method), method, Settings(callback=lambda progress: True))
    assert result.all_optimal
    assert len(result.history) == 1
