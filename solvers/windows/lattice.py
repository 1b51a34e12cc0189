"""Where windows lie on an image and what each weighs: plain data that the products and the compiled kernels read."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

# Windows in a block: below, matrix products lose more to their overhead than they save in operations.
BLOCK = 64


class SlidingWindow(Protocol):
    """What a lattice asks of a window; :class:`~solvers.Window` has all of this."""

    @property
    def size(self) -> int: ...

    @property
    def stride(self) -> int: ...

    def taps(self) -> Tensor: ...

    def starts(self, length: int) -> list[int]: ...

    def check_fits(self, height: int, width: int) -> None: ...


class Lattice:
    """The windows of one image size, dtype and device. All weights are built once, in the constructor.

    A window's weights are separable: the weight of a pixel is the product of a weight along its column and of one
    along its row, so two banded matrices of one axis each hold all of them.

    Attributes:
        window: the sliding window.
        height, width: H and W, the image's size in pixels.
        row_starts, column_starts: top and left edges of the windows, in pixels; negative where a window hangs over.
        shape: (P_h, P_w), the number of windows down and across.
        rows, columns: (P_h, H) and (P_w, W), the averaging matrices of the two axes; rows sum to 1.
        rows_t, columns_t: their transposes, contiguous.
        root_rows, root_columns: (P_h, size) and (P_w, size), square roots of the weights by position in the window, 0
            outside the image.
        pixels: (P_h, P_w), the number N of pixels inside each window (less than size^2 where the window is cut).
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
        # For window vectors: the square roots of the weights, (P_h, size) and (P_w, size), and the padding.
        self.root_rows = windowed_roots(window, rows, self.row_starts).to(dtype=dtype, device=device)
        self.root_columns = windowed_roots(window, columns, self.column_starts).to(dtype=dtype, device=device)

    @cached_property
    def row_taps(self) -> Tensor:
        """Weights along the rows by position in the window, 0 outside the image: (size, P_h)."""
        return self.root_rows.square().t().contiguous()

    @cached_property
    def column_taps(self) -> Tensor:
        """Weights along the columns by position in the window, 0 outside the image: (size, P_w)."""
        return self.root_columns.square().t().contiguous()


def banded(window: SlidingWindow, starts: list[int], length: int) -> tuple[Tensor, Tensor]:
    """The averaging matrix (windows, length) in float64, rows summing to 1, and each row's pixel count (windows,)."""
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
    """For each pixel the windows over it, (length, most), padded by repetition; any window where there is none."""
    lists = [
        [k for k, start in enumerate(starts) if start <= pixel < start + window.size] or [0] for pixel in range(length)
    ]
    most = max(len(entry) for entry in lists)
    return torch.tensor([entry + entry[-1:] * (most - len(entry)) for entry in lists])


def windowed_roots(window: SlidingWindow, matrix: Tensor, starts: list[int]) -> Tensor:
    """Square roots of the weights laid out by position in the window, (windows, size), zero outside the image."""
    roots = torch.zeros(len(starts), window.size, dtype=torch.float64)
    length = matrix.shape[1]
    for row, start in enumerate(starts):
        low, high = max(start, 0), min(start + window.size, length)
        roots[row, low - start : high - start] = matrix[row, low:high].sqrt()
    return roots


class BlockedBand:
    """The averaging matrix of an axis cut into blocks of windows, each of which needs a short stretch of pixels.

    Batched matrix products, so the cost is linear in the length, on any device and under autograd.

    Args:
        matrix: (windows, length), from :func:`banded`, in the dtype and on the device of the products.
        starts: left edges of the windows, evenly spaced.
    """

    def __init__(self, matrix: Tensor, starts: list[int], window: SlidingWindow) -> None:
        self.windows, self.length = matrix.shape
        self.first, self.overlap = starts[0], window.size - window.stride
        self.block = max(BLOCK, -(-window.size // window.stride))
        self.step = self.block * window.stride  # pixels between blocks
        blocks = -(-self.windows // self.block)
        # Pixels after the padding: those of all blocks, and what the last one hangs over.
        self.padding = -self.first, blocks * self.step + self.overlap - (self.length - self.first)
        padded = functional.pad(matrix, (*self.padding, 0, blocks * self.block - self.windows))
        rows = padded.reshape(blocks, self.block, -1)
        # (blocks, windows of a block, pixels of a block)
        self.matrices = torch.stack([rows[b, :, b * self.step :][:, : self.step + self.overlap] for b in range(blocks)])

    def mean(self, image: Tensor) -> Tensor:
        """Along the last axis but one: (..., length, n) -> (..., windows, n)."""
        padded = functional.pad(image, (0, 0, *self.padding))
        stretches = padded.unfold(-2, self.step + self.overlap, self.step).transpose(-1, -2)
        return (self.matrices @ stretches).flatten(-3, -2)[..., : self.windows, :]

    def adjoint(self, values: Tensor) -> Tensor:
        """The exact adjoint of :meth:`mean`: (..., windows, n) -> (..., length, n)."""
        blocks = len(self.matrices)
        padded = functional.pad(values, (0, 0, 0, blocks * self.block - self.windows))
        stretches = self.matrices.mT @ padded.unflatten(-2, (blocks, self.block))
        body, beyond = stretches[..., : self.step, :], stretches[..., self.step :, :]
        # What hangs over a block belongs to the first pixels of the next.
        zeros = body.new_zeros(()).expand(*body.shape[:-3], 1, *body.shape[-2:])
        carried = functional.pad(beyond, (0, 0, 0, self.step - self.overlap, 1, 0))
        image = (torch.cat([body, zeros], dim=-3) + carried).flatten(-3, -2)
        return image[..., -self.first : self.length - self.first, :]
