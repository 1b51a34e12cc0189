"""Windows in rational arithmetic: integer weights, and the moments of an image under them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

import solvers
from tests.solvers.exact_arithmetic.rational_arrays import Integers, exact


def window_starts(window: solvers.Window, length: int) -> list[int]:
    """First pixels of the windows along an axis, by walking along the axis."""
    if window.border == "valid":
        return [start for start in range(0, length, window.stride) if start + window.size <= length]
    # Every stretch of `stride` pixels has the window that is centred on the stretch.
    return [stretch - (window.size - window.stride) // 2 for stretch in range(0, length, window.stride)]


def axis_weights(window: solvers.Window, length: int) -> Integers:
    """The windows' weights along an axis, up to a factor for each window: integers (windows, length)."""
    taps = [1] * window.size if window.sigma is None else exact(window.taps().numpy()).numerators.tolist()
    starts = window_starts(window, length)
    weights = np.zeros((len(starts), length), dtype=object)
    for row, start in enumerate(starts):
        for position, tap in enumerate(taps):
            if 0 <= start + position < length:
                weights[row, start + position] = tap
    return weights


@dataclass(frozen=True)
class ExactWindows:
    """The windows of one image size. The weight of a pixel is ``rows * columns / total``.

    Attributes:
        rows, columns: the integer weights along the axes, (P_h, H) and (P_w, W).
        total: (P_h, P_w), the sum of a window's integer weights.
        pixels: (P_h, P_w), the number of pixels in each window.
        uncovered: (H, W) bool, whether a pixel lies in no window.
    """

    rows: Integers
    columns: Integers
    total: Integers
    pixels: Integers
    uncovered: np.ndarray

    def sums(self, image: Integers) -> Integers:
        """Weighted sums, ``total`` times the means: (..., H, W) -> (..., P_h, P_w)."""
        return np.matmul(self.rows, np.matmul(image, self.columns.T))

    def spreads(self, image: Integers, sums: Integers) -> Integers:
        """``total^2`` times the variances of an image whose weighted sums are ``sums``, (..., P_h, P_w)."""
        return self.total * self.sums(image * image) - sums * sums


@lru_cache(maxsize=4096)
def exact_windows(window: solvers.Window, height: int, width: int) -> ExactWindows:
    """The windows of images of ``height x width`` pixels."""
    rows, columns = axis_weights(window, height), axis_weights(window, width)
    row_count, column_count = ((weights != 0).sum(axis=1).astype(object) for weights in (rows, columns))
    reached = np.outer((rows != 0).any(axis=0), (columns != 0).any(axis=0))
    return ExactWindows(
        rows, columns, np.outer(rows.sum(axis=1), columns.sum(axis=1)), np.outer(row_count, column_count), ~reached
    )
