"""The global bound on tiles against brute force, and points against scikit-image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from skimage.metrics import structural_similarity
from torch import Tensor

import solvers
from solvers import Box, LinearProblem, MeanSSIM, MethodError, Settings, Support, Window, WindowSSIM
from solvers.constraints.mean_index.tile_losses import TileLevels
from tests.solvers.conftest import Photos

C1, C2 = 1e-4, 9e-4


def own_index(x: np.ndarray, d: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean SSIM over whole tiles and the largest 1 - S1, written out: x (H, W), d (..., H, W), real or complex."""
    values, luminance = [], []
    for top in range(0, x.shape[0], size):
        for left in range(0, x.shape[1], size):
            tile = (..., slice(top, top + size), slice(left, left + size))
            a = x[tile].ravel()
            b = a + d[tile].reshape(*d.shape[:-2], -1)
            means = a.mean(), b.mean(axis=-1)
            first = (2 * means[0] * means[1] + C1) / (means[0] ** 2 + means[1] ** 2 + C1)
            rest = a - means[0], b - means[1][..., None]
            covariance, variance = (rest[0] * rest[1]).mean(axis=-1), (rest[1] ** 2).mean(axis=-1)
            luminance.append(1 - first)
            values.append(first * (2 * covariance + C2) / ((rest[0] ** 2).mean() + variance + C2))
    return np.mean(values, axis=0), np.max(luminance, axis=0)


def brute_force(g: np.ndarray, x: np.ndarray, constraint: MeanSSIM, starts: int) -> float:
    """The best of local searches from many points, feasible ones alone."""
    size, shape = constraint.window.size, x.shape
    random = np.random.default_rng(0)
    beta = constraint.beta

    def margins(d: np.ndarray) -> np.ndarray:
        index, luminance = own_index(x, d.reshape(*d.shape[:-1], *shape), size)
        return np.stack([index - constraint.threshold] + ([beta - luminance] if np.isfinite(beta) else []))

    def slopes(d: np.ndarray) -> np.ndarray:
        """By complex steps: exact, and all pixels in one call."""
        return margins(d + 1e-30j * np.eye(d.size)).imag / 1e-30

    best, bounds = 0.0, list(zip(-x.ravel(), 1 - x.ravel(), strict=True))
    for k in range(starts):
        scale = (0.05, 0.3, 1.0)[k % 3]
        start = np.clip(scale * (g / abs(g).max() * random.random() + random.normal(size=shape)), -x, 1 - x).ravel()
        found = minimize(
            lambda d: -(g.ravel() @ d), start, jac=lambda d: -g.ravel(), bounds=bounds, method="SLSQP",
            constraints={"type": "ineq", "fun": margins, "jac": slopes}, options={"maxiter": 200},
        ).x  # fmt: skip
        found = np.clip(found, -x.ravel(), 1 - x.ravel())
        if margins(found).min() >= -1e-7:
            best = max(best, float(g.ravel() @ found))
    return best


@pytest.mark.parametrize("luminance", [None, 0.02])
@pytest.mark.parametrize(("shape", "size", "threshold"), [((2, 4), 2, 0.7), ((4, 4), 2, 0.9), ((3, 6), 3, 0.8)])
def test_bound_is_above_brute_force(
    shape: tuple[int, int], size: int, threshold: float, luminance: float | None
) -> None:
    random = np.random.default_rng(sum(shape))
    x, g = 0.1 + 0.8 * random.random(shape), random.normal(size=shape)
    constraint = MeanSSIM(threshold, Window.uniform(size, stride=size), luminance=luminance)
    problem = LinearProblem(g[None, None], x[None, None], [constraint, Box()])
    result = solvers.solve(problem, "mean_tiles")
    best = brute_force(g, x, constraint, starts=24)
    assert float(result.bound[0]) >= best * (1 - 1e-6)
    # Few tiles leave a gap that no multiplier closes: the fewer, the wider.
    assert float(result.objective[0]) >= (0.85 if shape == (4, 4) else 0.6) * best
    index, shift = own_index(x, np.asarray(result.delta)[0, 0], size)
    assert index >= threshold - 1e-9
    assert shift <= constraint.beta + 1e-9


@pytest.fixture(scope="module")
def chelsea(photos: Photos) -> tuple[Tensor, Tensor]:
    crop = photos.crop("chelsea", 80, 80, 64)
    return crop.reference, crop.gradient


@pytest.mark.parametrize("luminance", [1e-3, "preserve"])
def test_photo_is_solved_to_a_thousandth(luminance: Any, chelsea: tuple[Tensor, Tensor]) -> None:
    x, g = chelsea
    constraint = MeanSSIM(0.95, Window.uniform(8, stride=8), luminance=luminance)
    result = solvers.solve(LinearProblem(g, x, [constraint, Box()]), "mean_tiles")
    assert result.all_optimal, (result.rel_gap, result.messages)
    assert "global bound" in result.messages[0]
    assert float(result.max_violation[0]) < 1e-9
    # Every window at the threshold is a smaller set.
    strict = solvers.solve(
        LinearProblem(g, x, [WindowSSIM(0.95, constraint.window, luminance=luminance), Box()]), "tiles"
    )
    assert float(result.objective[0]) > 1.2 * float(strict.objective[0])


