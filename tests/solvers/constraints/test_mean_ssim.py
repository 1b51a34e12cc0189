"""The published mean index against scikit-image, its scaling, its convex step, and what refuses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

import solvers
from solvers import Box, LinearProblem, MeanSSIM, MethodError, ProblemError, ProjectionProblem, Window, WindowSSIM
from solvers.constraints.mean_index.ellipsoid import MeanSSIMStep
from tests.solvers import oracles

Draw = Callable[..., Tensor]
# Window, sample covariance, and scikit-image's arguments for the same index.
PUBLISHED: dict[str, tuple[Window, bool, dict[str, Any]]] = {
    "gaussian 11": (
        Window.gaussian(border="valid"),
        False,
        {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
    ),
    "uniform 7": (Window.uniform(7, border="valid"), True, {"win_size": 7}),
    "uniform 7, plain": (Window.uniform(7, border="valid"), False, {"win_size": 7, "use_sample_covariance": False}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_index_is_scikit_images(name: str, uniform: Draw, normal: Draw) -> None:
    window, sample, arguments = PUBLISHED[name]
    x = uniform(2, 3, 24, 29)
    for size in (0.02, 0.3):
        d = size * normal(2, 3, 24, 29)
        index = MeanSSIM(0.9, window, sample_covariance=sample).bind(x).index(d)
        for k in range(2):
            expected = structural_similarity(
                x[k].numpy(), (x + d)[k].numpy(), channel_axis=0, data_range=1.0, **arguments
            )
            assert float(index[k]) == pytest.approx(expected, abs=1e-10)


def test_index_of_no_change_is_1_and_keeps_digits(uniform: Draw) -> None:
    bound = MeanSSIM(0.9).bind(uniform(1, 1, 12, 12))
    d = torch.full((1, 1, 12, 12), 1e-9, dtype=torch.float64)
    assert float(bound.index(0 * d)) == 1
    assert 0 < float(bound.loss(d)) < 1e-15


def test_scaling_ends_on_the_surface_and_all_smaller_scales_are_inside(uniform: Draw, normal: Draw) -> None:
    x, d = uniform(3, 1, 16, 16), 0.5 * normal(3, 1, 16, 16)
    d[2] *= 1e-3
    bound = MeanSSIM(0.9).bind(x)
    factor = bound.scale_factor(d)
    assert float(factor[2]) == 1
    assert (bound.index(factor.reshape(-1, 1, 1, 1) * d)[:2] - 0.9).abs().max() < 1e-12
    for share in torch.linspace(0, 1, 40):
        assert float(bound.excess(share * factor.reshape(-1, 1, 1, 1) * d).max()) <= 1e-12


def test_scaling_of_reversed_windows_is_safe(uniform: Draw) -> None:
    # Beyond its peak a window's loss falls again: towards the end of the ray the index rises.
    x = uniform(1, 1, 14, 14)
    bound = MeanSSIM(0.5, Window.uniform(7, stride=7)).bind(x)
    d = torch.zeros_like(x)
    d[..., :7, :7] = -3 * (x[..., :7, :7] - x[..., :7, :7].mean())
    factor = float(bound.scale_factor(d))
    assert float(bound.index(d)) > 0.5
    assert factor == 1
    assert all(float(bound.excess(t * d)) <= 1e-12 for t in torch.linspace(0, 1, 200))
    # Where the whole image is reversed it stops before the index leaves the set, though it comes back.
    d = -40 * (x - bound.operator.adjoint(bound.operator.mean(x)) * 49)
    factor = float(bound.scale_factor(d))
    assert 0 < factor < 1
    assert all(float(bound.excess(factor * t * d)) <= 1e-12 for t in torch.linspace(0, 1, 200))


def test_scaling_stops_where_the_ray_leaves_the_set_by_little_and_comes_back(uniform: Draw) -> None:
    x = uniform(1, 1, 14, 14)
    window = Window.uniform(7, stride=7)
    d = torch.zeros_like(x)
    d[..., :7, :7] = -3 * (x[..., :7, :7] - x[..., :7, :7].mean())
    shares = torch.linspace(0, 1, 400, dtype=torch.float64)
    lowest = min(float(MeanSSIM(0.5, window).bind(x).index(share * d)) for share in shares)
    bound = MeanSSIM(lowest + 5e-4, window).bind(x)
    factor = float(bound.scale_factor(d))
    assert float(bound.index(d)) > lowest + 1e-2
    assert 0.5 < factor < 0.9
    assert all(float(bound.excess(factor * share * d)) <= 1e-12 for share in shares)


@pytest.mark.parametrize("multiplier", [0.0, 1e-3, 0.1, 10.0])
def test_a_bound_covers_points_that_reverse_a_window(multiplier: float, uniform: Draw) -> None:
    """The mean of two windows may stay positive with one of them at -1; such a point gains most along -x."""
    x = 0.3 + 0.4 * uniform(1, 1, 4, 8)
    bound = MeanSSIM(1e-3, Window.uniform(4, stride=4)).bind(x)
    direction = torch.zeros_like(x)
    direction[..., :4] = x[..., :4].mean() - x[..., :4]
    reversing = 1.9 * direction
    assert float(bound.excess(reversing)) <= 0
    block = torch.tensor([multiplier], dtype=torch.float64)
    supremum = bound.supremum(direction, block, -x, 1 - x)
    assert supremum is not None
    assert float(supremum) >= float((direction * reversing).sum())


def test_luminance_bounds_every_window(uniform: Draw, normal: Draw) -> None:
    x, d = uniform(1, 1, 16, 16), 0.05 * normal(1, 1, 16, 16) + 0.1
    tiles = Window.uniform(8, stride=8)
    bound = MeanSSIM(0.8, tiles, luminance=1e-3).bind(x)
    assert float(bound.index(d)) > 0.8
    assert float(bound.excess(d)) > 0
    moved = bound.retract(d, -x, 1 - x)
    assert float(bound.losses(moved)[0].max()) <= 1e-3 + 1e-12
    kept = MeanSSIM(0.8, tiles, luminance="preserve").bind(x)
    assert kept.has_equality
    assert float(kept.excess(kept.retract(d, -x, 1 - x))) < 1e-12


def test_uncovered_pixels_keep_their_value(uniform: Draw) -> None:
    x = uniform(1, 1, 15, 15)
    bound = MeanSSIM(0.9, Window.uniform(7, stride=7, border="valid")).bind(x)
    lower, upper = bound.bounds() or (x, x)
    assert float(upper[..., 14, :].max()) == 0
    assert float(lower[..., 14, :].min()) == 0
    d = torch.zeros_like(x)
    d[..., 14, 3] = 0.2
    assert float(bound.excess(d)) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 1.0}, "threshold must lie strictly between 0 and 1"),
        ({"threshold": 0.9, "window": 7}, "must be a solvers.Window"),
        ({"threshold": 0.9, "luminance": "split"}, "None, a number or 'preserve'"),
        ({"threshold": 0.9, "luminance": 0.1}, r"must lie in \(0, 0.1\)"),
        ({"threshold": 0.9, "luminance": 0.0}, "'preserve' keeps"),
        ({"threshold": 0.9, "data_range": 0}, "data_range must be positive"),
    ],
)
def test_an_invalid_threshold_window_or_luminance_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        MeanSSIM(**arguments)


def test_methods_for_convex_sets_refuse_it_and_name_those_that_take_it(uniform: Draw) -> None:
    x = uniform(1, 1, 16, 16)
    tiles = MeanSSIM(0.9, Window.uniform(8, stride=8))
    problem = LinearProblem(x, x, [tiles, Box()])
    assert not tiles.is_convex
    assert WindowSSIM(0.9).is_convex
    for method in ("dual", "admm", "pdhg", "tiles", "cvxpy:clarabel"):
        with pytest.raises(MethodError, match="mean_tiles, mean_windows"):
            solvers.solve(problem, method)
    with pytest.raises(MethodError, match="no method takes this problem"):
        solvers.solve(ProjectionProblem(x, x, [tiles, Box()]))
    with pytest.raises(ProblemError, match="not convex"):
        tiles.bind(x).conic_form(None, 0)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match="needs windows that don't overlap"):
        solvers.solve(LinearProblem(x, x, [MeanSSIM(0.9), Box()]), "mean_tiles")
    with pytest.raises(MethodError, match="luminance=None"):
        solvers.solve(LinearProblem(x, x, [MeanSSIM(0.9, luminance=1e-3), Box()]))


def test_all_methods_but_mean_windows_certify_a_global_bound() -> None:
    certifies = {info.name: info.certifies for info in solvers.methods()}
    assert certifies["mean_windows"] == "stationary"
    assert {certifies[name] for name in certifies if name != "mean_windows"} == {"global bound"}


# -- the convex step -----------------------------------------------------------------------------------------------


def matrix(window: Window, u: np.ndarray, v: np.ndarray, height: int, width: int) -> np.ndarray:
    """H of one plane, from the tests' own weights."""
    total = np.zeros((height * width, height * width))
    weights = oracles.weights(window, height, width).reshape(u.size, -1)
    for w, contrast, luminance in zip(weights, u.ravel(), v.ravel(), strict=True):
        total += contrast * (np.diag(w) - np.outer(w, w)) + luminance * np.outer(w, w)
    return total


