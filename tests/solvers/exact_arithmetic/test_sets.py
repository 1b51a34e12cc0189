"""The exact sets agree with plain floating-point restatements wherever rounding does not decide."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import solvers
from tests.solvers import oracles
from tests.solvers.exact_arithmetic.random_problems import matrix_operator
from tests.solvers.exact_arithmetic.rational_arrays import exact
from tests.solvers.exact_arithmetic.sets import exact_set, kept_mean_tolerance

WINDOWS = [
    solvers.Window.uniform(3),
    solvers.Window.uniform(3, stride=3),
    solvers.Window.uniform(4, stride=3, border="valid"),
    solvers.Window.gaussian(0.8, 4, stride=2),
    solvers.Window.gaussian(1.3, 5, stride=5),
    solvers.Window.uniform(2, stride=2),
]
each_window = pytest.mark.parametrize("window", WINDOWS, ids=str)
each_range = pytest.mark.parametrize("data_range", [1.0, 255.0])


def losses(
    x: np.ndarray, d: np.ndarray, window: solvers.Window, data_range: float, sample: bool
) -> tuple[np.ndarray, np.ndarray]:
    """1 - S1 and 1 - S2 of all windows and channels; 1 - S2 is 0 in a window of one pixel."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [
            oracles.ssim_terms(a, a + b, window, sample_covariance=sample and min(window_pixels(window, a)) > 1,
                               data_range=data_range)
            for a, b in zip(x, d, strict=True)
        ]  # fmt: skip
    return 1 - np.stack([t.luminance for t in terms]), 1 - np.stack([t.contrast for t in terms])


def window_pixels(window: solvers.Window, image: np.ndarray) -> list[int]:
    weights = oracles.weights(window, *image.shape)
    return [int((w > 0).sum()) for row in weights for w in row]


