"""``ellipsoid``: feature balls by one Krylov run, against Clarabel with J written out."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import solvers
from solvers import (
    Box,
    Constraint,
    FeatureBall,
    LinearOperator,
    LinearProblem,
    LpBall,
    MethodError,
    ProblemError,
    ProjectionProblem,
    Settings,
    Status,
    Support,
    Window,
    WindowSSIM,
)
from tests.solvers.conftest import Photos

krylov = importlib.import_module("solvers.methods.ellipsoid.golub_kahan")
Draw = Callable[..., Tensor]
TIGHT = Settings(eps_rel=1e-7, max_iter=500)


def network(channels: int, seed: int, *, stride: int = 2) -> nn.Module:
    """Two small convolutions, smooth so that the derivative exists everywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1, stride=stride), nn.SiLU(), nn.Conv2d(6, 4, 3, padding=1), nn.SiLU()
        )
    return layers.double().requires_grad_(False)


def features_of(net: nn.Module, x: Tensor) -> LinearOperator:
    """J of a network's output at x, by forward- and reverse-mode products."""

    def outputs(image: Tensor) -> Tensor:
        return net(image).flatten(1)

    pull = torch.func.vjp(outputs, x)[1]
    return LinearOperator(
        lambda image: torch.func.jvp(outputs, (x,), (image,))[1], lambda values: pull(values)[0], torch.float64
    )


def matrix_operator(matrix: Tensor, shape: tuple[int, ...]) -> LinearOperator:
    return LinearOperator(lambda v: v.flatten(1) @ matrix.T, lambda u: (u @ matrix).reshape(-1, *shape), torch.float64)


def crop(photos: Photos, name: str, size: int, channels: int = 1) -> tuple[Tensor, Tensor]:
    found = photos.crop(name, 60, 60, size, channels=channels)
    return found.reference, found.gradient


def step_distance(jacobian: LinearOperator, vector: Tensor) -> float:
    """Feature distance of the l2 step of length 1."""
    return float(jacobian.apply(vector).norm() / vector.norm())


def objective_of(problem: solvers.Problem) -> float:
    result = solvers.solve(problem, "cvxpy:clarabel", Settings(eps_rel=1e-8, eps_abs=1e-12))
    assert float(result.rel_gap[0]) <= 1e-6
    return float(result.objective[0])