def test_step_agrees_with_the_index_to_first_order(uniform: Draw, normal: Draw) -> None:
    x, d, e = uniform(2, 1, 16, 16), 0.05 * normal(2, 1, 16, 16), normal(2, 1, 16, 16)
    constraint = MeanSSIM(0.9)
    exact, step = constraint.bind(x), constraint.step(x, d).bind(x)
    torch.testing.assert_close(step.excess(d), exact.excess(d), atol=1e-13, rtol=0)
    h = 1e-5
    for bound in (exact, step):
        slope = (bound.excess(d + h * e) - bound.excess(d - h * e)) / (2 * h)
        if bound is exact:
            expected = slope
    torch.testing.assert_close(slope, expected, atol=1e-8, rtol=1e-5)


def test_step_is_convex_and_holds_0_even_around_lost_windows(uniform: Draw, normal: Draw) -> None:
    x = uniform(1, 1, 16, 16)
    d = 0.01 * normal(1, 1, 16, 16)
    d[..., :8, :8] = 1 - 2 * x[..., :8, :8]  # the negative: S2 < 0
    constraint = MeanSSIM(0.5, Window.uniform(4))
    assert float(constraint.bind(x).losses(d)[1].max()) > 1
    d = d * constraint.bind(x).scale_factor(d)
    step = constraint.step(x, d)
    assert float(step.level) > 0
    h = matrix(constraint.window, step.contrast.numpy(), step.luminance.numpy(), 16, 16)
    assert np.linalg.eigvalsh(h).min() > 0
    image = normal(1, 1, 16, 16)
    np.testing.assert_allclose(step.bind(x).product(image).numpy().ravel(), h @ image.numpy().ravel(), rtol=1e-9)
    np.testing.assert_allclose(step.bind(x).diagonal().numpy().ravel(), np.diag(h), rtol=1e-9)


