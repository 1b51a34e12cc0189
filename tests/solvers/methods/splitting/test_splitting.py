"""``admm`` and ``pdhg``: one splitting iteration, two ways to speed it up."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

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
    ProjectionProblem,
    Settings,
    Status,
    Support,
    Window,
    WindowSSIM,
)
from solvers.certificate import Certifier
from solvers.methods.splitting.iteration import Splitting
from tests.solvers import oracles
from tests.solvers.conftest import Photos

Draw = Callable[..., Tensor]
methods = pytest.mark.parametrize("method", ["admm", "pdhg"])
FOUR = Window.uniform(7, stride=4)
SETS: dict[str, list[Constraint]] = {
    "full": [WindowSSIM(0.95, FOUR), Box()],
    "valid": [WindowSSIM(0.95, Window.uniform(5, stride=2, border="valid")), Box()],
    "gaussian": [WindowSSIM(0.95, Window.gaussian(1.5, 7, stride=3), luminance="split"), Box()],
    "preserve": [WindowSSIM(0.95, FOUR, luminance="preserve"), Box()],
    "no box": [WindowSSIM(0.95, FOUR)],
    "l2": [WindowSSIM(0.95, FOUR), LpBall(2, 0.3), Box()],
    "l1": [WindowSSIM(0.95, FOUR), LpBall(1, 2.0), Box()],
    "linf": [WindowSSIM(0.95, FOUR), LpBall(math.inf, 0.02), Box()],
    "global": [WindowSSIM(0.95, FOUR), GlobalSSIM(0.1), Box()],
    "two windows": [WindowSSIM(0.95, FOUR), WindowSSIM(0.97, Window.uniform(16, stride=8)), Box()],
    "support": [WindowSSIM(0.95, FOUR), Support(torch.arange(256).reshape(16, 16) % 5 > 0), Box()],
}


def crop(photos: Photos, name: str = "coffee", size: int = 16) -> tuple[Tensor, Tensor]:
    found = photos.crop(name, 60, 60, size, channels=1)
    return found.reference, found.gradient


def posed(kind: str, gradient: Tensor, x: Tensor, sets: list[Constraint]) -> solvers.Problem:
    if kind == "linear":
        return LinearProblem(gradient, x, sets)
    return ProjectionProblem(0.2 * gradient / gradient.abs().amax(), x, sets)


def batch_of(photos: Photos, size: int = 24, dtype: torch.dtype = torch.float64) -> LinearProblem:
    """Photos of unlike difficulty, gradients of unlike size."""
    pairs = [crop(photos, name, size) for name in ("chelsea", "coffee", "astronaut")]
    x, g = (torch.cat(parts).to(dtype) for parts in zip(*pairs, strict=True))
    scale = torch.tensor([1.0, 1e-4, 1e3], dtype=dtype).reshape(3, 1, 1, 1)
    return LinearProblem(g * scale, x, [WindowSSIM(0.95, Window.uniform(7)), Box()])


@pytest.fixture(scope="module")
def exact_value(photos: Photos) -> Callable[[str, str], float]:
    """The optimum on SETS[name], linear or of a projection, which both methods are held against."""
    x, g = crop(photos)

    @functools.cache
    def value(name: str, kind: str) -> float:
        vector = posed(kind, g, x, SETS[name]).vector
        return oracles.optimum(vector[0].numpy(), x[0].numpy(), SETS[name], linear=kind == "linear")[0]

    return value


@pytest.fixture(scope="module")
def solved(photos: Photos) -> Callable[[str], solvers.SolveResult]:
    """The batch solved to 1e-3 by a method, once for all tests that start from it."""
    return functools.cache(lambda method: solvers.solve(batch_of(photos), method, Settings(eps_rel=1e-3)))


@methods
@pytest.mark.parametrize("kind", ["linear", "projection"])
@pytest.mark.parametrize("name", SETS)
def test_optimum_agrees_with_clarabel(
    name: str, kind: str, method: str, photos: Photos, exact_value: Callable[[str, str], float]
) -> None:
    x, g = crop(photos)
    problem = posed(kind, g, x, SETS[name])
    result = solvers.solve(problem, method, Settings(eps_rel=1e-4, max_iter=5000))
    assert result.all_optimal, (result.rel_gap, result.messages)
    assert float(result.max_violation[0]) < 1e-9
    assert float(result.objective[0]) == pytest.approx(exact_value(name, kind), rel=2e-4)
    again = solvers.certify(problem, result.delta, result.dual)
    assert float(again.rel_gap[0]) <= 1e-4


@methods
def test_feature_balls_enter_through_products(method: str, photos: Photos) -> None:
    x, g = crop(photos)
    matrix = torch.randn(12, 256, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    jacobian = LinearOperator(lambda v: v.flatten(1) @ matrix.T, lambda u: (u @ matrix).reshape(-1, 1, 16, 16))
    sets: list[Constraint] = [WindowSSIM(0.95, FOUR), FeatureBall(0.05, jacobian), Box()]
    result = solvers.solve(LinearProblem(g, x, sets), method, Settings(eps_rel=1e-4, max_iter=5000))
    exact = solvers.solve(LinearProblem(g, x, sets), "cvxpy:clarabel", Settings(eps_rel=1e-6))
    assert result.all_optimal
    assert float(result.objective[0]) == pytest.approx(float(exact.objective[0]), rel=2e-4)


def test_steps_are_as_long_as_the_metric_allows(photos: Photos) -> None:
    """tau^-1 is the diagonal A'SA exactly: the metric is singular, but never negative."""
    problem = batch_of(photos)
    split = Splitting(problem, torch.arange(3))
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(problem.reference.shape, generator=generator, dtype=torch.float64)
    block, weight = split.blocks[0], split.weights[0]
    applied = block.adjoint(block.spread(weight) * block.apply(image))
    torch.testing.assert_close(applied, image / split.tau)


