"""Windows along one axis, as matrices: their weights, the pixels and windows that meet, and products in linear time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from solvers.windows.window import Window

# Windows in a block: below, matrix products lose more to their overhead than they save in operations.
BLOCK = 64


def banded(window: Window, starts: list[int], length: int) -> tuple[Tensor, Tensor]:
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


def covering(window: Window, starts: list[int], length: int) -> Tensor:
    """For each pixel the windows over it, (length, most), padded by repetition; any window where there is none."""
    lists = [
        [k for k, start in enumerate(starts) if start <= pixel < start + window.size] or [0] for pixel in range(length)
    ]
    most = max(len(entry) for entry in lists)
    return torch.tensor([entry + entry[-1:] * (most - len(entry)) for entry in lists])


def windowed_roots(window: Window, matrix: Tensor, starts: list[int]) -> Tensor:
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

    def __init__(self, matrix: Tensor, starts: list[int], window: Window) -> None:
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
