"""Windowed SSIM: the convex set is what the definition of the index allows, window by window."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from solvers import ProblemError, Window, WindowDual, WindowSSIM
from tests.solvers import oracles

Draw = Callable[..., Tensor]
HEIGHT, WIDTH = 9, 11

SETS = [
    WindowSSIM(0.95, Window.uniform(4, stride=4)),
    WindowSSIM(0.9, Window.uniform(3), luminance="split"),
    WindowSSIM(0.9, Window.uniform(3), luminance="split", sample_covariance=True),
    WindowSSIM(0.6, Window.gaussian(1.0, 5, stride=2), luminance=0.2, sample_covariance=True),
    WindowSSIM(0.8, Window.uniform(4, stride=3, border="valid"), luminance=0.05, data_range=2.0),
    WindowSSIM(0.99, Window.gaussian(1.5, 7, border="valid")),
]
every_set = pytest.mark.parametrize("constraint", SETS, ids=[f"set{k}" for k in range(len(SETS))])


def terms(x: Tensor, delta: Tensor, constraint: WindowSSIM) -> oracles.Terms:
    return oracles.ssim_terms(
        x.numpy(),
        (x + delta).numpy(),
        constraint.window,
        sample_covariance=constraint.sample_covariance,
        data_range=constraint.data_range,
    )


def thresholds(constraint: WindowSSIM) -> tuple[float, float]:
    """alpha and beta from the design's words."""
    t, luminance = constraint.threshold, constraint.luminance
    if luminance == "split":
        return 1 - math.sqrt(t), 1 - math.sqrt(t)
    beta = 0.0 if isinstance(luminance, str) else luminance
    return 1 - t / (1 - beta), beta


@every_set
def test_losses_are_one_minus_the_definitions(constraint: WindowSSIM, uniform: Draw, normal: Draw) -> None:
    x, delta = uniform(HEIGHT, WIDTH), 0.1 * normal(HEIGHT, WIDTH)
    luminance, contrast = constraint.bind(x[None, None]).losses(delta[None, None])
    expected = terms(x, delta, constraint)
    np.testing.assert_allclose(luminance[0, 0], 1 - expected.luminance, atol=1e-12)
    np.testing.assert_allclose(contrast[0, 0], 1 - expected.contrast, atol=1e-12)


def test_losses_do_not_cancel_for_tiny_perturbations(uniform: Draw, normal: Draw) -> None:
    x, direction = uniform(1, 1, HEIGHT, WIDTH), normal(1, 1, HEIGHT, WIDTH)
    bound = WindowSSIM(0.9, Window.uniform(3)).bind(x)
    for small, large in zip(bound.losses(1e-10 * direction), bound.losses(1e-5 * direction), strict=True):
        np.testing.assert_allclose(small / large, 1e-10 * torch.ones_like(small), rtol=1e-3)


@every_set
def test_ball_and_interval_are_the_definitions_of_contrast_and_luminance(
    constraint: WindowSSIM, uniform: Draw, normal: Draw
) -> None:
    """S2 >= 1 - alpha iff |R_p d - a R_p x| <= r_p, and S1 >= 1 - beta iff lo_p <= m_p(d) <= hi_p."""
    alpha, beta = thresholds(constraint)
    w = oracles.weights(constraint.window, HEIGHT, WIDTH)
    a = alpha / (1 - alpha)
    agreed = {(kind, side): 0 for kind in ("ball", "interval") for side in (True, False)}
    for trial in range(24):
        x = uniform(HEIGHT, WIDTH) if trial % 3 else 0.02 * uniform(HEIGHT, WIDTH)
        spread = float(uniform(1)) * 3 * math.sqrt(alpha)
        delta = spread * (x.std() + 0.01) * normal(HEIGHT, WIDTH) + 2 * math.sqrt(beta) * x.mean() * float(normal(1))
        bound = constraint.bind(x[None, None])
        value = terms(x, delta, constraint)
        image, moved = x.numpy(), delta.numpy()
        mean_x, mean_d = (np.einsum("pqij,ij->pq", w, v)[..., None, None] for v in (image, moved))
        off = np.sqrt((w * ((moved - mean_d) - a * (image - mean_x)) ** 2).sum(axis=(2, 3)))
        in_ball = off <= bound.radius[0, 0].numpy()
        shift = mean_d[..., 0, 0]
        in_interval = (shift >= bound.mean_lower[0, 0].numpy()) & (shift <= bound.mean_upper[0, 0].numpy())
        np.testing.assert_array_equal(in_ball, value.contrast >= 1 - alpha)
        np.testing.assert_array_equal(in_interval, value.luminance >= 1 - beta)
        for kind, inside in (("ball", in_ball), ("interval", in_interval)):
            agreed[kind, True] += int(inside.sum())
            agreed[kind, False] += int((~inside).sum())
    assert min(agreed.values()) > 20  # both sides of both were seen


