"""The exact product against scikit-image, its scaling, and what bounds it although it is not convex."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

import solvers
from solvers import Box, LinearProblem, ProblemError, ProductSSIM, Window, WindowDual, WindowSSIM
from solvers.constraints.ssim_windows.loss_split import Loss, best_share, largest, levels
from tests.solvers import oracles
from tests.solvers.conftest import Photos

Draw = Callable[..., Tensor]
SEVEN = Window.uniform(7, border="valid")


def test_index_is_scikit_images(uniform: Draw, normal: Draw) -> None:
    x, d = uniform(2, 3, 16, 19), 0.1 * normal(2, 3, 16, 19)
    bound = ProductSSIM(0.9, SEVEN).bind(x)
    for k in range(2):
        _, index = structural_similarity(
            x[k].numpy(), (x + d)[k].numpy(), channel_axis=0, data_range=1.0, win_size=7,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        np.testing.assert_allclose(bound.index(d)[k].numpy(), index[:, 3:-3, 3:-3], atol=1e-12)
        assert float(bound.excess(d)[k]) == pytest.approx(0.9 - index[:, 3:-3, 3:-3].min(), abs=1e-12)


def test_two_negative_terms_are_outside_though_their_product_is_large(uniform: Draw) -> None:
    x = uniform(1, 1, 7, 7)
    d = -2 * x
    bound = ProductSSIM(0.5, Window.uniform(7, border="valid")).bind(x)
    assert float(bound.index(d)) > 0.9
    assert float(bound.excess(d)) > 0.5
    assert float(bound.scale_factor(d)) < 1


@pytest.mark.parametrize("window", [Window.uniform(5), Window.uniform(4, stride=4), Window.gaussian(1.0, 5)])
def test_every_split_lies_in_it_and_a_member_in_some_split(window: Window, uniform: Draw, normal: Draw) -> None:
    x, d = uniform(8, 1, 12, 12), normal(8, 1, 12, 12)
    bound = ProductSSIM(0.9, window).bind(x)
    for luminance in ("split", "preserve", 1e-3, 0.03, 0.09):
        fixed = WindowSSIM(0.9, window, luminance).bind(x)  # type: ignore[arg-type]
        inside = fixed.retract(d, -x, 1 - x)
        inside = inside * fixed.scale_factor(inside).reshape(-1, 1, 1, 1)
        # Kept means may be missed by a little, in pixels.
        assert bool((bound.excess(inside) <= fixed.excess(inside).clamp_min(0) + 1e-12).all())
    whole = d * bound.scale_factor(d).reshape(-1, 1, 1, 1)
    used = bound.window_levels(*bound.moments(whole))
    assert bool(((1 + used[0]) * (1 + used[1]) <= 1 / 0.9 + 1e-12).all())


def test_scaling_ends_on_the_surface_and_all_smaller_scales_are_inside(uniform: Draw, normal: Draw) -> None:
    x, d = uniform(4, 1, 12, 12), 0.5 * normal(4, 1, 12, 12)
    d[1] = -3 * (x[1] - x[1].mean())  # reversed
    d[2] = 0.4
    d[3] *= 1e-3
    bound = ProductSSIM(0.9).bind(x)
    factor = bound.scale_factor(d).reshape(-1, 1, 1, 1)
    assert float(factor[3]) == 1
    assert bound.excess(factor * d)[:3].abs().max() < 1e-12
    for share in torch.linspace(0, 1, 30):
        assert float(bound.excess(share * factor * d).max()) <= 1e-12


def window_loss(random: np.random.Generator, count: int) -> tuple[Loss, Loss]:
    """Windows of all kinds: flat and textured, dark and bright, with ball or mean of no worth."""

    def pull(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size = random.random(count) * 10 ** random.uniform(-4, 2, count) * (random.random(count) > 0.05)
        return size * np.sqrt(square) * random.uniform(-1, 1, count), size

    variance, mean = random.random(count) * 10 ** random.uniform(-6, -1, count), random.random(count)
    contrast = (*pull(variance), 2 * variance + 9e-4, variance)
    s = random.normal(size=count) * 10 ** random.uniform(-4, 2, count) * (random.random(count) > 0.05)
    luminance = (mean * s, np.abs(s), 2 * mean**2 + 1e-4, mean**2)
    return Loss(*map(torch.as_tensor, contrast)), Loss(*map(torch.as_tensor, luminance))


@pytest.mark.parametrize("threshold", [0.99, 0.95, 0.8, 0.5, 0.1])
def test_largest_value_is_above_every_split_and_no_higher_than_it_must(threshold: float) -> None:
    """Against a dense grid of splits, written from the formulas of the ball and the interval."""
    contrast, luminance = window_loss(np.random.default_rng(0), 2000)
    angle = np.linspace(0, np.pi / 2, 3001)[:, None]
    # (1 - alpha)(1 - beta) = t, alpha = 1 - t^u.
    alpha, beta = 1 - threshold ** np.sin(angle) ** 2, 1 - threshold ** np.cos(angle) ** 2
    best = np.zeros(2000)
    for a, b in zip(alpha, beta, strict=True):
        gain = np.zeros(2000)
        for loss, share in ((contrast, a), (luminance, b)):
            along, size, base, square = (value.numpy() for value in (loss.along, loss.size, loss.base, loss.square))
            level = share / (1 - share)
            gain += level * along + size * np.sqrt(share * base / (1 - share) + level**2 * square)
        best = np.maximum(best, gain)
    top = largest(contrast, luminance, threshold).numpy()
    assert (top >= best * (1 - 1e-12)).all()
    assert (top <= best * (1 + 1e-5)).all()
    share = best_share(contrast, luminance, threshold)
    a_level, b_level = levels(share, threshold)
    torch.testing.assert_close((1 + a_level) * (1 + b_level), torch.full_like(share, 1 / threshold))


def random_block(bound: Any, normal: Draw, shape: tuple[int, ...]) -> WindowDual:
    lattice = bound.spread_base.shape
    return WindowDual(normal(*lattice), normal(*shape), normal(*lattice), 0.2 * normal(*lattice))


@pytest.mark.parametrize("threshold", [0.95, 0.4])
def test_any_block_bounds_every_member(threshold: float, uniform: Draw, normal: Draw) -> None:
    x = uniform(2, 2, 10, 10)
    bound = ProductSSIM(threshold, Window.uniform(4, stride=2)).bind(x)
    block = random_block(bound, normal, (2, 2, 10, 10))
    bound.check_block(block)
    worst = torch.full((2,), -torch.inf, dtype=torch.float64)
    for k in range(60):
        d = normal(2, 2, 10, 10) + (k % 5) * normal(2, 2, 1, 1)
        d = d * bound.scale_factor(d).reshape(-1, 1, 1, 1)
        worst = torch.maximum(worst, (bound.adjoint(block) * d).flatten(1).sum(dim=1))
    assert bool((worst <= bound.dual_value(block)).all())
    assert bool((worst <= bound.support(bound.adjoint(block))).all())  # type: ignore[operator]


@pytest.mark.parametrize("threshold", [0.95, 0.6])
@pytest.mark.parametrize("window", [Window.uniform(4), Window.uniform(4, stride=4)])
def test_a_share_is_a_split_of_window_ssim_and_the_best_one_gives_the_support(
    threshold: float, window: Window, uniform: Draw, normal: Draw
) -> None:
    x, z = uniform(1, 1, 8, 8), normal(1, 1, 8, 8) + 0.3
    bound = ProductSSIM(threshold, window).bind(x)
    best = torch.full_like(bound.spread_base, -torch.inf)
    point = z / bound.operator.coverage
    block = WindowDual(torch.ones_like(best), point, bound.operator.mean(point))
    for beta in (1 - threshold) * torch.sin(torch.linspace(0.01, 1.56, 300)).double() ** 2:
        fixed = WindowSSIM(threshold, window, float(beta)).bind(x)
        b = float(beta / (1 - beta))
        split = bound.split(torch.full_like(best, fixed.ball_center / (fixed.ball_center + b)))
        for mine, theirs in (
            (split.ball_center, torch.full_like(best, fixed.ball_center)),
            (split.radius, fixed.radius),
            (split.mean_lower, fixed.mean_lower),
            (split.mean_upper, fixed.mean_upper),
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
        part = block.centred(fixed.operator, x)
        gain = fixed.ball_center * part.along + fixed.radius * part.size
        best = torch.maximum(best, gain + torch.maximum(fixed.mean_lower * block.mean, fixed.mean_upper * block.mean))
    support = bound.support(z)
    assert support is not None
    assert float(best.sum()) * (1 - 1e-12) <= float(support) <= float(best.sum()) * (1 + 1e-4)


def test_block_acts_as_its_window_vectors(uniform: Draw, normal: Draw) -> None:
    x = uniform(1, 2, 10, 10)
    bound = ProductSSIM(0.9, Window.uniform(4, stride=2)).bind(x)
    block = random_block(bound, normal, (1, 2, 10, 10))
    roots = np.sqrt(oracles.weights(Window.uniform(4, stride=2), 10, 10))
    for channel in range(2):
        total = np.zeros((10, 10))
        for p in np.ndindex(*roots.shape[:2]):
            root = roots[p]
            parts = [image[0, channel].numpy() for image in (block.point, x)]
            centred = [root * (v - (root**2 * v).sum()) for v in parts]
            factors = [values[0, channel][p].item() for values in (block.ball, block.reference, block.mean)]  # type: ignore[index]
            total += root * (factors[0] * centred[0] + factors[1] * centred[1] + factors[2] * root)
        np.testing.assert_allclose(bound.adjoint(block)[0, channel].numpy(), total, atol=1e-12)


def test_implied_box_holds_every_member(uniform: Draw, normal: Draw) -> None:
    x = uniform(1, 1, 12, 12)
    bound = ProductSSIM(0.9, Window.uniform(5)).bind(x)
    lower, upper = bound.implied_bounds(-x, 1 - x)
    assert float(upper.mean()) < 0.9 * float((1 - x).mean())
    for k in range(100):
        d = normal(1, 1, 12, 12) ** (1 + 2 * (k % 3)) + (k % 4) * normal(1, 1, 1, 1)
        d = d.clamp(-x, 1 - x)
        d = d * bound.scale_factor(d)
        assert bool(((d >= lower) & (d <= upper)).all())


def test_a_point_of_the_index_may_lie_outside_of_the_set_with_one_split(photos: Photos) -> None:
    """WindowSSIM asks for more than SSIM >= t in every window. ``certify`` says by how much; scikit-image says that the
    point keeps to the index. Tiles, so that the whole windows of scikit-image are windows of the set."""
    crop, t, side = photos.crop("chelsea", 60, 60, 32, channels=1), 0.95, 7
    x, window = crop.reference[..., :28, :28], Window.uniform(side, stride=side)
    exact = LinearProblem(crop.gradient[..., :28, :28], x, [ProductSSIM(t, window), Box()])
    found = solvers.solve(exact, settings={"eps_rel": 1e-6})
    assert found.all_optimal
    y = (x + torch.as_tensor(found.delta))[0, 0].numpy()
    options = {"win_size": side, "use_sample_covariance": False, "full": True, "data_range": 1.0}
    every_place = structural_similarity(x[0, 0].numpy(), y, **options)[1]
    assert every_place[side // 2 :: side, side // 2 :: side].min() > t - 1e-9
    # 1 - S1 of every tile, by hand: the default bound on it is 1e-3.
    before, after = (image.reshape(4, side, 4, side).mean(axis=(1, 3)) for image in (x[0, 0].numpy(), y))
    luminance_loss = 1 - (2 * before * after + 1e-4) / (before**2 + after**2 + 1e-4)
    inner = LinearProblem(exact.gradient, x, [WindowSSIM(t, window), Box()])
    certificate = solvers.certify(inner, found.delta)
    assert float(certificate.max_violation) == pytest.approx(luminance_loss.max() - 1e-3, abs=1e-9)
    assert float(certificate.max_violation) > 0.01
    assert float(solvers.certify(exact, found.delta).max_violation) < 1e-9
    # Nor does the bound over the smaller set bound this point.
    assert float(found.objective) > 1.1 * float(solvers.solve(inner).bound)
    assert "inside*" in str(WindowSSIM.__doc__).splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 1.0}, "threshold must lie strictly between 0 and 1"),
        ({"threshold": 0.9, "window": 7}, "must be a solvers.Window"),
        ({"threshold": 0.9, "data_range": 0}, "data_range must be positive"),
    ],
)
def test_an_invalid_threshold_window_or_share_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        ProductSSIM(**arguments)


def test_it_is_not_convex_and_methods_for_convex_sets_name_those_that_take_it(uniform: Draw) -> None:
    x = uniform(1, 1, 16, 16)
    constraint = ProductSSIM(0.9, Window.uniform(8, stride=8))
    assert not constraint.is_convex
    for method in ("admm", "pdhg", "tiles", "cvxpy:clarabel", "frank_wolfe"):
        with pytest.raises(solvers.MethodError, match="methods that can: product_tiles"):
            solvers.solve(LinearProblem(x, x, [constraint, Box()]), method)
    with pytest.raises(solvers.MethodError, match="methods that can: dual"):
        solvers.solve(LinearProblem(x, x, [ProductSSIM(0.9), Box()]), "product_tiles")
    with pytest.raises(ProblemError, match="not convex"):
        constraint.bind(x).conic_form(None, 0)  # type: ignore[arg-type]
    with pytest.raises(ProblemError, match="must be a WindowDual"):
        constraint.bind(x).check_block(x)  # type: ignore[arg-type]
    block = WindowDual(*(torch.zeros(1, 1, 2, 2), x, torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)))
    with pytest.raises(ProblemError, match="no part 'reference'"):
        WindowSSIM(0.9, constraint.window).bind(x).check_block(block)
