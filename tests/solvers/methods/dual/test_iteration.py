"""One iteration of ``dual`` against its equations, window by window in NumPy, and what a fixed point is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import solvers
from solvers import Box, LinearProblem, Window, WindowSSIM
from solvers.methods.dual.anderson import AndersonAcceleration
from solvers.methods.dual.iteration import (
    MAX_LOG_SPREAD,
    MAX_LOG_STEP,
    MIN_RATIO,
    WARMUP_ITERATIONS,
    Controls,
    DualIterate,
    DualIteration,
)
from solvers.methods.dual.lagrangian import Lagrangian
from solvers.methods.dual.warm_start import initial_multipliers
from solvers.windows.quadratic import Bounds
from tests.solvers.conftest import Photos

SIDE, WINDOW, THRESHOLD, LUMINANCE = 9, 3, 0.9, 0.02


def iteration_of(problem: LinearProblem, bounds: Bounds) -> tuple[DualIteration, DualIterate]:
    """The iteration of a problem, and its first iterate."""
    lagrangian = Lagrangian(problem, bounds)
    logs = initial_multipliers(lagrangian).flat().log()
    zero = torch.zeros_like(problem.reference)
    return DualIteration(lagrangian, AndersonAcceleration(5)), DualIterate(logs, zero, zero)


def controls(cg_steps: int, mixing: float = 1.0) -> Controls:
    return Controls(torch.tensor([cg_steps]), cg_steps, torch.tensor([mixing], dtype=torch.float64))


def free_bounds(problem: LinearProblem) -> Bounds:
    """Bounds that are never met, so that the maximiser follows from one system of linear equations."""
    return Bounds(torch.full_like(problem.reference, -1e9), torch.full_like(problem.reference, 1e9))


@pytest.fixture
def problem(photos: Photos) -> LinearProblem:
    crop = photos.crop("chelsea", 150, 120, SIDE, channels=1)
    window = Window.uniform(WINDOW, border="valid")
    gradient = crop.gradient / crop.gradient.abs().max()
    return LinearProblem(gradient, crop.reference, [WindowSSIM(THRESHOLD, window, LUMINANCE), Box()])


def by_hand(problem: LinearProblem, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window by window, from the definitions: the maximiser of the Lagrangian, without bounds; the residual f, that is
    the logarithms of what the constraints use; and their shares of the dual objective, ``lambda_j r_j^2``."""
    x, g = problem.reference[0, 0].numpy(), problem.gradient[0, 0].numpy()
    alpha, beta = 1 - THRESHOLD / (1 - LUMINANCE), LUMINANCE
    a, b = alpha / (1 - alpha), beta / (1 - beta)
    places = [(i, j) for i in range(SIDE - WINDOW + 1) for j in range(SIDE - WINDOW + 1)]
    ball, mean = np.exp(logs[: len(places)]), np.exp(logs[len(places) :])
    hessian, right = np.zeros((SIDE**2, SIDE**2)), g.ravel().copy()
    weight, terms = 1 / WINDOW**2, []
    for k, (i, j) in enumerate(places):
        inside = np.zeros((SIDE, SIDE))
        inside[i : i + WINDOW, j : j + WINDOW] = 1
        pixels = inside.ravel().nonzero()[0]
        select = np.eye(SIDE**2)[pixels]
        average = weight * np.ones(len(pixels)) @ select
        centred = np.sqrt(weight) * (select - average)
        patch = x.ravel()[pixels]
        middle_x, spread_x = patch.mean(), patch.var()
        radius = np.sqrt(alpha * (2 * spread_x + 9e-4) / (1 - alpha) + a**2 * spread_x)
        middle, half = b * middle_x, np.sqrt(beta * (2 * middle_x**2 + 1e-4) / (1 - beta) + (b * middle_x) ** 2)
        center = a * centred @ x.ravel()
        hessian += ball[k] * centred.T @ centred + mean[k] * np.outer(average, average)
        right += ball[k] * centred.T @ center + mean[k] * middle * average
        terms.append((centred, center, radius, average, middle, half))
    delta = np.linalg.solve(hessian, right)
    ratio = [np.linalg.norm(centred @ delta - center) / radius for centred, center, radius, *_ in terms]
    ratio += [abs(average @ delta - middle) / half for *_, average, middle, half in terms]
    radii = np.array([radius for _, _, radius, *_ in terms] + [half for *_, half in terms])
    return delta, np.log(np.clip(ratio, MIN_RATIO, 1 / MIN_RATIO)), np.exp(logs) * radii**2