@methods
def test_batch_gives_what_single_images_give(
    method: str, photos: Photos, solved: Callable[[str], solvers.SolveResult]
) -> None:
    problem, settings, whole = batch_of(photos), Settings(eps_rel=1e-3), solved(method)
    assert whole.all_optimal
    assert len(set(whole.iterations)) > 1
    for k in range(3):
        single = solvers.solve(problem.select(torch.tensor([k])), method, settings)
        assert single.iterations[0] == whole.iterations[k]
        # The iterates agree to the last bit; the certificate's repair mends a batch to within its own tolerance.
        torch.testing.assert_close(whole.dual[0][k], single.dual[0][0], rtol=1e-9, atol=0)
        torch.testing.assert_close(whole.delta[k], single.delta[0], rtol=0, atol=1e-4)
        assert float(whole.bound[k]) == pytest.approx(float(single.bound[0]), rel=1e-9)


@methods
def test_finished_images_cost_nothing(method: str, photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    advance = Splitting.advance

    def counted(self: Splitting, point: Any) -> Any:
        sizes.append(point.delta.shape[0])
        return advance(self, point)

    monkeypatch.setattr(Splitting, "advance", counted)
    result = solvers.solve(batch_of(photos), method, Settings(eps_rel=1e-2))
    assert len(set(result.iterations)) > 1
    assert sum(sizes) == sum(result.iterations)


@methods
@pytest.mark.parametrize("end", ["time_limit", "callback", "max_iter"])
def test_what_ends_it_early_leaves_the_best_certified_point(end: str, method: str, photos: Photos) -> None:
    problem = batch_of(photos)
    limit: dict[str, Any] = {
        "time_limit": {"time_limit": 0.3},
        "callback": {"callback": lambda progress: progress.iteration >= 50},
        "max_iter": {"max_iter": 60},
    }[end]
    result = solvers.solve(problem, method, Settings(eps_rel=1e-9, check_interval=10, **limit))
    expected = {"time_limit": Status.TIME_LIMIT, "callback": Status.STOPPED, "max_iter": Status.MAX_ITER}[end]
    assert result.status == (expected,) * 3
    assert float(torch.as_tensor(result.max_violation).max()) < 1e-9
    best = torch.tensor([row.objective for row in result.history]).amax(dim=0)
    torch.testing.assert_close(torch.as_tensor(result.objective), best.double())
    if end != "time_limit":
        assert (torch.as_tensor(result.rel_gap) < 0.9).all()
    gaps = torch.tensor([row.rel_gap for row in result.history])
    assert (gaps[1:] <= gaps[:-1] + 1e-12).all()
    assert [row.iteration for row in result.history][:2] == [0, 10]


@methods
def test_warm_start_saves_iterations(method: str, photos: Photos, solved: Callable[[str], solvers.SolveResult]) -> None:
    problem, first = batch_of(photos), solved(method)
    again = solvers.solve(problem, method, Settings(eps_rel=1e-3), warm_start=first)
    assert again.iterations == (0, 0, 0)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(problem.gradient.shape, generator=generator, dtype=torch.float64)
    size = problem.gradient.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    near = LinearProblem(
        problem.gradient + 0.05 * size.reshape(3, 1, 1, 1) * noise, problem.reference, problem.constraints
    )
    cold = solvers.solve(near, method, Settings(eps_rel=3e-3))
    warm = solvers.solve(near, method, Settings(eps_rel=3e-3), warm_start=first)
    assert warm.all_optimal
    assert sum(warm.iterations) <= 0.6 * sum(cold.iterations)


def test_warm_start_takes_the_dual_of_another_method(photos: Photos) -> None:
    x, g = crop(photos)
    problem = LinearProblem(g, x, [WindowSSIM(0.95, Window.uniform(8, stride=8)), Box()])
    exact = solvers.solve(problem, "tiles")
    result = solvers.solve(problem, "admm", Settings(eps_rel=1e-6), warm_start=exact)
    assert result.all_optimal
    assert result.iterations == (0,)


@methods
def test_single_precision_iterations_are_certified_in_double(
    method: str, photos: Photos, solved: Callable[[str], solvers.SolveResult]
) -> None:
    problem, double = batch_of(photos), solved(method)
    single = solvers.solve(problem, method, Settings(eps_rel=1e-3, dtype=torch.float32))
    assert single.all_optimal
    assert single.delta.dtype == torch.float64
    assert float(torch.as_tensor(single.max_violation).max()) < 1e-9
    torch.testing.assert_close(torch.as_tensor(single.objective), torch.as_tensor(double.objective), rtol=2e-3, atol=0)
    blocks = solvers.solve(batch_of(photos, dtype=torch.float32), method, Settings(eps_rel=1e-2))
    assert blocks.delta.dtype == torch.float32
    assert blocks.all_optimal


@methods
def test_an_image_that_breaks_down_leaves_the_others_right(method: str, photos: Photos) -> None:
    """The features of the second image overflow after some products, as half-precision networks' do."""
    problem = batch_of(photos)
    calls = 0

    def forward(image: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        features = image.flatten(1)[:, :5]
        if calls > 120:
            features = features + torch.tensor([0.0, math.nan, 0.0], dtype=image.dtype).reshape(3, 1)
        return features

    def adjoint(features: Tensor) -> Tensor:
        return torch.nn.functional.pad(features, (0, 24 * 24 - 5)).reshape(-1, 1, 24, 24)

    sets = [*problem.constraints, FeatureBall(1e3, LinearOperator(forward, adjoint))]
    result = solvers.solve(LinearProblem(problem.gradient, problem.reference, sets), method, Settings(eps_rel=1e-2))
    assert result.status == (Status.OPTIMAL, Status.NUMERICAL_ERROR, Status.OPTIMAL)
    assert bool(torch.as_tensor(result.delta).isfinite().all())


@methods
def test_sets_with_nothing_to_split_are_refused(method: str, photos: Photos) -> None:
    x, g = crop(photos)
    for sets in ([Box()], [LpBall(math.inf, 0.1), Box()]):
        with pytest.raises(solvers.MethodError, match=r"needs .*; methods that can: closed_form"):
            solvers.solve(LinearProblem(g, x, sets), method)


def test_blocks_are_bound_to_the_images_that_run(photos: Photos) -> None:
    """Compaction keeps weights and steps of the images that go on."""
    split = Splitting(batch_of(photos), torch.arange(3))
    narrow = split.select(torch.tensor([2]))
    assert narrow.images.tolist() == [2]
    torch.testing.assert_close(narrow.tau, split.tau[2:])
    start = split.start(None)
    torch.testing.assert_close(narrow.advance(start[torch.tensor([2])]).delta, split.advance(start).delta[2:])
    assert Certifier(narrow.problem).trivial.shape == (1,)
