"""Overlapping windows with splits of their own by ``dual``: certified globally though not convex."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

import solvers
from solvers import Box, LinearProblem, LpBall, ProductSSIM, ProjectionProblem, Settings, Support, Window, WindowSSIM
from tests.solvers.conftest import Photos
from tests.solvers.methods.product_oracles import between_convex_sets

SEVEN = Window.uniform(7)


@pytest.fixture(scope="module")
def crops(photos: Photos) -> tuple[Tensor, Tensor]:
    found = [photos.crop("chelsea", 80, 80, 24), photos.crop("coffee", 90, 60, 24), photos.crop("rocket", 40, 90, 24)]
    return torch.cat([crop.reference for crop in found]), torch.cat([crop.gradient for crop in found])


def least_index(x: Tensor, d: Tensor) -> float:
    _, index = structural_similarity(
        x.double().numpy(), (x + d).double().numpy(), channel_axis=0, data_range=1.0, win_size=7,
        gaussian_weights=False, use_sample_covariance=False, full=True,
    )  # fmt: skip
    return float(index[:, 3:-3, 3:-3].min())


def test_the_optimum_is_certified_rises_and_is_better_than_every_fixed_split(crops: tuple[Tensor, Tensor]) -> None:
    x, g = crops
    seen: list[Tensor] = []
    settings = Settings(eps_rel=5e-3, callback=lambda progress: bool(seen.append(progress.objective)))
    result = solvers.solve(LinearProblem(g, x, [ProductSSIM(0.95, SEVEN), Box()]), settings=settings)
    assert result.method == "dual"
    assert result.all_optimal, (result.rel_gap, result.messages)
    assert float(torch.stack(seen).diff(dim=0).min()) >= 0
    for luminance in (1e-3, 1e-2, "split"):
        sets = [WindowSSIM(0.95, SEVEN, luminance), Box()]  # type: ignore[arg-type]
        fixed = solvers.solve(LinearProblem(g, x, sets), settings=Settings(eps_rel=5e-3))
        assert bool((result.objective > fixed.objective).all()), luminance
    for k in range(len(x)):
        least = least_index(x[k], torch.as_tensor(result.delta)[k])
        assert 0.95 - 1e-6 <= least < 0.951
    assert float((x + result.delta).min()) >= -1e-12
    assert float((x + result.delta).max()) <= 1 + 1e-12
    certificate = solvers.certify(LinearProblem(g, x, [ProductSSIM(0.95, SEVEN), Box()]), result.delta, result.dual)
    torch.testing.assert_close(certificate.bound, torch.as_tensor(result.bound), rtol=1e-4, atol=0)


@pytest.mark.parametrize("threshold", [0.95, 0.7])
def test_optimum_lies_between_those_of_two_convex_sets(threshold: float, photos: Photos) -> None:
    crop = photos.crop("coffee", 100, 70, 9, channels=1)
    window = Window.uniform(4)
    sets = [ProductSSIM(threshold, window), Box()]
    result = solvers.solve(LinearProblem(crop.gradient, crop.reference, sets), settings=Settings(eps_rel=1e-3))
    inner, outer = between_convex_sets(crop.gradient[0, 0].numpy(), crop.reference[0, 0].numpy(), window, threshold)
    assert inner * (1 - 2e-3) <= float(result.objective[0]) <= outer * (1 + 1e-6)
    assert inner * (1 - 1e-6) <= float(result.bound[0]) <= outer * (1 + 1e-3)


def test_a_projection_keeps_every_window_and_is_nearer_than_by_a_fixed_split(crops: tuple[Tensor, Tensor]) -> None:
    x, g = crops
    point = 0.05 * g / g.flatten(1).std(dim=1).reshape(-1, 1, 1, 1)
    sets = [ProductSSIM(0.95, SEVEN), Box()]
    fine = Settings(eps_rel=2e-3)
    result = solvers.solve(ProjectionProblem(point, x, sets), settings=fine)
    assert result.all_optimal, result.rel_gap
    for k in range(len(x)):
        assert least_index(x[k], torch.as_tensor(result.delta)[k]) >= 0.95 - 1e-6
    fixed = solvers.solve(ProjectionProblem(point, x, [WindowSSIM(0.95, SEVEN), Box()]), settings=fine)
    assert bool((result.objective < fixed.objective).all())
    assert float(torch.as_tensor(result.objective).sum()) < 0.998 * float(torch.as_tensor(fixed.objective).sum())


def test_float32_and_single_images_agree_and_a_warm_start_takes_fewer_iterations(crops: tuple[Tensor, Tensor]) -> None:
    x, g = crops
    sets = [ProductSSIM(0.95, Window.gaussian(1.5, 7)), Box()]
    loose = Settings(eps_rel=2e-2)
    together = solvers.solve(LinearProblem(g, x, sets), settings=loose)
    single = solvers.solve(LinearProblem(g.float(), x.float(), sets), settings=loose)
    assert single.all_optimal
    torch.testing.assert_close(single.objective, together.objective, rtol=2e-2, atol=0)
    assert float(torch.as_tensor(single.max_violation).max()) < 1e-6
    for k in range(len(x)):
        alone = solvers.solve(LinearProblem(g[k : k + 1], x[k : k + 1], sets), settings=loose)
        assert float(alone.objective[0]) == pytest.approx(float(together.objective[k]), rel=1e-3)
    tight = Settings(eps_rel=5e-3)
    first = solvers.solve(LinearProblem(g, x, sets), settings=tight)
    nearby = LinearProblem(g + 0.02 * g.roll(1, dims=-1), x, sets)
    warm = solvers.solve(nearby, settings=tight, warm_start=first)
    assert warm.all_optimal
    assert max(warm.iterations) < max(solvers.solve(nearby, settings=tight).iterations)


def test_a_ball_and_a_support_beside_it_hold(crops: tuple[Tensor, Tensor]) -> None:
    x, g = crops[0][:1], crops[1][:1]
    mask = torch.zeros(24, 24, dtype=torch.bool)
    mask[:, :15] = True
    free = solvers.solve(LinearProblem(g, x, [ProductSSIM(0.95, SEVEN), Box()]), settings=Settings(eps_rel=1e-2))
    sets = [ProductSSIM(0.95, SEVEN), Box(), LpBall(2, 0.3), Support(mask)]
    held = solvers.solve(LinearProblem(g, x, sets), settings=Settings(eps_rel=1e-2))
    assert held.all_optimal
    assert float(torch.as_tensor(held.delta)[..., 15:].abs().max()) == 0
    assert float(torch.linalg.vector_norm(torch.as_tensor(held.delta))) <= 0.3 + 1e-9
    assert 0 < float(held.objective[0]) < float(free.objective[0])


def test_what_it_cannot_take_is_refused(crops: tuple[Tensor, Tensor]) -> None:
    x = crops[0][:1]
    with pytest.raises(solvers.MethodError, match="one WindowSSIM or ProductSSIM, got 2"):
        solvers.solve(LinearProblem(x, x, [ProductSSIM(0.9), WindowSSIM(0.9), Box()]), "dual")
    assert np.isfinite(float(solvers.solve(LinearProblem(0 * x, x, [ProductSSIM(0.9), Box()])).bound[0]))


@pytest.mark.parametrize("first", [WindowSSIM, ProductSSIM])
def test_a_warm_start_from_the_other_kind_of_windows_is_taken(crops: tuple[Tensor, Tensor], first: Any) -> None:
    x, g = (value[:1] for value in crops)
    other = ProductSSIM if first is WindowSSIM else WindowSSIM
    settings = Settings(eps_rel=2e-2)
    before = solvers.solve(LinearProblem(g, x, [first(0.95, SEVEN), Box()]), "dual", settings)
    after = solvers.solve(LinearProblem(g, x, [other(0.95, SEVEN), Box()]), "dual", settings, warm_start=before)
    assert after.all_optimal


@pytest.mark.parametrize("kind", [WindowSSIM, ProductSSIM])
def test_windows_cut_to_one_pixel_with_sample_variance_are_solved(crops: tuple[Tensor, Tensor], kind: Any) -> None:
    x, g = (value[:1, :, :7, :7] for value in crops)
    constraint = kind(0.95, Window.uniform(4, stride=3), sample_covariance=True)
    result = solvers.solve(LinearProblem(g, x, [constraint, Box()]), "dual", Settings(eps_rel=1e-2))
    assert result.all_optimal, result.messages
