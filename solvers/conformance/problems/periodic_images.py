"""One period of a periodic photo and perturbation for which every whole window is tight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solvers.conformance.oracles.base import Array
from solvers.conformance.oracles.naive_windows import NaiveWindows
from solvers.conformance.oracles.window_ssim import loss_bounds
from solvers.constraints import WindowSSIM

# The share of pixels that shall lie at a bound of the box.
SHARE_AT_BOX = 0.15


@dataclass(frozen=True, eq=False)
class Period:
    """One channel over one period; all arrays are (period, period).

    Attributes:
        image: x.
        swing, level: the perturbation is d = swing + level, a pattern and a constant.
        at_box: +1 where x + d = 1, -1 where x + d = 0, and 0 elsewhere.
    """

    image: Array
    swing: Array
    level: Array
    at_box: Array


def draw_period(
    constraint: WindowSSIM, windows: NaiveWindows, rng: np.random.Generator, *, contrast: float, means: bool
) -> Period | None:
    """A random period on which the ball of every whole window is tight, and with ``means`` perhaps its mean, too.

    Some pixels shall lie at a bound of the box. Their x is set to 1 - d, or to -d, by a fixed-point iteration, since d
    depends on x through the windows' radius.

    Args:
        constraint: the windows' set.
        windows: its windows on images of the final size.
        rng: draws the pattern, the photo, and the pixels at a bound.
        contrast: of the photo, 0 to 1.
        means: whether the window's mean may lie at an end of its interval.

    Returns:
        The period, or ``None`` where other pixels leave the box.
    """
    window = constraint.window
    # At stride 1 only a checkerboard gives Gaussian windows of every phase the same variance.
    checkers = window.sigma is not None and window.stride == 1
    period = 2 if checkers else window.size if window.sigma is None else window.stride
    weights = _weights_on_period(windows, period)
    if checkers:
        pattern = np.array([[1.0, -1.0], [-1.0, 1.0]])
        free, side = 0.5 + contrast * pattern * rng.uniform(0.1, 0.3), 0
        fixed = np.full((2, 2), rng.random() < 0.5)
    else:
        pattern = rng.standard_normal(weights.shape)
        # Rows and columns have mean 0, so that windows which lie partly where d is weak have small means.
        pattern = pattern - pattern.mean(axis=0, keepdims=True)
        pattern = pattern - pattern.mean(axis=1, keepdims=True)
        pattern = pattern - (weights * pattern).sum()
        free, side = 0.5 + contrast * rng.uniform(-0.2, 0.2, weights.shape), int(rng.integers(-1, 2))
        fixed = rng.random(weights.shape) < SHARE_AT_BOX
    pattern = pattern / np.sqrt(_covariance(weights, pattern, pattern))
    image = free
    for _ in range(500):
        size, level = _largest(constraint, weights, image, pattern, side if means else 0)
        swing = size * pattern
        next_image = np.where(fixed, np.where(swing + level > 0, 1.0, 0.0) - (swing + level), free)
        change = float(np.abs(next_image - image).max())
        image = next_image
        if change <= 1e-16:
            break
    delta = swing + level
    if ((image + delta < -1e-12) | (image + delta > 1 + 1e-12)).any():
        return None
    return Period(image, swing, np.full_like(image, level), np.where(fixed, np.sign(delta), 0.0))


def _weights_on_period(windows: NaiveWindows, period: int) -> Array:
    """The weight that a whole window puts on each place of the period, (period, period), sum 1."""
    which = int(windows.whole.ravel().argmax())
    row, column = np.divmod(windows.index[which], windows.width)
    weights = np.zeros((period, period))
    np.add.at(weights, (row % period, column % period), windows.weights[which])
    return weights


def _largest(constraint: WindowSSIM, weights: Array, image: Array, pattern: Array, side: int) -> tuple[float, float]:
    """The size of the pattern at which the ball is tight, and the mean at its upper (side 1) or lower (-1) end."""
    alpha, beta = loss_bounds(constraint)
    a, b = alpha / (1 - alpha), beta / (1 - beta)
    count = constraint.window.size**2
    c1 = (0.01 * constraint.data_range) ** 2
    c2 = (0.03 * constraint.data_range) ** 2 * ((count - 1) / count if constraint.sample_covariance else 1.0)
    mean = float((weights * image).sum())
    variance, along = _covariance(weights, image, image), a * _covariance(weights, image, pattern)
    # |size p - a x|^2 = r^2 with r^2 = a (2 V + c2) + a^2 V.
    size = along + float(np.sqrt(along**2 + a * (2 * variance + c2)))
    half = float(np.sqrt(b * (2 * mean**2 + c1) + (b * mean) ** 2))
    return size, (b * mean + side * half if side else 0.0)


def _covariance(weights: Array, first: Array, second: Array) -> float:
    return float((weights * (first - (weights * first).sum()) * (second - (weights * second).sum())).sum())