def moved_by(logs: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The new logarithms: no step is too long, and none lies too far below the largest."""
    moved = logs + step.clip(-MAX_LOG_STEP, MAX_LOG_STEP)
    return np.maximum(moved, moved.max() - MAX_LOG_SPREAD)


def anderson_step(points: list[np.ndarray], residuals: list[np.ndarray], weight: np.ndarray) -> np.ndarray:
    """``f - sum_k gamma_k (dy_k + df_k)`` with ``gamma = argmin |f - sum_k gamma_k df_k|_W^2``, by least squares with a
    ridge of 1e-7 of the columns' sizes."""
    changes, moves = np.diff(residuals, axis=0).T, np.diff(points, axis=0).T
    columns = np.sqrt(weight)[:, None] * changes
    size = (columns**2).sum(axis=0)
    ridge = np.diag(np.sqrt(1e-7 * (size + 1e-3 * size.sum())))
    right = np.concatenate([np.sqrt(weight) * residuals[-1], np.zeros(len(size))])
    gamma = np.linalg.lstsq(np.concatenate([columns, ridge]), right, rcond=None)[0]
    return np.asarray(residuals[-1] - (moves + changes) @ gamma)


def test_a_plain_iteration_is_that_of_the_definitions(problem: LinearProblem) -> None:
    iteration, iterate = iteration_of(problem, free_bounds(problem))
    logs = iterate.log_multipliers[0].numpy()
    delta, residual, _ = by_hand(problem, logs)
    following = iteration.next(iterate, controls(200), 0)
    np.testing.assert_allclose(following.maximiser[0, 0].numpy().ravel(), delta, rtol=0, atol=1e-9 * abs(delta).max())
    np.testing.assert_allclose(following.log_multipliers[0].numpy(), moved_by(logs, residual), rtol=0, atol=1e-8)


def test_mixing_begins_at_count_ten_with_the_weight_that_is_set(problem: LinearProblem) -> None:
    """The memory holds three iterates. At count 9 the step is plain all the same; at count 10 half of it is mixed."""
    assert WARMUP_ITERATIONS == 10
    iteration, iterate = iteration_of(problem, free_bounds(problem))
    logs = iterate.log_multipliers[0].numpy()
    _, residual, weight = by_hand(problem, logs)
    generator = np.random.default_rng(0)
    points = [logs + 0.1 * generator.normal(size=logs.shape) for _ in range(3)]
    residuals = [residual + 0.1 * generator.normal(size=logs.shape) for _ in range(3)]
    for point, value in zip(points, residuals, strict=True):
        iteration.acceleration.step(*(torch.from_numpy(part)[None] for part in (point, value, weight)))

    plain = iteration.next(iterate, controls(200, mixing=0.5), 9).log_multipliers[0].numpy()
    np.testing.assert_allclose(plain, moved_by(logs, residual), rtol=0, atol=1e-8)

    mixed = anderson_step([*points, logs], [*residuals, residual], weight)
    expected = moved_by(logs, 0.5 * residual + 0.5 * mixed)
    assert np.abs(expected - plain).max() > 1e-2
    following = iteration.next(iterate, controls(200, mixing=0.5), 10).log_multipliers[0].numpy()
    np.testing.assert_allclose(following, expected, rtol=0, atol=1e-6)


def test_an_iteration_leaves_its_iterate_as_it_was(problem: LinearProblem) -> None:
    iteration, iterate = iteration_of(problem, Bounds(-problem.reference, 1 - problem.reference))
    parts = (iterate.log_multipliers, iterate.delta, iterate.maximiser)
    before = [part.clone() for part in parts]
    for count in range(WARMUP_ITERATIONS + 3):
        iteration.next(iterate, controls(5), count)
    assert all(torch.equal(part, earlier) for part, earlier in zip(parts, before, strict=True))


@pytest.mark.parametrize("mixing", [1.0, 0.5])
def test_a_fixed_point_is_the_optimum(problem: LinearProblem, mixing: float) -> None:
    bounds = Bounds(-problem.reference, 1 - problem.reference)
    iteration, iterate = iteration_of(problem, bounds)
    for count in range(400):
        iterate = iteration.next(iterate, controls(8, mixing), count)
    optimum = solvers.solve(problem, "cvxpy:clarabel", solvers.Settings(eps_rel=1e-8)).objective[0]
    dual = iteration.lagrangian.dual(iterate.maximiser, torch.ones(1, dtype=torch.float64))
    certificate = solvers.certify(problem, iterate.delta, dual)
    assert float(certificate.bound[0]) == pytest.approx(float(optimum), rel=1e-4)
    assert float(certificate.objective[0]) == pytest.approx(float(optimum), rel=1e-3)


def test_every_logarithm_stays_within_the_spread_and_moves_by_the_longest_step_at_most(problem: LinearProblem) -> None:
    iteration, iterate = iteration_of(problem, Bounds(-problem.reference, 1 - problem.reference))
    for count in range(40):
        following = iteration.next(iterate, controls(5), count)
        logs = following.log_multipliers
        floor = logs.amax() - MAX_LOG_SPREAD
        assert bool((logs >= floor - 1e-12).all())
        raised = logs <= floor + 1e-12
        assert float((logs - iterate.log_multipliers)[~raised].abs().max()) <= MAX_LOG_STEP + 1e-12
        iterate = following
