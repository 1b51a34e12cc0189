"""Where the windows of an image lie, and the weight of every pixel in them.

A :class:`Lattice` is plain data for one image size, dtype and device. The window operator and the compiled kernels read
it; this file knows neither of them.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

# Windows in a block of a banded matrix: with fewer, matrix products lose more to overhead than they save in operations.
WINDOWS_PER_BLOCK = 64


def window_starts(length: int, size: int, stride: int, *, whole_only: bool) -> list[int]:
    """Left edges of the windows along one axis, in pixels.

    Without ``whole_only`` (``border="full"``) the first edge is ``-((size - stride)//2)``, and ``ceil(length/stride)``
    windows follow in steps of the stride, so that windows hang over both ends alike and no pixel escapes. With
    ``whole_only`` (``border="valid"``) windows start at 0 and follow while the whole window fits.

    Args:
        length: of the axis, in pixels.
        size, stride: of the window, in pixels.
        whole_only: whether only whole windows count.
    """
    if whole_only:
        return list(range(0, length - size + 1, stride))
    first = -((size - stride) // 2)
    return [first + stride * k for k in range(math.ceil(length / stride))]


class SlidingWindow(Protocol):
    """What a lattice needs to know of a window; :class:`~solvers.Window` has all of this."""

    @property
    def size(self) -> int:
        """The side of a window, in pixels."""

    @property
    def stride(self) -> int:
        """The step between neighbouring windows, in pixels."""

    def taps(self) -> Tensor:
        """The weights of a whole window along one axis: float64 (size,), sum 1."""

    def starts(self, length: int) -> list[int]:
        """The windows' left edges along an axis of ``length`` pixels."""

    def check_fits(self, height: int, width: int) -> None:
        """Raise an error where no window fits the image."""


class Lattice:
    """The windows of one image size, dtype and device. All weights are computed once, in the constructor.

    Weights are separable: the weight of a pixel in a window is the product of a vertical and a horizontal weight. So
    two banded matrices, one for each axis, hold all weights.

    Args:
        window: the sliding window.
        height, width: H and W, the image's size in pixels.
        dtype, device: of the tensors below.

    Attributes:
        window: the sliding window.
        height, width: H and W, the image's size in pixels.
        row_starts, column_starts: top and left edges of the windows, in pixels; negative where a window hangs over
            the image's edge.
        shape: (P_h, P_w), the number of windows down and across.
        rows, columns: (P_h, H) and (P_w, W), the averaging matrices of the two axes; rows sum to 1.
        rows_t, columns_t: their transposes, contiguous.
        root_rows, root_columns: (P_h, size) and (P_w, size), square roots of the weights by position in the window, 0
            outside the image.
        pixels: (P_h, P_w), the number N of image pixels in each window (less than size^2 where the edge cuts it).
        coverage: (H, W), the sum over windows of the weight on each pixel: the diagonal of A'A.
        covered: (H, W) bool, whether a pixel lies in any window.
    """

    def __init__(
        self, window: SlidingWindow, height: int, width: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        window.check_fits(height, width)
        self.window = window
        self.height, self.width = height, width
        self.row_starts, self.column_starts = window.starts(height), window.starts(width)
        self.shape = (len(self.row_starts), len(self.column_starts))
        rows, row_count = banded(window, self.row_starts, height)
        columns, column_count = banded(window, self.column_starts, width)
        self.rows = rows.to(dtype=dtype, device=device)  # (P_h, H)
        self.columns_t = columns.t().contiguous().to(dtype=dtype, device=device)  # (W, P_w)
        self.rows_t = self.rows.t().contiguous()
        self.columns = self.columns_t.t().contiguous()
        self.pixels = torch.outer(row_count, column_count).to(dtype=dtype, device=device)
        self.coverage = torch.outer(rows.sum(dim=0), columns.sum(dim=0)).to(dtype=dtype, device=device)
        self.covered = self.coverage > 0
        # For window vectors, whose entries are weighted by the square roots.
        self.root_rows = windowed_roots(window, rows, self.row_starts).to(dtype=dtype, device=device)
        self.root_columns = windowed_roots(window, columns, self.column_starts).to(dtype=dtype, device=device)

    @cached_property
    def row_taps(self) -> Tensor:
        """Vertical weights by position in the window, 0 outside the image: (size, P_h)."""
        return self.root_rows.square().t().contiguous()

    @cached_property
    def column_taps(self) -> Tensor:
        """Horizontal weights by position in the window, 0 outside the image: (size, P_w)."""
        return self.root_columns.square().t().contiguous()


def banded(window: SlidingWindow, starts: list[int], length: int) -> tuple[Tensor, Tensor]:
    """One axis's averaging matrix (windows, length), rows summing to 1, and each row's pixel count (windows,), both
    float64."""
    taps = window.taps()
    matrix = torch.zeros(len(starts), length, dtype=torch.float64)
    count = torch.zeros(len(starts), dtype=torch.float64)
    for row, start in enumerate(starts):
        low, high = max(start, 0), min(start + window.size, length)
        inside = taps[low - start : high - start]
        matrix[row, low:high] = inside / inside.sum()
        count[row] = high - low
    return matrix, count


def covering(window: SlidingWindow, starts: list[int], length: int) -> Tensor:
    """For each pixel of an axis the windows over it, long (length, n), n the largest number of windows over any pixel.

    A shorter list is padded by repeating its last window. A pixel in no window lists window 0.
    """
    lists = [
        [k for k, start in enumerate(starts) if start <= pixel < start + window.size] or [0] for pixel in range(length)
    ]
    longest = max(len(entry) for entry in lists)
    return torch.tensor([entry + entry[-1:] * (longest - len(entry)) for entry in lists])


def windowed_roots(window: SlidingWindow, matrix: Tensor, starts: list[int]) -> Tensor:
    """Square roots of the weights in ``matrix`` (windows, length) by position in the window: (windows, size), 0 outside
    the image."""
    roots = torch.zeros(len(starts), window.size, dtype=torch.float64)
    length = matrix.shape[1]
    for row, start in enumerate(starts):
        low, high = max(start, 0), min(start + window.size, length)
        roots[row, low - start : high - start] = matrix[row, low:high].sqrt()
    return roots


class BlockedBand:
    """One axis's averaging matrix in blocks: the windows of a block need a short stretch of pixels only.

    The products are batched matrix products. So their cost is linear in the axis's length, on any device and under
    autograd.

    Args:
        matrix: (windows, length), from :func:`banded`, in the dtype and on the device of the products.
        starts: left edges of the windows, evenly spaced.
        window: the sliding window.
    """

    def __init__(self, matrix: Tensor, starts: list[int], window: SlidingWindow) -> None:
        self.windows, self.length = matrix.shape
        self.first, self.overlap = starts[0], window.size - window.stride
        self.block = max(WINDOWS_PER_BLOCK, -(-window.size // window.stride))
        self.step = self.block * window.stride  # pixels between blocks
        blocks = -(-self.windows // self.block)
        # Padded, the axis has the pixels of all blocks, and those that the last block's windows hang over.
        self.padding = -self.first, blocks * self.step + self.overlap - (self.length - self.first)
        padded = functional.pad(matrix, (*self.padding, 0, blocks * self.block - self.windows))
        rows = padded.reshape(blocks, self.block, -1)
        # (blocks, windows of a block, pixels of a block)
        self.matrices = torch.stack([rows[b, :, b * self.step :][:, : self.step + self.overlap] for b in range(blocks)])

    def mean(self, image: Tensor) -> Tensor:
        """Windowed means along the last axis but one: (..., length, n) -> (..., windows, n)."""
        padded = functional.pad(image, (0, 0, *self.padding))
        stretches = padded.unfold(-2, self.step + self.overlap, self.step).transpose(-1, -2)
        return (self.matrices @ stretches).flatten(-3, -2)[..., : self.windows, :]

    def adjoint(self, values: Tensor) -> Tensor:
        """The exact adjoint of :meth:`mean`: (..., windows, n) -> (..., length, n)."""
        blocks = len(self.matrices)
        padded = functional.pad(values, (0, 0, 0, blocks * self.block - self.windows))
        stretches = self.matrices.mT @ padded.unflatten(-2, (blocks, self.block))
        body, beyond = stretches[..., : self.step, :], stretches[..., self.step :, :]
        # Pixels beyond the end of a block are the first pixels of the next block.
        zeros = body.new_zeros(()).expand(*body.shape[:-3], 1, *body.shape[-2:])
        carried = functional.pad(beyond, (0, 0, 0, self.step - self.overlap, 1, 0))
        image = (torch.cat([body, zeros], dim=-3) + carried).flatten(-3, -2)
        return image[..., -self.first : self.length - self.first, :]