def test_the_derivation_holds_line_by_line_in_exact_arithmetic() -> None:
    """The lines of the module's docstring, with fractions, at bounds that the perturbation meets exactly and misses."""
    generator = random.Random(0)
    c1, c2 = Fraction(1, 10_000), Fraction(9, 10_000)
    for _ in range(200):
        weights = [Fraction(generator.randint(1, 9)) for _ in range(generator.randint(2, 5))]
        w = [weight / sum(weights) for weight in weights]
        x = [Fraction(generator.randint(0, 255), 255) for _ in w]
        d = [Fraction(generator.randint(-99, 100), 255) for _ in w]

        def mean(v: list[Fraction], w: list[Fraction] = w) -> Fraction:
            return sum((a * b for a, b in zip(w, v, strict=True)), Fraction(0))

        def covariance(u: list[Fraction], v: list[Fraction], w: list[Fraction] = w) -> Fraction:
            return mean([a * b for a, b in zip(u, v, strict=True)], w) - mean(u, w) * mean(v, w)

        y = [a + b for a, b in zip(x, d, strict=True)]
        s1 = (2 * mean(x) * mean(y) + c1) / (mean(x) ** 2 + mean(y) ** 2 + c1)
        s2 = (2 * covariance(x, y) + c2) / (covariance(x, x) + covariance(y, y) + c2)
        assert 1 - s2 == covariance(d, d) / (covariance(x, x) + covariance(y, y) + c2)
        assert 1 - s1 == mean(d) ** 2 / (mean(x) ** 2 + (mean(x) + mean(d)) ** 2 + c1)
        for loss, level, variance in ((1 - s2, c2, covariance(x, x)), (1 - s1, c1, mean(x) ** 2)):
            # On the surface, a little inside, a little outside.
            for limit in (loss, loss * Fraction(1001, 1000), loss * Fraction(999, 1000)):
                if not 0 < limit < 1:
                    continue
                a = limit / (1 - limit)
                offset = [p - a * q for p, q in zip(d, x, strict=True)]
                square = covariance(offset, offset) if level == c2 else mean(offset) ** 2
                radius = a * (2 * variance + level) + a**2 * variance
                assert (loss <= limit) == (square <= radius)
                assert (loss == limit) == (square == radius)


@every_set
def test_radii_and_intervals_follow_section_4(constraint: WindowSSIM, uniform: Draw) -> None:
    x = uniform(1, 2, HEIGHT, WIDTH)
    bound = constraint.bind(x)
    for channel in range(2):
        data = oracles.window_data(x[0, channel].numpy(), constraint)
        np.testing.assert_allclose(bound.radius[0, channel].reshape(-1), data.radius, rtol=1e-10)
        np.testing.assert_allclose(bound.mean_lower[0, channel].reshape(-1), data.low, rtol=1e-10)
        np.testing.assert_allclose(bound.mean_upper[0, channel].reshape(-1), data.high, rtol=1e-10)
    assert bound.ball_center == pytest.approx(thresholds(constraint)[0] / (1 - thresholds(constraint)[0]))


@every_set
def test_excess_is_the_worst_window_in_units_of_ssim(constraint: WindowSSIM, uniform: Draw, normal: Draw) -> None:
    alpha, beta = thresholds(constraint)
    x, delta = uniform(2, 2, HEIGHT, WIDTH), 0.2 * normal(2, 2, HEIGHT, WIDTH)
    bound = constraint.bind(x)
    delta = delta * bound.operator.covered
    for image, excess in enumerate(bound.excess(delta).tolist()):
        values = [terms(x[image, c], delta[image, c], constraint) for c in range(2)]
        expected = max(
            max(float((1 - v.luminance).max()) - beta, float((1 - v.contrast).max()) - alpha) for v in values
        )
        assert excess == pytest.approx(expected, abs=1e-12)


