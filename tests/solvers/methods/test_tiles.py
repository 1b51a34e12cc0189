"""Tiles against Clarabel on statements of our own, on real gradients and on the cases that break root searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import solvers
from solvers import (
    Box,
    Constraint,
    LinearProblem,
    MethodError,
    ProjectionProblem,
    Support,
    Window,
    WindowDual,
    WindowSSIM,
)
from tests.solvers import oracles
from tests.solvers.conftest import DARK, Crop, Photos

Draw = Callable[..., Tensor]
TIGHT = {"eps_rel": 1e-9, "eps_abs": 1e-12}
WINDOWS = {
    "8": Window.uniform(8, stride=8),
    "5": Window.uniform(5, stride=5),  # partial tiles at 32 and 64
    "gaussian 7": Window.gaussian(1.5, 7, stride=7),
}
SHARES: dict[str, dict[str, Any]] = {
    "default": {},
    "split": {"luminance": "split"},
    "preserve": {"luminance": "preserve"},
    "number": {"luminance": 0.02},
    "sample covariance": {"sample_covariance": True},
}
kinds = pytest.mark.parametrize("linear", [True, False], ids=["linear", "projection"])


def pose(vector: Tensor, x: Tensor, sets: list[Constraint], linear: bool) -> solvers.Problem:
    return LinearProblem(vector, x, sets) if linear else ProjectionProblem(vector, x, sets)


def agrees(vector: Tensor, x: Tensor, sets: list[Constraint], *, linear: bool = True) -> solvers.SolveResult:
    """Solve a batch with tiles; check it image by image against Clarabel, and the certificate."""
    result = solvers.solve(pose(vector, x, sets, linear), "tiles", TIGHT)
    assert result.all_optimal, result.messages
    assert float(torch.as_tensor(result.max_violation).max()) < 1e-9
    for k in range(len(x)):
        value, delta = oracles.optimum(vector[k].numpy(), x[k].numpy(), sets, linear=linear)
        assert float(result.objective[k]) == pytest.approx(value, rel=1e-7, abs=1e-9)
        assert float(result.bound[k]) == pytest.approx(value, rel=1e-7, abs=1e-9)
        if not linear:
            np.testing.assert_allclose(result.delta[k], delta, atol=3e-4)
    return result


def projected(crop: Crop) -> Tensor:
    """A perturbation to project: the gradient as large as an attack would have it."""
    return 0.1 * crop.gradient / crop.gradient.abs().amax()


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("window", WINDOWS)
def test_optima_on_real_gradients_agree_with_clarabel_for_every_window_and_share(
    window: str, share: str, photos: Photos
) -> None:
    seed = 10 * list(WINDOWS).index(window) + list(SHARES).index(share)
    threshold = (0.99, 0.95, 0.9, 0.8)[seed % 4]
    sets: list[Constraint] = [WindowSSIM(threshold, WINDOWS[window], **SHARES[share]), Box()]
    crop = list(photos.random_crops(1 + seed % 5, 32, seed=seed))[-1]
    agrees(crop.gradient, crop.reference, sets)
    agrees(projected(crop), crop.reference, sets, linear=False)


@pytest.mark.parametrize("name", DARK)
@pytest.mark.parametrize("window", ["8", "5"])
def test_optima_in_dark_corners_where_the_box_is_active_agree_with_clarabel(
    window: str, name: str, photos: Photos
) -> None:
    crop = photos.crop(name, *DARK[name], 64, channels=1)
    agrees(crop.gradient, crop.reference, [WindowSSIM(0.95, WINDOWS[window]), Box()])


def test_optima_on_colour_photos_agree_with_clarabel(photos: Photos) -> None:
    for crop in photos.random_crops(3, 64, seed=5):
        agrees(crop.gradient, crop.reference, [WindowSSIM(0.9, WINDOWS["8"], luminance="split"), Box()])


@kinds
@pytest.mark.parametrize("share", SHARES)
def test_optima_without_a_box_or_with_fixed_pixels_agree_with_clarabel(
    share: str, linear: bool, photos: Photos
) -> None:
    crop = photos.crop("coffee", 60, 60, 24, channels=1).inside()
    vector = crop.gradient if linear else 0.1 * crop.gradient / crop.gradient.abs().amax()
    mask = torch.rand(24, 24, generator=torch.Generator().manual_seed(2)) > 0.4
    mask[:8, :8] = False  # whole tiles fixed
    for window in (Window.uniform(8, stride=8), Window.uniform(5, stride=5), Window.gaussian(1.5, 7, stride=7)):
        ssim = WindowSSIM(0.95, window, **SHARES[share])
        agrees(vector, crop.reference, [ssim], linear=linear)
        for sets in ([ssim, Support(mask)], [Support(mask), Box(), ssim]):
            result = agrees(vector, crop.reference, sets, linear=linear)
            assert not bool(torch.as_tensor(result.delta)[..., ~mask].any())


SIZE = (1, 11, 13)


def images(uniform: Draw) -> dict[str, Tensor]:
    stripes = torch.zeros(SIZE, dtype=torch.float64)
    stripes[..., ::2] = 1.0
    return {
        "noise": uniform(*SIZE),
        "black": torch.zeros(SIZE, dtype=torch.float64),
        "white": torch.ones(SIZE, dtype=torch.float64),
        "stripes": stripes,
        "constant": torch.full(SIZE, 0.37, dtype=torch.float64),
        "nearly black": 0.01 * uniform(*SIZE),
    }


def vectors(normal: Draw) -> dict[str, Tensor]:
    noise = normal(*SIZE)
    return {
        "noise": noise,
        "zero": 0 * noise,
        "constant": torch.full(SIZE, 2.0, dtype=torch.float64),
        "signs": noise.sign(),  # ties everywhere
        "sparse": noise * (noise > 0.8),
        "rising": noise.abs(),
        "falling": -noise.abs(),
        "almost constant": 1 + 1e-9 * noise,
        "tiny": 1e-9 * noise,
    }


@kinds
@pytest.mark.parametrize("share", ["default", "split", "preserve"])
@pytest.mark.parametrize("threshold", [0.95, 0.3])
def test_images_and_gradients_that_break_root_searches_are_solved_and_certified(
    threshold: float, share: str, linear: bool, uniform: Draw, normal: Draw
) -> None:
    """Every image with every gradient, as one batch: ties, constants, empty mean intervals, inactive balls."""
    pairs = [(x, v) for x in images(uniform).values() for v in vectors(normal).values()]
    x, vector = torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])
    for window in (Window.uniform(4, stride=4), Window.gaussian(1.5, 5, stride=5)):
        sets: list[Constraint] = [WindowSSIM(threshold, window, **SHARES[share]), Box()]
        result = solvers.solve(pose(vector, x, sets, linear), "tiles", {"eps_rel": 1e-9, "eps_abs": 1e-10})
        assert result.all_optimal, [(k, m) for k, m in enumerate(result.messages) if m]
        assert float(torch.as_tensor(result.max_violation).max()) < 1e-9


@pytest.mark.parametrize("gradient", ["constant", "signs", "sparse", "falling"])
def test_ties_and_constants_agree_with_clarabel(gradient: str, uniform: Draw, normal: Draw) -> None:
    x = torch.stack(list(images(uniform).values()))
    vector = vectors(normal)[gradient].expand_as(x).contiguous()
    for share in ("split", "default"):
        agrees(vector, x, [WindowSSIM(0.9, Window.uniform(4, stride=4), **SHARES[share]), Box()])


def test_in_black_windows_a_packing_problem_is_left_and_the_ball_is_inactive() -> None:
    """Design, section 6: the mean may move little, d >= 0, so the optimum is spikes at the largest gradients."""
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    gradient = torch.arange(64, dtype=torch.float64).reshape(1, 1, 8, 8)
    constraint = WindowSSIM(0.95, Window.uniform(8, stride=8), luminance=1e-8)
    result = solvers.solve(LinearProblem(gradient, x, [constraint, Box()]), "tiles", TIGHT)
    bound = constraint.bind(x)
    spike = torch.zeros_like(x)
    spike[..., 7, 7] = 64 * float(bound.mean_upper)
    np.testing.assert_allclose(result.delta, spike, atol=1e-15)
    block = result.dual[0]
    assert isinstance(block, WindowDual)
    assert float(block.ball) == 0
    assert float(result.rel_gap[0]) < 1e-9


@kinds
def test_a_gradient_of_zero_moves_nothing_and_a_feasible_point_stays(linear: bool, uniform: Draw) -> None:
    x = uniform(1, 1, 11, 13)
    sets: list[Constraint] = [WindowSSIM(0.9, Window.uniform(4, stride=4)), Box()]
    if linear:
        result = solvers.solve(LinearProblem(torch.zeros_like(x), x, sets), "tiles")
        assert result.objective.tolist() == [0.0]
    else:
        inside = 1e-4 * (x - 0.5)
        result = solvers.solve(ProjectionProblem(inside, x, sets), "tiles")
        assert torch.equal(torch.as_tensor(result.delta), inside)
    assert result.all_optimal


@kinds
def test_solving_twice_gives_the_same_bits(linear: bool, photos: Photos) -> None:
    crop = photos.crop("astronaut", 150, 150, 64)
    vector = crop.gradient if linear else projected(crop)
    problem = pose(vector, crop.reference, [WindowSSIM(0.95, WINDOWS["5"]), Box()], linear)
    first, second = (solvers.solve(problem, "tiles") for _ in range(2))
    assert torch.equal(torch.as_tensor(first.delta), torch.as_tensor(second.delta))
    assert torch.equal(torch.as_tensor(first.bound), torch.as_tensor(second.bound))


def test_a_batch_of_unlike_images_is_solved_as_if_alone(photos: Photos) -> None:
    crops = [
        photos.crop("astronaut", 150, 150, 32),
        photos.crop("chelsea", 100, 90, 32),
        photos.crop("rocket", 0, 0, 32),
    ]
    x, g = torch.cat([c.reference for c in crops]), torch.cat([c.gradient for c in crops])
    g = g * torch.tensor([1.0, 1e-6, 1e6], dtype=torch.float64).reshape(3, 1, 1, 1)
    sets: list[Constraint] = [WindowSSIM(0.95, WINDOWS["8"]), Box()]
    whole = solvers.solve(LinearProblem(g, x, sets), "tiles")
    for k in range(3):
        part = slice(k, k + 1)
        single = solvers.solve(LinearProblem(g[part], x[part], sets), "tiles")
        np.testing.assert_allclose(whole.delta[part], single.delta, rtol=1e-9, atol=1e-12)
        assert float(whole.bound[k]) == pytest.approx(float(single.bound[0]), rel=1e-12)


def test_pixels_of_a_valid_border_in_no_tile_keep_their_value(uniform: Draw, normal: Draw) -> None:
    x, g = uniform(1, 1, 11, 13), normal(1, 1, 11, 13)
    sets: list[Constraint] = [WindowSSIM(0.9, Window.uniform(4, stride=4, border="valid")), Box()]
    result = agrees(g, x, sets)
    delta = torch.as_tensor(result.delta)
    assert not bool(delta[..., 8:, :].any())
    assert not bool(delta[..., 12:].any())


def test_other_data_ranges_scale_the_answer(uniform: Draw, normal: Draw) -> None:
    x, g = uniform(1, 1, 11, 13), normal(1, 1, 11, 13)
    window = Window.uniform(4, stride=4)
    one = solvers.solve(LinearProblem(g, x, [WindowSSIM(0.9, window), Box()]), "tiles")
    many = solvers.solve(
        LinearProblem(g, 255 * x, [WindowSSIM(0.9, window, data_range=255.0), Box(0.0, 255.0)]), "tiles"
    )
    np.testing.assert_allclose(many.delta, 255 * torch.as_tensor(one.delta), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([WindowSSIM(0.9, Window.uniform(4, stride=3))], "don't overlap, got size 4 at stride 3"),
        ([Box()], "needs WindowSSIM"),
        ([WindowSSIM(0.9, Window.uniform(4, stride=4)), solvers.LpBall(2, 1.0)], "can't take LpBall"),
        ([WindowSSIM(0.9, Window.uniform(4, stride=4)), WindowSSIM(0.9, Window.uniform(5, stride=5))], "got 2"),
    ],
)
def test_what_it_cannot_take_is_refused_with_the_reason(sets: list[Any], message: str, uniform: Draw) -> None:
    x = uniform(1, 1, 11, 13)
    with pytest.raises(MethodError, match=f"method 'tiles' .*{message}; methods that can: .*cvxpy:clarabel"):
        solvers.solve(LinearProblem(x, x, sets), "tiles")