def draw(seed: int, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = data_range * rng.random((2, 6, 7))
    return x, data_range * 10.0 ** rng.uniform(-2, 0) * rng.normal(size=x.shape)


def violated(constraint: solvers.Constraint, x: np.ndarray, d: np.ndarray) -> float:
    """The exact set's excess, or minus infinity inside."""
    violation = exact_set(constraint, x[None], 0).violation(exact(d))
    return -math.inf if violation is None else violation.excess


def agrees(stated: float, excess: float) -> bool:
    """Whether the exact excess is the floating-point one; inside, that is at most 0 up to rounding."""
    return excess <= 1e-9 if stated == -math.inf else stated == pytest.approx(excess, rel=1e-6, abs=1e-9)


@each_range
@each_window
@pytest.mark.parametrize("sample", [False, True])
def test_window_sets_agree_with_the_formulas(window: solvers.Window, data_range: float, sample: bool) -> None:
    outside = 0
    for seed in range(6):
        x, d = draw(seed, data_range)
        uncovered = oracles.weights(window, 6, 7).sum(axis=(0, 1)) == 0
        d[:, uncovered] = 0
        if sample and min(window_pixels(window, x[0])) == 1:
            continue  # the plain formulas divide 0 by 0
        luminance, contrast = losses(x, d, window, data_range, sample)
        for threshold in (0.9, 0.3):
            split = solvers.WindowSSIM(threshold, window, "split", sample, data_range)
            level = 1 - math.sqrt(threshold)
            stated = violated(split, x, d)
            # The luminance is reported first.
            excess = luminance.max() - level
            assert agrees(stated, excess if excess > 0 else contrast.max() - level)
            product = solvers.ProductSSIM(threshold, window, sample, data_range)
            index = np.where((luminance < 1) & (contrast < 1), (1 - luminance) * (1 - contrast), 0)
            assert agrees(violated(product, x, d), threshold - index.min())
            mean = solvers.MeanSSIM(threshold, window, None, sample, data_range)
            assert agrees(violated(mean, x, d), threshold - ((1 - luminance) * (1 - contrast)).mean())
            outside += stated > 0
    assert outside or (sample and window.size == 2)


def test_a_window_of_one_pixel_loses_no_contrast() -> None:
    x, d = np.array([[[0.25, 0.5, 1.0]] * 3]), np.zeros((1, 3, 3))
    d[0, 2, 2] = 1e-3  # in the window of one pixel alone
    window = solvers.Window.uniform(2, stride=2)
    assert violated(solvers.WindowSSIM(0.9, window, "split", sample_covariance=True), x, d) == -math.inf
    assert violated(solvers.ProductSSIM(0.9, window, sample_covariance=True), x, d) == -math.inf
    d[0, 2, 2] = 5.0
    assert violated(solvers.WindowSSIM(0.9, window, "split", sample_covariance=True), x, d) > 0


def test_pixels_in_no_window_may_not_move() -> None:
    x, d = np.full((1, 5, 5), 0.5), np.zeros((1, 5, 5))
    d[0, 4, 0] = 5e-324
    window = solvers.Window.uniform(4, stride=4, border="valid")
    for kind in (solvers.WindowSSIM, solvers.ProductSSIM, solvers.MeanSSIM):
        violation = exact_set(kind(0.5, window), x[None], 0).violation(exact(d))
        assert violation is not None
        assert violation.what == "pixel in no window"


def test_kept_means_must_vanish_up_to_the_tolerance() -> None:
    x = np.full((1, 4, 4), 0.5)
    constraint = solvers.WindowSSIM(0.9, solvers.Window.uniform(2, stride=2), "preserve")
    tolerance = kept_mean_tolerance(constraint, x[None], 0)
    assert 0 < tolerance < Fraction(1, 10**13)
    d = np.zeros_like(x)
    d[0, 0, 0] = 4 * float(tolerance)
    assert violated(constraint, x, d) == -math.inf
    assert exact_set(constraint, x[None], 0, mean_tolerances=0).violation(exact(d)) is not None
    d[0, 0, 0] = 4 * float(tolerance) * (1 + 2**-50)
    assert violated(constraint, x, d) > 0


def test_balls_and_boxes_are_exact_to_the_last_bit() -> None:
    x = np.array([[[0.25, 0.5]]])
    inside, outside = np.array([[[0.3, -0.4]]]), np.array([[[np.nextafter(0.3, 1), -0.4]]])
    for radius in (np.nextafter(0.7, 0), 0.7, np.nextafter(0.7, 1)):
        fits = Fraction(0.3) + Fraction(0.4) <= Fraction(radius)
        assert (violated(solvers.LpBall(1, radius), x, inside) == -math.inf) == fits
    for radius in (np.nextafter(0.5, 0), 0.5, np.nextafter(0.5, 1)):
        fits = Fraction(0.3) ** 2 + Fraction(0.4) ** 2 <= Fraction(radius) ** 2
        assert (violated(solvers.LpBall(2, radius), x, inside) == -math.inf) == fits
    assert violated(solvers.LpBall(math.inf, 0.4), x, inside) == -math.inf
    assert violated(solvers.LpBall(math.inf, np.nextafter(0.4, 0)), x, inside) > 0
    assert violated(solvers.Box(-0.2, 0.55), x, inside) == -math.inf
    assert violated(solvers.Box(-0.2, 0.5), x, outside) > 0
    assert violated(solvers.Box(0.2, 0.9), x, outside) > 0
    mask = torch.tensor([[True, False]])
    assert violated(solvers.Support(mask), x, inside) == 0.4
    # A reference that single precision rounds outside: d = 0 stays allowed, and no more.
    rounded = np.float32([[[0.6]]])
    assert violated(solvers.Box(0.0, 0.6), rounded, np.zeros((1, 1, 1))) == -math.inf
    assert violated(solvers.Box(0.0, 0.6), rounded, np.full((1, 1, 1), 1e-12)) > 0


def test_global_ssim_agrees_with_the_papers_distance() -> None:
    for seed in range(20):
        x, d = draw(seed, 1.0)
        d = d - d.mean()
        pixels, changed = 2 * x, 2 * (x + d)
        centred = [v - v.mean() for v in (pixels, changed)]
        loss = ((centred[0] - centred[1]) ** 2).sum() / (sum((v**2).sum() for v in centred) + 9e-4)
        assert agrees(violated(solvers.GlobalSSIM(0.3), x, d), math.sqrt(loss) - 0.3)
        assert violated(solvers.GlobalSSIM(0.3), x, d + 1e-6) == pytest.approx(1e-6, rel=1e-3)


def test_a_feature_ball_agrees_with_the_matrix() -> None:
    for seed in range(20):
        x, d = draw(seed, 1.0)
        matrix = np.random.default_rng(seed).normal(size=(3, x.size))
        length = float(np.linalg.norm(matrix @ d.reshape(-1)))
        for radius in (0.5 * length, 2 * length):
            constraint = solvers.FeatureBall(radius, matrix_operator(matrix, x.shape))
            assert agrees(violated(constraint, x, d), length - radius)