def test_members_keep_the_index_above_the_threshold_by_scikit_image(uniform: Draw, normal: Draw) -> None:
    for constraint in (WindowSSIM(0.9), WindowSSIM(0.9, luminance="split", sample_covariance=True)):
        x = uniform(1, 1, 16, 17)
        bound = constraint.bind(x)
        delta = 0.3 * normal(1, 1, 16, 17) + 0.1
        delta = delta * bound.scale_factor(delta)
        assert abs(float(bound.excess(delta))) < 1e-12  # on the surface
        _, index = structural_similarity(
            x[0, 0].numpy(),
            (x + delta)[0, 0].numpy(),
            win_size=7,
            data_range=1.0,
            use_sample_covariance=constraint.sample_covariance,
            full=True,
        )
        assert index[3:-3, 3:-3].min() >= 0.9 - 1e-12


def test_luminance_modes_share_the_budget_as_stated() -> None:
    for luminance, beta in ((1e-3, 1e-3), ("split", 1 - math.sqrt(0.9)), ("preserve", 0.0), (0.0, 0.0)):
        constraint = WindowSSIM(0.9, luminance=luminance)  # type: ignore[arg-type]
        assert constraint.beta == pytest.approx(beta, abs=1e-15)
        assert (1 - constraint.alpha) * (1 - constraint.beta) == pytest.approx(0.9, rel=1e-14)


def test_preserve_measures_the_mean_in_pixels(uniform: Draw) -> None:
    x = uniform(1, 1, HEIGHT, WIDTH)
    bound = WindowSSIM(0.9, Window.uniform(3), luminance="preserve").bind(x)
    assert float(bound.excess(torch.full_like(x, -1e-4))) == pytest.approx(1e-4, rel=1e-9)


def test_a_pixel_in_no_window_is_fixed() -> None:
    window = Window.uniform(4, stride=4, border="valid")  # covers 8 x 8 of 9 x 11
    bound = WindowSSIM(0.9, window).bind(torch.full((1, 1, HEIGHT, WIDTH), 0.5, dtype=torch.float64))
    delta = torch.zeros(1, 1, HEIGHT, WIDTH, dtype=torch.float64)
    delta[..., 8, 10] = -0.25
    assert float(bound.excess(delta)) == 0.25
    limits = bound.bounds()
    assert limits is not None
    lower, upper = (limit.expand_as(delta)[0, 0] for limit in limits)
    expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    expected[:8, :8] = True
    assert torch.equal(torch.isposinf(upper), expected)
    assert torch.equal(torch.isneginf(lower), expected)
    assert WindowSSIM(0.9, Window.uniform(4, stride=4)).bind(delta).bounds() is None


def test_a_window_of_one_pixel_without_sample_variance_allows_its_mean_to_move() -> None:
    # 5x5 tiles of 6x6 pixels: the corner tile is a single pixel, N/(N - 1) has no value there.
    constraint = WindowSSIM(0.9, Window.uniform(5, stride=5), luminance="split", sample_covariance=True)
    x = torch.full((1, 1, 6, 6), 0.5, dtype=torch.float64)
    bound = constraint.bind(x)
    assert float(bound.radius[0, 0, 1, 1]) == 0
    delta = torch.zeros_like(x)
    delta[..., 5, 5] = 0.9 * float(bound.mean_upper[0, 0, 1, 1])
    assert float(bound.excess(delta)) <= 0
    assert float(bound.scale_factor(delta)) == 1


@every_set
def test_window_factors_are_the_largest_admissible(constraint: WindowSSIM, uniform: Draw, normal: Draw) -> None:
    x, delta = uniform(3, 1, HEIGHT, WIDTH), normal(3, 1, HEIGHT, WIDTH)
    bound = constraint.bind(x)
    delta = delta * bound.operator.covered
    factor = bound.scale_factor(delta).reshape(-1, 1, 1, 1)
    assert bool((factor < 1).all())
    assert bool((bound.excess(factor * delta) <= 1e-12).all())
    assert bool((bound.excess(1.0001 * factor * delta) > 0).all())
    # Window by window: at its own factor each window is on its surface, just beyond it outside.
    factors = bound.window_factor(delta)
    alpha, beta = thresholds(constraint)
    for p in range(factors.shape[2]):
        for q in range(factors.shape[3]):
            own = float(factors[0, 0, p, q])
            for scale, sign in ((own, -1.0), (own * 1.0001, 1.0)):
                luminance, contrast = bound.losses(scale * delta)
                worst = max(float(luminance[0, 0, p, q]) - beta, float(contrast[0, 0, p, q]) - alpha)
                assert sign * worst > -1e-12
    assert bound.scale_factor(1e-4 * delta).tolist() == [1.0] * 3