# Photo, pixels a side, channels, stride of the network, share of the l2 step's feature distance, l2 radius.
CASES = [
    ("chelsea", 12, 1, 2, 0.5, 1.0),
    ("coffee", 16, 1, 2, 0.2, 0.3),
    ("rocket", 10, 3, 2, 0.05, 2.0),
    ("camera", 16, 1, 4, 0.1, 1.0),
    ("astronaut", 9, 3, 1, 0.3, 0.5),
    ("chelsea", 16, 1, 2, 0.1, 1.0),
    ("coffee", 18, 1, 4, 0.02, 1.0),
    ("rocket", 10, 1, 1, 0.01, 1.0),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("kind", ["linear", "projection"])
def test_optimum_agrees_with_clarabel(case: tuple[str, int, int, int, float, float], kind: str, photos: Photos) -> None:
    name, size, channels, stride, share, large = case
    x, g = crop(photos, name, size, channels)
    jacobian = features_of(network(channels, seed=size, stride=stride), x)
    sets: list[Constraint] = [FeatureBall(share * large * step_distance(jacobian, g), jacobian), LpBall(2, large)]
    problem: solvers.Problem = LinearProblem(g, x, sets)
    if kind == "projection":
        problem = ProjectionProblem(2 * large * g / g.norm(), x, sets)
    result = solvers.solve(problem, "ellipsoid", TIGHT)
    assert result.all_optimal, result.rel_gap
    assert float(result.max_violation[0]) <= 1e-9
    assert float(result.objective[0]) == pytest.approx(objective_of(problem), rel=1e-5)
    again = solvers.certify(problem, result.delta, result.dual)
    assert float(again.rel_gap[0]) <= 1e-7
    # By hand: both balls hold.
    delta = torch.as_tensor(result.delta)
    explicit = FeatureBall(1.0, jacobian).bind(x).matrix(0)
    assert np.linalg.norm(explicit @ delta.numpy().reshape(-1)) <= share * large * step_distance(jacobian, g) + 1e-9
    assert float(delta.norm()) <= large + 1e-9


def boxed(photos: Photos, name: str, size: int, large: float) -> tuple[Tensor, Tensor, list[Constraint]]:
    """A crop whose contrast is raised, so that many pixels are at the edge of the box and others near it."""
    x, g = crop(photos, name, size)
    x = (1.6 * x - 0.3).clamp(0, 1)
    jacobian = features_of(network(1, seed=size), x)
    ball = FeatureBall(0.2 * large * step_distance(jacobian, g), jacobian)
    return x, g, [Box(0.0, 1.0), ball, LpBall(2, large)]


@pytest.mark.parametrize("case", [("astronaut", 12, 0.3), ("coffee", 16, 0.8), ("rocket", 14, 0.1)], ids=str)
@pytest.mark.parametrize("kind", ["linear", "projection"])
def test_optimum_within_a_box_agrees_with_clarabel(case: tuple[str, int, float], kind: str, photos: Photos) -> None:
    x, g, sets = boxed(photos, *case)
    problem: solvers.Problem = LinearProblem(g, x, sets)
    if kind == "projection":
        problem = ProjectionProblem(2 * case[2] * g / g.norm(), x, sets)
    result = solvers.solve(problem, settings=Settings(eps_rel=1e-5, max_iter=5000))
    assert result.method == "ellipsoid"
    assert result.all_optimal, result.rel_gap
    assert float(result.objective[0]) == pytest.approx(objective_of(problem), rel=1e-5)
    moved = x + torch.as_tensor(result.delta)
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    without = solvers.solve(type(problem)(problem.vector, x, sets[1:]), "ellipsoid", TIGHT)
    # The box matters: without it the optimum is another.
    assert float(without.objective[0]) != pytest.approx(float(result.objective[0]), rel=1e-3)


@pytest.mark.parametrize(
    ("case", "sets"),
    [
        (("coffee", 14, 7.0), slice(0, 3)),
        (("astronaut", 12, 3.0), slice(0, 2)),
        (("rocket", 10, 1.0), slice(0, 2)),
    ],
    ids=["ball too large to hold", "no ball, astronaut", "no ball, rocket"],
)
def test_a_box_beside_no_l2_ball_is_solved_by_smoothing(
    case: tuple[str, int, float], sets: slice, photos: Photos
) -> None:
    x, g, everything = boxed(photos, *case)
    problem = LinearProblem(g, x, everything[sets])
    result = solvers.solve(problem, "ellipsoid", Settings(eps_rel=3e-3, max_iter=5000))
    assert result.all_optimal, result.rel_gap
    # Exact here, Clarabel is the better choice where l2 says nothing.
    balls = len(problem.find(LpBall))
    assert solvers.solve(problem, settings=Settings(max_iter=1)).method == ("ellipsoid" if balls else "cvxpy:clarabel")
    best = objective_of(problem)
    assert (1 - 3e-3) * best <= float(result.objective[0]) <= (1 + 1e-6) * best
    assert float(result.bound[0]) >= (1 - 1e-6) * best


def test_time_limit_ends_newtons_method_with_a_certified_point(photos: Photos) -> None:
    x, g, everything = boxed(photos, "coffee", 16, 8.0)
    problem = LinearProblem(g, x, everything)
    result = solvers.solve(problem, "ellipsoid", Settings(eps_rel=1e-9, max_iter=10**6, time_limit=0.5))
    assert result.status == (Status.TIME_LIMIT,)
    assert 0 < float(result.objective[0]) <= float(result.bound[0]) < math.inf


def test_points_in_a_feature_ball_alone_are_projected(photos: Photos) -> None:
    x, g = crop(photos, "coffee", 14)
    jacobian = features_of(network(1, seed=1), x)
    point = g / g.norm()
    ball = FeatureBall(0.2 * step_distance(jacobian, g), jacobian)
    problem = ProjectionProblem(point, x, [ball])
    result = solvers.solve(problem, settings=TIGHT)
    assert result.method == "ellipsoid"
    assert float(result.objective[0]) == pytest.approx(objective_of(problem), rel=1e-5)
    inside = solvers.solve(ProjectionProblem(point, x, [FeatureBall(10.0, jacobian)]), "ellipsoid")
    assert float(inside.objective[0]) == 0
    torch.testing.assert_close(inside.delta, point)


def test_fixed_pixels_stay(photos: Photos) -> None:
    x, g = crop(photos, "rocket", 14)
    mask = torch.arange(196).reshape(14, 14) % 3 > 0
    jacobian = features_of(network(1, seed=2), x)
    sets: list[Constraint] = [LpBall(2, 1.0), Support(mask), FeatureBall(0.1, jacobian)]
    problem = LinearProblem(g, x, sets)
    result = solvers.solve(problem, "ellipsoid", TIGHT)
    assert result.all_optimal
    assert float(torch.as_tensor(result.delta)[0, 0][~mask].abs().max()) == 0
    assert float(result.objective[0]) == pytest.approx(objective_of(problem), rel=1e-5)


def test_inactive_feature_ball_leaves_the_step(photos: Photos) -> None:
    x, g = crop(photos, "chelsea", 12)
    net = features_of(network(1, seed=3), x)
    nothing = LinearOperator(lambda v: v.new_zeros(v.shape[0], 5), lambda u: u.new_zeros(u.shape[0], 1, 12, 12))
    for ball in (FeatureBall(1.01 * step_distance(net, g), net), FeatureBall(1e-3, nothing)):
        result = solvers.solve(LinearProblem(g, x, [ball, LpBall(2, 1.0)]), "ellipsoid", Settings(eps_rel=1e-12))
        assert result.all_optimal
        assert result.iterations == (0,)
        torch.testing.assert_close(result.delta, g / g.norm())


def test_a_feature_ball_that_bounds_by_itself_gives_its_closed_form() -> None:
    """J of full column rank and an l2 ball that is never reached: the inner multiplier is 0."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(40, 16, generator=generator, dtype=torch.float64)
    g = torch.randn(1, 1, 4, 4, generator=generator, dtype=torch.float64)
    x = torch.full_like(g, 0.5)
    problem = LinearProblem(g, x, [FeatureBall(0.1, matrix_operator(matrix, (1, 4, 4))), LpBall(2, 100.0)])
    result = solvers.solve(problem, "ellipsoid", Settings(eps_rel=1e-9))
    assert result.all_optimal
    flat = g.flatten()
    exact = 0.1 * (flat @ torch.linalg.solve(matrix.T @ matrix, flat)).sqrt()
    assert float(result.objective[0]) == pytest.approx(float(exact), rel=1e-8)


def test_a_gradient_that_is_zero_or_outside_the_features_gives_the_exact_value() -> None:
    matrix = torch.eye(16, dtype=torch.float64)[:4]
    x = torch.full((2, 1, 4, 4), 0.5, dtype=torch.float64)
    g = torch.zeros_like(x)
    g[1, 0, 3, 3] = 2.0  # in the null space of J
    result = solvers.solve(
        LinearProblem(g, x, [FeatureBall(0.1, matrix_operator(matrix, (1, 4, 4))), LpBall(2, 3.0)]), "ellipsoid"
    )
    assert result.all_optimal
    assert result.objective.tolist() == [0.0, pytest.approx(6.0, rel=1e-11)]


def batch(photos: Photos, dtype: torch.dtype = torch.float64) -> LinearProblem:
    pairs = [crop(photos, name, 12) for name in ("chelsea", "coffee", "astronaut", "rocket")]
    x, g = (torch.cat(parts).to(dtype) for parts in zip(*pairs, strict=True))
    scale = torch.tensor([1.0, 1e-4, 1e3, 0.0], dtype=dtype).reshape(-1, 1, 1, 1)
    jacobian = features_of(network(1, seed=5), x.double())
    distance = jacobian.apply(g.double()).norm(dim=1) / g.double().flatten(1).norm(dim=1)
    radius = distance * torch.tensor([0.5, 0.1, 0.02, 0.1])
    return LinearProblem(g * scale, x, [FeatureBall(radius, jacobian), LpBall(2, torch.tensor([1.0, 1.0, 1.0, 2.0]))])


@pytest.fixture(scope="module")
def solved(photos: Photos) -> solvers.SolveResult:
    """The batch to 1e-5, which several tests compare with or start from."""
    return solvers.solve(batch(photos), "ellipsoid", Settings(eps_rel=1e-5))


def test_batch_gives_what_single_images_give(photos: Photos, solved: solvers.SolveResult) -> None:
    problem, whole = batch(photos), solved
    assert whole.all_optimal
    assert len(set(whole.iterations)) > 2
    for k in range(4):
        single = solvers.solve(problem.select(torch.tensor([k])), "ellipsoid", Settings(eps_rel=1e-5))
        assert float(whole.objective[k]) == pytest.approx(float(single.objective[0]), rel=2e-5, abs=1e-30)


def test_float32_and_numpy_problems_keep_their_kind_and_agree_with_float64(
    photos: Photos, solved: solvers.SolveResult
) -> None:
    problem, double = batch(photos, torch.float32), solved
    single = solvers.solve(problem, "ellipsoid", Settings(eps_rel=1e-4))
    assert single.all_optimal
    assert torch.as_tensor(single.delta).dtype == torch.float32
    torch.testing.assert_close(single.objective, double.objective, rtol=2e-4, atol=0)
    plain = LinearProblem(problem.vector.numpy(), problem.reference.numpy(), problem.constraints)
    assert isinstance(solvers.solve(plain, "ellipsoid", Settings(eps_rel=1e-2)).delta, np.ndarray)


@pytest.mark.parametrize("end", ["time_limit", "callback", "max_iter"])
def test_what_ends_it_early_leaves_the_best_certified_point(end: str, photos: Photos) -> None:
    options: dict[str, dict[str, Any]] = {
        "time_limit": {"time_limit": 1e-9},
        "callback": {"callback": lambda progress: progress.iteration >= 4, "check_interval": 2},
        "max_iter": {"max_iter": 4},
    }
    problem = batch(photos).select(torch.tensor([2]))
    result = solvers.solve(problem, "ellipsoid", Settings(eps_rel=1e-10, **options[end]))
    expected = {"time_limit": Status.TIME_LIMIT, "callback": Status.STOPPED, "max_iter": Status.MAX_ITER}[end]
    assert result.status == (expected,)
    assert result.iterations == ((0,) if end == "time_limit" else (4,))
    # No time at all leaves d = 0, which needs no certificate.
    assert (float(result.objective[0]) > 0) == (end != "time_limit")
    assert math.isfinite(float(result.bound[0]))
    assert float(result.max_violation[0]) <= 1e-9


def test_warm_start_by_the_dual_costs_no_iteration(photos: Photos, solved: solvers.SolveResult) -> None:
    problem, first = batch(photos), solved
    settings = Settings(eps_rel=1e-5)
    again = solvers.solve(problem, "ellipsoid", settings, warm_start=first)
    assert again.all_optimal
    assert set(again.iterations) == {0}
    spoilt = replace(first, dual=(torch.as_tensor(first.dual[0]) * math.nan, None))
    assert solvers.solve(problem, "ellipsoid", settings, warm_start=spoilt).all_optimal


def test_history_and_callback_see_certified_values(photos: Photos) -> None:
    seen: list[int] = []
    result = solvers.solve(
        batch(photos),
        "ellipsoid",
        Settings(eps_rel=1e-5, check_interval=5, callback=lambda progress: seen.append(progress.iteration)),
    )
    assert seen == [row.iteration for row in result.history]
    bounds = np.array([row.bound for row in result.history])
    assert bool((np.diff(bounds, axis=0) <= 1e-12 * np.abs(bounds[1:])).all())


def test_sets_that_it_cannot_take_are_refused_with_the_reason(photos: Photos) -> None:
    x, g = crop(photos, "coffee", 12)
    ball = FeatureBall(0.1, features_of(network(1, seed=0), x))
    refused: list[tuple[list[Constraint], str]] = [
        ([ball, LpBall(2, 1.0), LpBall(2, 2.0)], "one LpBall, got 2"),
        ([ball, ball, LpBall(2, 1.0)], "one FeatureBall, got 2"),
        ([ball, LpBall(1, 1.0)], "p=1"),
        ([LpBall(2, 1.0)], "needs FeatureBall"),
        ([ball, WindowSSIM(0.95, Window.uniform(7, stride=4)), Box()], "can't take"),
    ]
    for sets, reason in refused:
        with pytest.raises(MethodError, match=reason):
            solvers.solve(LinearProblem(g, x, sets), "ellipsoid")
    with pytest.raises(ProblemError, match="add Box"):
        LinearProblem(g, x, [ball])


# -- the Krylov run -------------------------------------------------------------------------------------------------


def test_bidiagonalisation_gives_the_resolvent_and_its_lengths(normal: Draw) -> None:
    matrix, start = normal(9, 16), normal(1, 1, 4, 4)
    operator = matrix_operator(matrix, (1, 4, 4))
    run = krylov.GolubKahan(operator.apply, operator.apply_adjoint, start)
    for _ in range(5):
        run.step()
    multipliers = krylov.Multipliers(run)
    theta = torch.tensor([0.7], dtype=torch.float64)
    seen = multipliers.at(theta)
    features = run.combine(seen.weights)
    z = start - operator.apply_adjoint(features)
    assert float(z.norm()) == pytest.approx(float(seen.length), rel=1e-12)
    assert float(operator.apply(z).norm()) == pytest.approx(float(seen.feature_length), rel=1e-12)
    assert float(features.norm()) == pytest.approx(float(seen.dual_length), rel=1e-12)
    ratio = multipliers.at(multipliers.ratio_root(theta / 10))
    root = multipliers.ratio_root(theta / 10)
    assert float(ratio.dual_length / (root * ratio.length)) == pytest.approx(0.07, rel=1e-9)
    for _ in range(20):
        run.step()
    # Nine features: the space ends, and z is the resolvent itself.
    assert bool(run.exhausted.all())
    exact = torch.linalg.solve(torch.eye(16, dtype=torch.float64) + 0.7 * matrix.T @ matrix, start.flatten())
    seen = krylov.Multipliers(run).at(theta)
    found = start - operator.apply_adjoint(run.combine(seen.weights))
    torch.testing.assert_close(found.flatten(), exact, rtol=1e-9, atol=1e-10)
