"""Sliding windows a second time, written out in NumPy from their description, to check the library's windows against.

Every window is listed with its pixels and weights, and means and variances are sums over that list. The memory is that
of image times window. No code is shared with ``solvers.windows``.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse

from solvers.conformance.oracles.base import Array
from solvers.windows import Window


class NaiveWindows:
    """All windows on images of ``height x width``. Images are (C, H, W), window values (C, P_h, P_w).

    Attributes:
        index: (P, size^2) int, each window's pixels in the flattened image; 0 where it hangs over the edge.
        weights: (P, size^2), 0 where it hangs over the edge; every row sums to 1.
        lattice: (P_h, P_w), the number of windows down and across.
        pixels: (P_h, P_w), how many pixels of the image lie in each window.
        covered: (H, W) bool, whether any window has weight on the pixel.
        whole: (P_h, P_w) bool, whether the window lies inside the image.
    """

    def __init__(self, window: Window, height: int, width: int) -> None:
        rows, columns = _starts(window, height), _starts(window, width)
        taps = _taps(window)
        offset = np.arange(window.size)
        row = rows[:, None, None, None] + offset[None, None, :, None]
        column = columns[None, :, None, None] + offset[None, None, None, :]
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        weights = np.where(inside, taps[:, None] * taps[None, :], 0.0)
        weights = weights / weights.sum(axis=(2, 3), keepdims=True)
        self.height, self.width = height, width
        self.lattice = (len(rows), len(columns))
        count = self.lattice[0] * self.lattice[1]
        self.index = np.where(inside, row * width + column, 0).reshape(count, -1)
        self.weights = weights.reshape(count, -1)
        self.pixels = inside.sum(axis=(2, 3))
        self.whole = inside.all(axis=(2, 3))
        hit = np.bincount(self.index.ravel(), self.weights.ravel(), minlength=height * width)
        self.covered = (hit > 0).reshape(height, width)
        self._mean = scipy.sparse.csr_array(
            (self.weights.ravel(), self.index.ravel(), np.arange(count + 1) * window.size**2),
            shape=(count, height * width),
        )

    def means(self, image: Array) -> Array:
        """``m_p(v)``."""
        flat = image.reshape(image.shape[0], -1)
        return np.stack([self._mean @ channel for channel in flat]).reshape(-1, *self.lattice)

    def spread(self, values: Array) -> Array:
        """The adjoint of :meth:`means`: (C, P_h, P_w) -> (C, H, W)."""
        flat = values.reshape(values.shape[0], -1)
        return np.stack([self._mean.T @ channel for channel in flat]).reshape(-1, self.height, self.width)

    def covariance(self, first: Array, second: Array) -> Array:
        """``sum_k w_k (u_k - m_p(u))(v_k - m_p(v))``, with the means subtracted first, so that no digits cancel."""
        channels = []
        for u, v in zip(first.reshape(len(first), -1), second.reshape(len(second), -1), strict=True):
            u_in, v_in = u[self.index], v[self.index]
            u_in = u_in - (self.weights * u_in).sum(axis=1, keepdims=True)
            v_in = v_in - (self.weights * v_in).sum(axis=1, keepdims=True)
            channels.append((self.weights * u_in * v_in).sum(axis=1))
        return np.stack(channels).reshape(-1, *self.lattice)

    def variance(self, image: Array) -> Array:
        """``V_p(v)``."""
        return self.covariance(image, image)

    def vectors(self, image: Array) -> Array:
        """``sqrt(w) v`` window by window: (C, H, W) -> (C, P_h, P_w, size^2)."""
        roots = np.sqrt(self.weights)
        flat = image.reshape(image.shape[0], -1)
        return np.stack([roots * channel[self.index] for channel in flat]).reshape(
            image.shape[0], *self.lattice, roots.shape[1]
        )

    def fold(self, vectors: Array) -> Array:
        """The adjoint of :meth:`vectors`."""
        roots, size = np.sqrt(self.weights), self.height * self.width
        folded = [
            np.bincount(self.index.ravel(), (roots * channel.reshape(roots.shape)).ravel(), minlength=size)
            for channel in vectors
        ]
        return np.stack(folded).reshape(-1, self.height, self.width)


def _starts(window: Window, length: int) -> Array:
    """Left edges: of whole windows only, or of windows that hang over both edges of the image alike."""
    if window.border == "valid":
        return np.arange(0, length - window.size + 1, window.stride)
    return -((window.size - window.stride) // 2) + window.stride * np.arange(math.ceil(length / window.stride))


def _taps(window: Window) -> Array:
    if window.sigma is None:
        return np.full(window.size, 1.0)
    center = (window.size - 1) / 2
    return np.exp(-((np.arange(window.size) - center) ** 2) / (2 * window.sigma**2))