def test_scale_factor_is_right_where_the_perturbation_points_away_from_the_centre(uniform: Draw) -> None:
    # d = -x/2 opposes the ball's centre a x: the linear term of the quadratic is negative.
    x = uniform(1, 1, HEIGHT, WIDTH)
    bound = WindowSSIM(0.9, Window.uniform(3), luminance=0.09).bind(x)
    delta = -0.5 * (x - x.mean())
    factor = float(bound.scale_factor(delta))
    assert 0 < factor < 1
    assert float(bound.excess(factor * delta)) <= 1e-12
    assert float(bound.excess(1.0001 * factor * delta)) > 0


@every_set
def test_retraction_and_scaling_lose_less_than_scaling_alone(
    constraint: WindowSSIM, uniform: Draw, normal: Draw
) -> None:
    x = uniform(1, 1, HEIGHT, WIDTH)
    bound = constraint.bind(x)
    delta = 0.1 * normal(1, 1, HEIGHT, WIDTH) * bound.operator.covered
    delta[..., 2, 2] = 0.8  # one window is far out
    moved = bound.retract(delta, -x, 1 - x)
    moved = moved * bound.scale_factor(moved)
    scaled = delta * bound.scale_factor(delta)
    assert float(bound.excess(moved)) <= 1e-12
    assert float(moved.norm()) > 1.2 * float(scaled.norm())


@pytest.mark.parametrize("window", [Window.uniform(4, stride=4), Window.uniform(4, stride=2), Window.uniform(3)])
def test_retraction_of_preserve_brings_every_mean_to_zero_in_the_box(
    window: Window, uniform: Draw, normal: Draw
) -> None:
    x = uniform(2, 1, HEIGHT, WIDTH)
    x[1, :, :4, :4] = 0.0
    bound = WindowSSIM(0.9, window, luminance="preserve").bind(x)
    delta = (0.05 * normal(2, 1, HEIGHT, WIDTH)).clamp(-x, 1 - x)
    moved = bound.retract(delta, -x, 1 - x)
    w = oracles.weights(window, HEIGHT, WIDTH)
    assert float(np.abs(np.einsum("pqij,bcij->bcpq", w, moved.numpy())).max()) < 1e-9
    assert bool((moved >= -x).all())
    assert bool((moved <= 1 - x).all())
    assert float(moved[0].norm()) > 0.1 * float(delta[0].norm())
    # An image's answer does not depend on its neighbours in the batch.
    alone = WindowSSIM(0.9, window, luminance="preserve").bind(x[:1]).retract(delta[:1], -x[:1], 1 - x[:1])
    np.testing.assert_allclose(alone, moved[:1], atol=1e-9)


def test_adjoint_and_value_of_a_vector_block_follow_the_formulas(uniform: Draw, normal: Draw) -> None:
    constraint = SETS[3]
    x = uniform(1, 1, HEIGHT, WIDTH)
    bound = constraint.bind(x)
    block = normal(*bound.radius.shape, 25)
    data = oracles.window_data(x[0, 0].numpy(), constraint)
    w = oracles.weights(constraint.window, HEIGHT, WIDTH)
    flat = x[0, 0].numpy().reshape(-1)
    own = block.reshape(-1, 25).numpy()
    value, action = 0.0, np.zeros(HEIGHT * WIDTH)
    rows, columns = oracles.starts(constraint.window, HEIGHT), oracles.starts(constraint.window, WIDTH)
    alpha, _ = thresholds(constraint)
    a = alpha / (1 - alpha)
    for p, (top, left) in enumerate((r, c) for r in rows for c in columns):
        weight = w.reshape(-1, HEIGHT * WIDTH)[p]
        # The block's entries on the window's pixels, as an image; entries off the image have no root weight.
        y, roots = np.zeros(HEIGHT * WIDTH), np.sqrt(weight)
        off_image = []
        for i in range(5):
            for j in range(5):
                row, column = top + i, left + j
                if 0 <= row < HEIGHT and 0 <= column < WIDTH:
                    y[row * WIDTH + column] = own[p, i * 5 + j]
                else:
                    off_image.append(own[p, i * 5 + j])
        s = roots @ y
        perpendicular = y - s * roots
        centred = roots * (flat - weight @ flat)
        size = math.sqrt(perpendicular @ perpendicular + sum(v**2 for v in off_image))
        value += a * (centred @ perpendicular) + data.radius[p] * size + max(data.low[p] * s, data.high[p] * s)
        action += roots * y
    assert float(bound.dual_value(block)) == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(bound.adjoint(block).reshape(-1), action, atol=1e-12)


