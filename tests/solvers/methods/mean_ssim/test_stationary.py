"""The convex step against Clarabel, and convex steps to stationary points against scikit-image and simpler answers."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

import solvers
from solvers import Box, LinearProblem, MeanSSIM, ProjectionProblem, Settings, Support, Window, WindowSSIM
from tests.solvers import oracles
from tests.solvers.conftest import DARK, Photos

SEVEN = Window.uniform(7, border="valid")


def clarabel(g: Tensor, x: Tensor, step: Any, *, nearest: bool = False) -> float:
    """The optimum of one plane's convex step, from the tests' own windows; or half the squared distance of g to it."""
    height, width = x.shape[-2:]
    weights = oracles.weights(step.window, height, width).reshape(-1, height * width)
    d = cp.Variable(height * width)
    rows = []
    for w, u, v in zip(weights, step.contrast.numpy().ravel(), step.luminance.numpy().ravel(), strict=True):
        inside = w > 0
        centred = np.eye(len(w))[inside] - w
        rows += [np.sqrt(u * w[inside])[:, None] * centred, np.sqrt(v) * w[None]]
    energy = cp.sum_squares(np.vstack(rows) @ d) - 2 * (step.shift.numpy().ravel() @ d)
    plane = x.numpy().ravel()
    vector = g.numpy().ravel()
    goal = cp.Minimize(cp.sum_squares(d - vector) / 2) if nearest else cp.Maximize(vector @ d)
    problem = cp.Problem(goal, [energy <= float(step.level), d >= -plane, d <= 1 - plane])
    return float(problem.solve(solver=cp.CLARABEL))


@pytest.mark.parametrize("window", [Window.uniform(5), Window.gaussian(1.5, 7, stride=2)], ids=["5", "gaussian 7/2"])
def test_energy_step_agrees_with_clarabel(window: Window, photos: Photos) -> None:
    crops = [
        photos.crop("astronaut", *DARK["astronaut"], 12, channels=1),
        *photos.random_crops(2, 12, seed=3, channels=1),
    ]
    for crop in crops:
        x, g = crop.reference, crop.gradient
        constraint = MeanSSIM(0.9, window)
        point = torch.zeros_like(x)
        for _ in range(2):
            step = constraint.step(x, point)
            result = solvers.solve(LinearProblem(g, x, [step, Box()]), settings=Settings(eps_rel=3e-6))
            assert result.method == "energy_step"
            assert result.all_optimal, result.messages
            expected = clarabel(g, x, step)
            assert float(result.objective[0]) == pytest.approx(expected, rel=1e-5)
            assert float(result.bound[0]) == pytest.approx(expected, rel=1e-5)
            point = result.delta * constraint.bind(x).scale_factor(result.delta)


@pytest.mark.parametrize("beyond", [1.02, 1.5, 6.0])
def test_energy_projection_agrees_with_clarabel(beyond: float, photos: Photos) -> None:
    crops = [
        photos.crop("astronaut", *DARK["astronaut"], 12, channels=1),
        *photos.random_crops(2, 12, seed=3, channels=1),
    ]
    for crop in crops:
        x, g = crop.reference, crop.gradient
        step = MeanSSIM(0.9, Window.uniform(5)).step(x, torch.zeros_like(x))
        inside = torch.as_tensor(solvers.solve(LinearProblem(g, x, [step, Box()])).delta)
        point = beyond * inside + 0.1 * g / g.norm()
        result = solvers.solve(ProjectionProblem(point, x, [step, Box()]), settings=Settings(eps_rel=1e-5))
        assert result.method == "energy_step"
        assert result.all_optimal, result.messages
        expected = clarabel(point, x, step, nearest=True)
        assert float(result.objective[0]) == pytest.approx(expected, rel=1e-4, abs=1e-9)
        assert float(result.bound[0]) <= expected * (1 + 1e-6) + 1e-9
        assert float(step.bind(x).excess(torch.as_tensor(result.delta))) <= 1e-9
    # A point of the set is its own projection.
    half = solvers.solve(ProjectionProblem(0.5 * inside, x, [step, Box()]))
    torch.testing.assert_close(torch.as_tensor(half.delta), 0.5 * inside, rtol=0, atol=1e-12)


def batch_of(photos: Photos) -> tuple[Tensor, Tensor]:
    crops = list(photos.random_crops(3, 32, seed=7))
    return torch.cat([crop.reference for crop in crops]), torch.cat([crop.gradient for crop in crops])


def published(x: Tensor, d: Tensor) -> float:
    first, second = x.double().numpy(), (x.double() + d.double()).numpy()
    return float(
        structural_similarity(first, second, channel_axis=0, data_range=1.0, win_size=7, use_sample_covariance=False)
    )


def test_points_are_feasible_by_scikit_image_rise_and_end_stationary(photos: Photos) -> None:
    x, g = batch_of(photos)
    seen: list[Tensor] = []
    settings = Settings(callback=lambda progress: bool(seen.append(progress.objective)))
    problem = LinearProblem(g, x, [MeanSSIM(0.95, SEVEN), Box()])
    result = solvers.solve(problem, settings=settings)
    assert result.method == "mean_windows"
    assert all("stationary: the convex problem" in message for message in result.messages)
    assert all("no global bound" in message for message in result.messages)
    assert all(status.is_limit for status in result.status)
    assert float(torch.stack(seen).diff(dim=0).min()) >= 0
    for k in range(len(x)):
        assert published(x[k], result.delta[k]) >= 0.95 - 1e-9
    assert float((x + result.delta).min()) >= -1e-12
    assert float((x + result.delta).max()) <= 1 + 1e-12
    # Steps stopped early are feasible too.
    early = solvers.solve(problem, settings=Settings(max_iter=2))
    assert early.status == (solvers.Status.MAX_ITER,) * 3
    assert all(published(x[k], early.delta[k]) >= 0.95 - 1e-9 for k in range(3))
    assert bool((early.objective <= result.objective).all())
    # An earlier result is a start, never a loss.
    again = solvers.solve(problem, warm_start=early)
    assert bool((again.objective >= early.objective).all())


def test_beats_the_scaled_gradient_and_every_window_at_the_same_mean(photos: Photos) -> None:
    x, g = batch_of(photos)
    constraint = MeanSSIM(0.95, Window.uniform(7))
    bound = constraint.bind(x)
    strict = solvers.solve(
        LinearProblem(g, x, [WindowSSIM(0.9, constraint.window), Box()]), settings=Settings(eps_rel=1e-2)
    )
    strict_mean = bound.index(torch.as_tensor(strict.delta))
    for k in range(len(x)):
        same = MeanSSIM(float(strict_mean[k]), constraint.window)
        result = solvers.solve(LinearProblem(g[k : k + 1], x[k : k + 1], [same, Box()]))
        assert float(result.objective[0]) > float(strict.objective[k])
        own = same.bind(x[k : k + 1])
        low, high = 0.0, 100.0
        for _ in range(50):
            size = (low + high) / 2
            step = (size * g[k : k + 1] / g[k].norm()).clamp(-x[k : k + 1], 1 - x[k : k + 1])
            low, high = (size, high) if float(own.excess(step)) <= 0 else (low, size)
        assert float(result.objective[0]) > float((g[k] * step[0]).sum())


def test_a_batch_gives_what_its_images_give_alone(photos: Photos) -> None:
    x, g = batch_of(photos)
    together = solvers.solve(LinearProblem(g, x, [MeanSSIM(0.95), Box()]))
    for k in range(len(x)):
        alone = solvers.solve(LinearProblem(g[k : k + 1], x[k : k + 1], [MeanSSIM(0.95), Box()]))
        assert float(alone.objective[0]) == pytest.approx(float(together.objective[k]), rel=1e-6)
        assert alone.iterations[0] == together.iterations[k]


def test_neither_float32_nor_the_scale_of_the_gradient_changes_the_objective(photos: Photos) -> None:
    x, g = batch_of(photos)
    double = solvers.solve(LinearProblem(g, x, [MeanSSIM(0.95), Box()]))
    single = solvers.solve(LinearProblem(g.float(), x.float(), [MeanSSIM(0.95), Box()]))
    assert torch.as_tensor(single.delta).dtype == torch.float32
    torch.testing.assert_close(single.objective, double.objective, rtol=5e-3, atol=0)
    assert float(torch.as_tensor(single.max_violation).max()) < 1e-6
    scaled = solvers.solve(LinearProblem(1e-6 * g, x, [MeanSSIM(0.95), Box()]))
    torch.testing.assert_close(1e6 * scaled.objective, double.objective, rtol=1e-4, atol=0)


def test_a_zero_gradient_a_support_and_an_idle_limit_give_the_exact_answer(photos: Photos) -> None:
    x, g = batch_of(photos)
    x, g = x[:1], g[:1]
    nothing = solvers.solve(LinearProblem(0 * g, x, [MeanSSIM(0.95), Box()]))
    assert float(torch.as_tensor(nothing.delta).abs().max()) == 0
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[:, :10] = True
    held = solvers.solve(LinearProblem(g, x, [MeanSSIM(0.95), Box(), Support(mask)]))
    assert float(held.objective[0]) > 0
    assert float(torch.as_tensor(held.delta)[..., 10:].abs().max()) == 0
    # A limit that nothing reaches: the box's vertex is the answer.
    small = LinearProblem(g, 0.5 + 0 * x, [MeanSSIM(0.3), Box(0.499, 0.501)])
    vertex = 0.001 * g.abs().sum()
    assert float(solvers.solve(small).objective[0]) == pytest.approx(float(vertex), rel=1e-3)


def test_a_window_cut_to_one_pixel_has_no_contrast_to_lose() -> None:
    """Under the sample covariance C2 is 0 there, and the contrast's loss 0/0. The corner of an image of 3x3 is such a
    window of 2x2 tiles; only its luminance counts: m^2/(m^2 + C1) = 4 (1 - t) at the optimum of a black image."""
    x = np.stack([np.zeros((1, 3, 3)), np.full((1, 3, 3), 0.5), np.random.default_rng(0).random((1, 3, 3))])
    g = np.random.default_rng(1).normal(size=x.shape)
    g[0] = 0
    g[0, 0, 2, 2] = 1
    mean = MeanSSIM(0.95, Window.uniform(2, stride=2), sample_covariance=True)
    result = solvers.solve(LinearProblem(g, x, [mean, Box()]), "mean_windows", {"eps_rel": 1e-5})
    assert result.objective[0] == pytest.approx((1e-4 * 0.2 / 0.8) ** 0.5, rel=1e-4)
    assert all(message.startswith("stationary") for message in result.messages)
    for image in (1, 2):
        alone = solvers.solve(LinearProblem(g[[image]], x[[image]], [mean, Box()]), "mean_windows", {"eps_rel": 1e-5})
        assert result.objective[image] == pytest.approx(alone.objective[0], rel=1e-6)