def test_the_index_at_the_optimum_is_the_threshold_by_scikit_image(photos: Photos) -> None:
    crop = photos.crop("chelsea", 80, 80, 63)
    x, g = crop.reference, crop.gradient
    constraint = MeanSSIM(0.95, Window.uniform(7, stride=7))
    result = solvers.solve(LinearProblem(g, x, [constraint, Box()]), settings=Settings(eps_rel=5e-3))
    assert result.method == "mean_tiles"
    assert float(result.rel_gap[0]) < 5e-3
    _, index = structural_similarity(
        x[0].numpy(), (x + result.delta)[0].numpy(), channel_axis=0, data_range=1.0, win_size=7,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    # The map at the tiles' centres is the index of the tiles.
    assert float(index[:, 3::7, 3::7].mean()) == pytest.approx(0.95, abs=1e-5)
    assert float(index[:, 3::7, 3::7].mean()) >= 0.95 - 1e-9
    local = solvers.solve(LinearProblem(g, x, [constraint, Box()]), "mean_windows")
    assert float(local.objective[0]) <= float(result.bound[0]) * (1 + 1e-9)


@pytest.mark.parametrize(("luminance", "factors"), [(1e-2, (0.0, 0.2, 1.0, 5.0, 1e3)), (None, (0.2, 5.0))])
def test_any_multiplier_bounds_and_any_point_is_below(
    luminance: float | None, factors: tuple[float, ...], chelsea: tuple[Tensor, Tensor]
) -> None:
    x, g = chelsea[0][:, :1, :16, :16], chelsea[1][:, :1, :16, :16]
    problem = LinearProblem(g, x, [MeanSSIM(0.9, Window.uniform(8, stride=8), luminance=luminance), Box()])
    best = solvers.solve(problem, "mean_tiles", {"eps_rel": 0.05})
    for factor in factors:
        block = factor * torch.as_tensor(best.dual[0])
        certificate = solvers.certify(problem, torch.as_tensor(best.delta), [block, None])
        assert float(certificate.bound[0]) >= float(best.objective[0]) * (1 - 1e-9)
    with pytest.raises(solvers.ProblemError, match="must have shape"):
        solvers.certify(problem, torch.as_tensor(best.delta), [g, None])


def test_planes_lie_above_what_tiles_can_gain(chelsea: tuple[Tensor, Tensor]) -> None:
    x, g = chelsea[0][..., :24, :24], chelsea[1][..., :24, :24]
    bound = MeanSSIM(0.9, Window.uniform(8, stride=8)).bind(x)
    levels = TileLevels(bound, g, -x, 1 - x)
    one = torch.ones_like(levels.mean)
    pairs = [(1e-3, 1e-2), (0.05, 1e-3), (0.05, 0.3), (2.0, 0.1)]
    cuts = [levels.solve(a * one, b * one) for a, b in pairs]
    for (a, b), own in zip(pairs, cuts, strict=True):
        torch.testing.assert_close(own.start + own.slope_a * a + own.slope_b * b, own.value, rtol=1e-7, atol=1e-9)
        assert bool((own.loss <= 1 - 1 / ((1 + a) * (1 + b)) + 1e-9).all())
        for other in cuts:
            assert bool((other.start + other.slope_a * a + other.slope_b * b >= own.value - 1e-9).all())


def test_a_batch_in_float32_agrees_with_its_images_and_a_support_holds(chelsea: tuple[Tensor, Tensor]) -> None:
    x = torch.cat([chelsea[0][..., :32, :32], chelsea[0][..., 32:, 32:], chelsea[0][..., :32, 32:]])
    g = torch.cat([chelsea[1][..., :32, :32], chelsea[1][..., 32:, 32:], 0 * chelsea[1][..., :32, 32:]])
    sets = [MeanSSIM(0.95, Window.uniform(8, stride=8), luminance=1e-3), Box()]
    result = solvers.solve(LinearProblem(g.float(), x.float(), sets), "mean_tiles", {"eps_rel": 5e-3})
    assert torch.as_tensor(result.delta).dtype == torch.float32
    assert float(result.objective[2]) == 0
    for k in range(2):
        alone = solvers.solve(LinearProblem(g[k : k + 1], x[k : k + 1], sets), "mean_tiles", {"eps_rel": 5e-3})
        assert float(alone.objective[0]) == pytest.approx(float(result.objective[k]), rel=2e-3)
        assert float(alone.bound[0]) == pytest.approx(float(result.bound[k]), rel=1e-3)
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[3:20, 5:] = True
    held = solvers.solve(LinearProblem(g[:1], x[:1], [*sets, Support(mask)]), "mean_tiles", {"eps_rel": 0.05})
    assert float(torch.as_tensor(held.delta).masked_fill(mask, 0).abs().max()) == 0
    assert 0 < float(held.objective[0]) < float(result.objective[0])


def test_dark_pixels_below_0_are_refused() -> None:
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    tiles = Window.uniform(4, stride=4)
    with pytest.raises(MethodError, match="pixels stay at or above 0"):
        solvers.solve(LinearProblem(x, x, [MeanSSIM(0.9, tiles), Box(-1, 1)]), "mean_tiles")
    bounded = LinearProblem(x, x, [MeanSSIM(0.9, tiles, luminance=1e-3), Box(-1, 1)])
    assert solvers.solve(bounded, "mean_tiles").status[0].has_solution