@every_set
def test_a_window_dual_is_the_same_block_without_its_vectors(
    constraint: WindowSSIM, uniform: Draw, normal: Draw
) -> None:
    bound = constraint.bind(uniform(2, 2, HEIGHT, WIDTH))
    dual = WindowDual(normal(*bound.radius.shape), normal(2, 2, HEIGHT, WIDTH), normal(*bound.radius.shape))
    op = bound.operator
    centred = op.vectors(dual.point) - op.mean(dual.point)[..., None] * op.root_weights
    vectors = dual.ball[..., None] * centred + dual.mean[..., None] * op.root_weights
    np.testing.assert_allclose(bound.adjoint(dual), bound.adjoint(vectors), atol=1e-12)
    np.testing.assert_allclose(bound.dual_value(dual), bound.dual_value(vectors), rtol=1e-11)


def test_support_is_exact_for_tiles_and_an_upper_bound_where_windows_overlap(uniform: Draw, normal: Draw) -> None:
    x, z = uniform(1, 1, HEIGHT, WIDTH), normal(1, 1, HEIGHT, WIDTH)
    for constraint in SETS:
        bound = constraint.bind(x)
        value = bound.support(z)
        assert value is not None
        exact, _ = oracles.optimum(z[0].numpy(), x[0].numpy(), [constraint])
        if constraint.window.is_tiling:
            assert float(value) == pytest.approx(exact, rel=1e-7)
        else:
            assert exact * (1 - 1e-7) <= float(value) < 5 * exact


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0.0}, "threshold must lie strictly between 0 and 1, got 0.0"),
        ({"threshold": 1.0}, "threshold must lie strictly between 0 and 1, got 1.0"),
        ({"threshold": 1}, "threshold must lie strictly between 0 and 1, got 1"),
        ({"threshold": math.nan}, "threshold must lie strictly between 0 and 1, got nan"),
        ({"threshold": "0.9"}, "threshold must be a number, got '0.9'"),
        ({"threshold": 0.9, "window": 7}, "window must be a solvers.Window, got 7"),
        ({"threshold": 0.9, "luminance": "keep"}, "a number, 'split' or 'preserve', got 'keep'"),
        ({"threshold": 0.9, "luminance": 0.1}, r"luminance must lie in \[0, 0.1\) at threshold 0.9, got 0.1"),
        ({"threshold": 0.9, "luminance": -1e-3}, r"luminance must lie in \[0, 0.1\) at threshold 0.9, got -0.001"),
        ({"threshold": 0.9995}, r"luminance must lie in \[0, 0.0005\) at threshold 0.9995, got 0.001"),
        ({"threshold": 0.9, "luminance": None}, "a number, 'split' or 'preserve', got None"),
        ({"threshold": 0.9, "data_range": 0.0}, "data_range must be positive and finite, got 0.0"),
    ],
)
def test_an_invalid_threshold_luminance_or_constant_is_refused_with_its_value(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ProblemError, match=message):
        WindowSSIM(**arguments)  # type: ignore[arg-type]


def test_a_window_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ProblemError, match="window of 12x12 pixels is larger than the image of 9x11"):
        WindowSSIM(0.9, Window.uniform(12)).check(torch.zeros(1, 1, HEIGHT, WIDTH))


@pytest.mark.parametrize("luminance", [1e-3, "split", "preserve"])
@pytest.mark.parametrize("border", ["full", "valid"])
def test_projection_onto_tiles_is_the_nearest_member(luminance: Any, border: Any) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(2, 1, 10, 11, generator=generator, dtype=torch.float64)
    point = 0.3 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    limit = WindowSSIM(0.9, Window.uniform(4, stride=4, border=border), luminance=luminance)
    nearest = limit.bind(x).project(point)
    assert nearest is not None
    for image in range(2):
        _, expected = oracles.optimum(point[image].numpy(), x[image].numpy(), [limit], linear=False)
        assert nearest[image].numpy() == pytest.approx(expected, abs=1e-6)
    assert limit.bind(x).excess(nearest).max() <= 1e-9
    assert WindowSSIM(0.9, Window.uniform(4, stride=2)).bind(x).project(point) is None
