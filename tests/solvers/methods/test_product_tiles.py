"""Tiles with a split of their own: the global optimum, against brute force and every fixed split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

import solvers
from solvers import Box, LinearProblem, ProductSSIM, ProjectionProblem, Settings, Support, Window, WindowSSIM
from tests.solvers.conftest import Photos
from tests.solvers.methods.product_oracles import between_convex_sets, brute_force, tile_terms

TIGHT = Settings(eps_rel=1e-7)
SPLITS: tuple[Any, ...] = ("split", "preserve", 1e-3, 1e-2, 0.04)


def one_tile(side: int, seed: int, dark: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return np.clip(0.9 * random.random((side, side)) - dark, 0, 1), random.normal(size=(side, side)) + random.normal()


@pytest.mark.parametrize(("side", "threshold", "dark"), [(3, 0.95, 0.0), (3, 0.7, 0.6), (4, 0.9, 0.8), (4, 0.5, 0.0)])
@pytest.mark.parametrize("linear", [True, False])
def test_one_tile_is_no_worse_than_brute_force_and_the_bound_no_lower(
    side: int, threshold: float, dark: float, linear: bool
) -> None:
    x, vector = one_tile(side, seed=side, dark=dark)
    constraint = ProductSSIM(threshold, Window.uniform(side, stride=side))
    pose: Any = LinearProblem if linear else ProjectionProblem
    vector = vector if linear else 0.3 * vector
    result = solvers.solve(pose(vector[None, None], x[None, None], [constraint, Box()]), settings=TIGHT)
    assert result.method == "product_tiles"
    best = brute_force(vector, x, threshold, starts=18, linear=linear)
    sign = 1 if linear else -1
    assert sign * float(result.objective[0]) >= sign * best - 1e-6 * best
    assert sign * float(result.bound[0]) >= sign * best - 1e-6 * best
    first, second = tile_terms(x, np.asarray(result.delta)[0, 0])
    assert first > 0
    assert second > 0
    assert first * second == pytest.approx(threshold, abs=1e-6)
    assert first * second >= threshold - 1e-9


def test_optimum_lies_between_those_of_two_convex_sets() -> None:
    x, g = one_tile(4, seed=1)
    window = Window.uniform(4, stride=4)
    for threshold in (0.95, 0.6):
        problem = LinearProblem(g[None, None], x[None, None], [ProductSSIM(threshold, window), Box()])
        result = solvers.solve(problem, settings=TIGHT)
        inner, outer = between_convex_sets(g, x, window, threshold)
        assert inner * (1 - 1e-6) <= float(result.objective[0]) <= outer * (1 + 1e-6)
        assert float(result.bound[0]) <= outer * (1 + 1e-6)


@pytest.fixture(scope="module", params=["chelsea", "astronaut"])
def crop(request: pytest.FixtureRequest, photos: Photos) -> tuple[Tensor, Tensor]:
    # The second one is near black: gains have kinks there.
    found = photos.crop("chelsea", 80, 80, 35) if request.param == "chelsea" else photos.crop("astronaut", 150, 150, 35)
    return found.reference, found.gradient


@pytest.mark.parametrize("threshold", [0.95, 0.8])
def test_photo_is_certified_beats_every_split_and_keeps_scikit_images_map(
    threshold: float, crop: tuple[Tensor, Tensor]
) -> None:
    x, g = crop
    window = Window.uniform(7, stride=7)
    result = solvers.solve(LinearProblem(g, x, [ProductSSIM(threshold, window), Box()]), settings=TIGHT)
    assert result.all_optimal, (result.rel_gap, result.messages)
    assert "not convex; global bound" in result.messages[0]
    for luminance in SPLITS:
        fixed = solvers.solve(LinearProblem(g, x, [WindowSSIM(threshold, window, luminance), Box()]), settings=TIGHT)
        assert float(result.objective[0]) > float(fixed.objective[0])
    _, index = structural_similarity(
        x[0].numpy(), (x + result.delta)[0].numpy(), channel_axis=0, data_range=1.0, win_size=7,
        gaussian_weights=False, use_sample_covariance=False, full=True,
    )  # fmt: skip
    tiles = index[:, 3::7, 3::7]
    assert tiles.min() >= threshold - 1e-6
    assert np.median(tiles) == pytest.approx(threshold, abs=1e-6)


def test_no_split_of_a_grid_gains_more_on_any_tile(crop: tuple[Tensor, Tensor]) -> None:
    x, g = (image[:, :2, :14, :21] for image in crop)
    window = Window.uniform(7, stride=7)
    for threshold in (0.9, 0.4):  # at the lower one, gains may have two peaks
        result = solvers.solve(LinearProblem(g, x, [ProductSSIM(threshold, window), Box()]), settings=TIGHT)

        def by_tile(delta: Any) -> Tensor:
            gain = (g * torch.as_tensor(delta))[0].reshape(2, 2, 7, 3, 7)
            return gain.sum(dim=(2, 4))

        best = torch.full((2, 2, 3), -torch.inf, dtype=torch.float64)
        for luminance in ("preserve", *((1 - threshold) * np.sin(np.linspace(0.01, 1.56, 12)) ** 2)):
            sets = [WindowSSIM(threshold, window, luminance), Box()]
            best = torch.maximum(best, by_tile(solvers.solve(LinearProblem(g, x, sets)).delta))
        assert bool((by_tile(result.delta) >= best - 1e-6 * best.abs().mean()).all())


def test_projection_is_nearer_than_by_every_split_and_a_member_stays(crop: tuple[Tensor, Tensor]) -> None:
    x, g = crop
    window = Window.uniform(7, stride=7)
    point = 0.1 * g / g.std() + 0.05
    sets = [ProductSSIM(0.9, window), Box()]
    result = solvers.solve(ProjectionProblem(point, x, sets), settings=TIGHT)
    assert result.all_optimal
    for luminance in SPLITS:
        fixed = solvers.solve(ProjectionProblem(point, x, [WindowSSIM(0.9, window, luminance), Box()]))
        assert float(result.objective[0]) < float(fixed.objective[0])
    inside = 0.9 * torch.as_tensor(result.delta)
    again = solvers.solve(ProjectionProblem(inside, x, sets))
    torch.testing.assert_close(torch.as_tensor(again.delta), inside, rtol=0, atol=1e-9)


def test_a_batch_float32_and_scaling_agree_and_other_sets_order_the_objective(crop: tuple[Tensor, Tensor]) -> None:
    x, g = torch.cat([crop[0], crop[0].flip(-1)]), torch.cat([crop[1], 0 * crop[1]])
    window = Window.uniform(8, stride=8, border="valid")
    constraint = ProductSSIM(0.95, window, sample_covariance=True)
    both = solvers.solve(LinearProblem(g, x, [constraint, Box()]), settings=TIGHT)
    assert float(both.objective[1]) == 0
    assert float(torch.as_tensor(both.delta)[..., 32:].abs().max()) == 0
    alone = solvers.solve(LinearProblem(g[:1], x[:1], [constraint, Box()]), settings=TIGHT)
    torch.testing.assert_close(both.objective[:1], alone.objective)
    single = solvers.solve(LinearProblem(g.float(), x.float(), [constraint, Box()]))
    assert torch.as_tensor(single.delta).dtype == torch.float32
    torch.testing.assert_close(single.objective, both.objective, rtol=1e-4, atol=0)
    scaled = solvers.solve(LinearProblem(1e-6 * g[:1], x[:1], [constraint, Box()]), settings=TIGHT)
    torch.testing.assert_close(1e6 * scaled.objective, alone.objective, rtol=1e-7, atol=0)
    mask = torch.zeros(35, 35, dtype=torch.bool)
    mask[5:20, 3:] = True
    held = solvers.solve(LinearProblem(g[:1], x[:1], [constraint, Box(), Support(mask)]), settings=TIGHT)
    assert held.all_optimal
    assert float(torch.as_tensor(held.delta).masked_fill(mask, 0).abs().max()) == 0
    assert 0 < float(held.objective[0]) < float(alone.objective[0])
    free = solvers.solve(LinearProblem(g[:1], x[:1], [constraint]), settings=TIGHT)
    assert free.all_optimal
    assert float(free.objective[0]) >= float(alone.objective[0])


@pytest.mark.parametrize(
    ("limit", "word", "steps"),
    [({"max_iter": 1}, "max_iter", 1), ({"callback": bool, "check_interval": 1}, "stopped", 0),
     ({"callback": lambda progress: progress.iteration > 0, "check_interval": 1}, "stopped", 1),
     ({"time_limit": 1e-9}, "time_limit", 0)],
)  # fmt: skip
def test_limits_and_the_callback_end_the_search_with_a_certified_point(
    photos: Photos, limit: dict[str, Any], word: str, steps: int
) -> None:
    crop = photos.crop("chelsea", 80, 80, 32)
    constraint = ProductSSIM(0.95, Window.uniform(8, stride=8))
    result = solvers.solve(
        LinearProblem(crop.gradient, crop.reference, [constraint, Box()]), settings=Settings(**limit)
    )
    assert result.iterations == (steps,)
    assert result.status[0].value == word
    # What there is, is certified; without a step d = 0.
    assert 1e-3 < float(result.rel_gap[0]) <= 1
    assert (float(result.objective[0]) > 0) == (steps > 0)
