"""The oracle of :class:`~solvers.WindowSSIM`: the two factors of SSIM, window by window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.conformance.oracles.base import Array, DualParts
from solvers.conformance.oracles.naive_windows import NaiveWindows
from solvers.constraints import WindowDual, WindowSSIM


def loss_bounds(constraint: WindowSSIM) -> tuple[float, float]:
    """alpha and beta, the bounds on 1 - S2 and 1 - S1, with ``(1 - alpha)(1 - beta) = threshold``."""
    if constraint.luminance == "split":
        equal = 1 - math.sqrt(constraint.threshold)
        return equal, equal
    beta = 0.0 if constraint.luminance == "preserve" else float(constraint.luminance)
    return 1 - constraint.threshold / (1 - beta), beta


@dataclass(frozen=True)
class WindowDualArrays:
    """A :class:`~solvers.WindowDual` of one image in NumPy."""

    ball: Array
    point: Array
    mean: Array


class WindowOracle:
    """All windows of one image (C, H, W).

    Attributes:
        center: a; the ball of a window is ``|R_p d - a R_p x| <= radius_p``.
        radius: (C, P_h, P_w).
        mean_lower, mean_upper: the interval of ``m_p(d)``, (C, P_h, P_w).
    """

    def __init__(self, constraint: WindowSSIM, image: Array) -> None:
        self.image, self.unit = image, 1.0
        self.windows = NaiveWindows(constraint.window, *image.shape[1:])
        self.threshold = constraint.threshold
        self.alpha, self.beta = loss_bounds(constraint)
        count = self.windows.pixels.astype(np.float64)
        self.c1 = (0.01 * constraint.data_range) ** 2
        # With sample covariance, variances are multiplied by N/(N - 1). Multiplying C2 by (N - 1)/N is the same.
        self.c2 = (0.03 * constraint.data_range) ** 2 * (
            (count - 1) / count if constraint.sample_covariance else np.ones_like(count)
        )
        self.reference_mean, self.reference_variance = self.windows.means(image), self.windows.variance(image)
        self.center, shift = self.alpha / (1 - self.alpha), self.beta / (1 - self.beta)
        variance, mean = self.reference_variance, self.reference_mean
        self.radius = np.sqrt(self.center * (2 * variance + self.c2) + self.center**2 * variance)
        half = np.sqrt(shift * (2 * mean**2 + self.c1) + shift**2 * mean**2)
        self.mean_lower, self.mean_upper = shift * mean - half, shift * mean + half

    def factors(self, delta: Array) -> tuple[Array, Array]:
        """S1 and S2 of every window, by their definitions."""
        perturbed = self.image + delta
        mean, variance = self.windows.means(perturbed), self.windows.variance(perturbed)
        covariance = self.windows.covariance(self.image, perturbed)
        luminance = (2 * self.reference_mean * mean + self.c1) / (self.reference_mean**2 + mean**2 + self.c1)
        energy = self.reference_variance + variance + self.c2
        # A window that the edge cuts to one pixel has no variance, and with sample covariance no C2: then S2 = 1.
        empty = energy == 0
        structure = np.where(empty, 1.0, (2 * covariance + self.c2) / np.where(empty, 1.0, energy))
        return luminance, structure

    def excess(self, delta: Array) -> float:
        luminance, structure = self.factors(delta)
        worst = max(
            (1 - self.alpha - structure).max(),
            (1 - self.beta - luminance).max(),
            (self.threshold - luminance * structure).max(),
            np.abs(delta[:, ~self.windows.covered]).max(initial=0.0),
        )
        return float(worst)

    def equality_error(self, delta: Array) -> float:
        error = np.abs(delta[:, ~self.windows.covered]).max(initial=0.0)
        if self.beta == 0:
            error = max(error, np.abs(self.windows.means(delta)).max())
        return float(error)

    def bounds(self) -> tuple[Array, Array] | None:
        if self.windows.covered.all():
            return None
        upper = np.broadcast_to(np.where(self.windows.covered, np.inf, 0.0), self.image.shape)
        return -upper, upper

    def implied_bounds(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        """The box that the windows and the given bounds imply together.

        Each pixel of each window gives two bounds. The pixel's distance from the window's mean is at most the radius
        times sqrt((1 - w)/w). And the window's mean stays below its upper end, where all other pixels are at their
        lower bounds or above.
        """
        windows = self.windows
        weights, index = windows.weights, windows.index
        inside = weights > 0
        safe = np.where(inside, weights, 1.0)
        reach = np.sqrt((1 - safe) / safe)
        new_lower, new_upper = lower.copy(), upper.copy()
        for channel, image in enumerate(self.image.reshape(len(self.image), -1)):
            low, high = (bound[channel].ravel()[index] for bound in (lower, upper))
            # Where a bound is absent, the window's mean is not bounded by the box; 0 stands in for it without rounding.
            free_low, free_high = (inside & np.isinf(bound) for bound in (low, high))
            low, high = np.where(np.isinf(low), 0.0, low), np.where(np.isinf(high), 0.0, high)
            box_bottom = np.where(free_low.any(axis=1), -np.inf, (weights * low).sum(axis=1))
            box_top = np.where(free_high.any(axis=1), np.inf, (weights * high).sum(axis=1))
            bottom = np.maximum(self.mean_lower[channel].ravel(), box_bottom)
            top = np.minimum(self.mean_upper[channel].ravel(), box_top)
            offset = self.center * (image[index] - self.reference_mean[channel].reshape(-1, 1))
            far = self.radius[channel].reshape(-1, 1) * reach
            highest = np.minimum(top[:, None] + offset + far, low + (top - box_bottom)[:, None] / safe)
            lowest = np.maximum(bottom[:, None] + offset - far, high - (box_top - bottom)[:, None] / safe)
            np.minimum.at(new_upper[channel].reshape(-1), index[inside], highest[inside].clip(0))
            np.maximum.at(new_lower[channel].reshape(-1), index[inside], -(-lowest[inside]).clip(0))
        return new_lower, new_upper

    def reach(self, direction: Array) -> float:
        # z, spread over the windows in proportion to their weights on each pixel, is a dual block with A'y = z.
        coverage = self.windows.spread(np.ones_like(self.radius))
        covered = self.windows.covered[None]
        share = np.where(covered, direction / np.where(coverage > 0, coverage, 1.0), 0.0)
        if direction[:, ~self.windows.covered].any():
            return math.inf
        block = WindowDualArrays(np.ones_like(self.radius), share, self.windows.means(share))
        return self._structured(np.zeros_like(direction), block).support

    def parts(self, delta: Array, block: Any) -> DualParts:
        if isinstance(block, WindowDual):
            arrays = (np.asarray(value, dtype=np.float64) for value in (block.ball, block.point, block.mean))
            return self._structured(delta, WindowDualArrays(*arrays))
        return self._vectors(delta, np.asarray(block, dtype=np.float64))

    def _structured(self, delta: Array, block: WindowDualArrays) -> DualParts:
        """``y_p = ball_p R_p v + mean_p sqrt(w)``, without writing the vectors out."""
        windows, offset = self.windows, delta - self.center * self.image
        size = np.abs(block.ball) * np.sqrt(windows.variance(block.point))
        along = block.ball * windows.covariance(block.point, offset)
        toward = block.ball * windows.covariance(block.point, self.image)
        slope = windows.spread(block.ball)
        constant = windows.spread(block.mean - block.ball * windows.means(block.point))
        return self._collect(delta, block.point * slope + constant, size, along, toward, block.mean)

    def _vectors(self, delta: Array, block: Array) -> DualParts:
        windows = self.windows
        roots = np.sqrt(windows.weights).reshape(*windows.lattice, -1)
        mean = (block * roots).sum(axis=-1)
        centred = block - mean[..., None] * roots
        size = np.linalg.norm(centred, axis=-1)
        along = (centred * windows.vectors(delta - self.center * self.image)).sum(axis=-1)
        toward = (centred * windows.vectors(self.image)).sum(axis=-1)
        return self._collect(delta, windows.fold(block), size, along, toward, mean)

    def _collect(
        self, delta: Array, adjoint: Array, size: Array, along: Array, toward: Array, mean: Array
    ) -> DualParts:
        """The block's terms at ``delta``.

        Args:
            delta: d, (C, H, W).
            adjoint: A'y, (C, H, W).
            size, along, toward, mean: ``|y_perp|``, ``y_perp'(R d - a R x)``, ``y_perp'R x`` and s of every window,
                (C, P_h, P_w) each.
        """
        distance = np.sqrt(self.windows.variance(delta - self.center * self.image))
        shift = self.windows.means(delta)
        interval = np.where(mean > 0, self.mean_upper, self.mean_lower)
        return DualParts(
            adjoint=adjoint,
            support=float((self.center * toward + self.radius * size + mean * interval).sum()),
            direction=float((size * distance - along).sum()),
            # A multiplier of the wrong sign belongs to the interval's other end: then the slack is its whole width.
            slackness=float((size * (self.radius - distance) + mean * (interval - shift)).sum()),
        )