def test_any_block_of_a_step_bounds(uniform: Draw, normal: Draw) -> None:
    x, g = uniform(2, 1, 12, 12), normal(2, 1, 12, 12)
    step = MeanSSIM(0.9).step(x, 0.03 * normal(2, 1, 12, 12))
    bound = step.bind(x)
    block = torch.cat([torch.tensor([[0.3], [20.0]]).double(), 0.1 * normal(2, 144)], dim=1)
    bound.check_block(block)
    for _ in range(20):
        d = normal(2, 1, 12, 12)
        d = d * bound.scale_factor(d).reshape(-1, 1, 1, 1)
        reach = (bound.adjoint(block) * d).flatten(1).sum(dim=1)
        assert bool((reach <= bound.dual_value(block) + 1e-9).all())
    certificate = solvers.certify(LinearProblem(g, x, [step, Box()]), d.clamp(-x, 1 - x), [block, None])
    assert bool((certificate.bound >= certificate.objective).all())


def test_a_step_of_wrong_parts_is_refused(uniform: Draw) -> None:
    x = uniform(1, 1, 12, 12)
    step = MeanSSIM(0.9).step(x, 0 * x)
    parts = {"window": step.window, "contrast": step.contrast, "luminance": step.luminance}
    with pytest.raises(ProblemError, match="luminance=None alone"):
        MeanSSIM(0.9, luminance="preserve").step(x, 0 * x)
    with pytest.raises(ProblemError, match="level must be finite and not negative"):
        MeanSSIMStep(**parts, shift=step.shift, level=-step.level)
    with pytest.raises(ProblemError, match="contrast must have shape"):
        MeanSSIMStep(**{**parts, "contrast": step.contrast[..., 1:]}, shift=step.shift, level=step.level)
    with pytest.raises(ProblemError, match="is for images"):
        LinearProblem(x[..., 1:], x[..., 1:], [step, Box()])
