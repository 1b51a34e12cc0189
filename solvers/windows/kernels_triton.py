"""Separable window products, compiled by Triton for a GPU: windowed means, their adjoint, and the normal product.

The same products as :mod:`solvers.windows.kernels_numba` has for the CPU. A pass along one axis combines at most
``size`` neighbours, which lie in the cache, so the pass moves each number once. A product with torch's dense banded
matrices would compute as many terms for each number as the image has pixels a side. Sums are made in a fixed order:
results do not depend on what else is in the batch.

Triton comes with torch's CUDA builds on Linux. It compiles at the first call and keeps the machine code on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from solvers.windows.separable_plan import check_planes

if TYPE_CHECKING:
    from solvers.windows.lattice import Lattice

# Rows and columns of a plane that one program works on, and its warps.
TILE = 16, 64
WARPS = 4


def mean_planes(v: Tensor, lattice: Lattice) -> Tensor:
    """Windowed means: contiguous (N, H, W) -> (N, P_h, P_w)."""
    between = v.new_empty(v.shape[0], lattice.shape[0], lattice.width)
    out = v.new_empty(v.shape[0], *lattice.shape)
    check_planes(lattice, pixels=(v,), windows=(out,))
    with torch.cuda.device_of(v):
        _down(v, between, lattice)
        _across(between, out, lattice)
    return out


def adjoint_planes(q: Tensor, lattice: Lattice, *, squared: bool = False) -> Tensor:
    """The adjoint of :func:`mean_planes`, with ``squared`` weights if asked: contiguous (N, P_h, P_w) -> (N, H, W)."""
    between = q.new_empty(q.shape[0], lattice.shape[0], lattice.width)
    out = q.new_empty(q.shape[0], lattice.height, lattice.width)
    check_planes(lattice, pixels=(out,), windows=(q,))
    with torch.cuda.device_of(q):
        _back_across(q, between, lattice, squared=squared)
        _back_down(between, out, lattice, squared=squared)
    return out


def normal_planes(
    v: Tensor, diagonal: Tensor, weights: Tensor, lattice: Lattice, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The normal product ``diagonal * v + M'(weights * M v)``, and parts of its inner product with v.

    Args:
        v: contiguous (N, H, W), like all images here, in the lattice's dtype.
        diagonal: (N, H, W).
        weights: contiguous (N, P_h, P_w).
        lattice: the windows.
        out: (N, H, W), where to write the product; default: a new tensor.

    Returns:
        The product, (N, H, W), and float64 (N, tiles), whose sums over the tiles are the planes' inner products.
    """
    out = torch.empty_like(v) if out is None else out
    check_planes(lattice, pixels=(v, diagonal, out), windows=(weights,))
    between = v.new_empty(v.shape[0], lattice.shape[0], lattice.width)
    windows = torch.empty_like(weights)
    dots = torch.empty(v.shape[0], tiles(lattice.height, lattice.width), dtype=torch.float64, device=v.device)
    with torch.cuda.device_of(v):
        _down(v, between, lattice)
        _across(between, windows, lattice, weights)
        _back_across(windows, between, lattice)
        _back_down(between, out, lattice, normal=(diagonal, v, dots))
    return out, dots


def tiles(height: int, width: int) -> int:
    """How many tiles of TILE rows and columns cover a plane."""
    return -(-height // TILE[0]) * -(-width // TILE[1])


def _down(v: Tensor, out: Tensor, lattice: Lattice) -> None:
    rows, taps = lattice.shape[0], lattice.row_taps
    _mean_down[v.shape[0], tiles(rows, lattice.width)](
        v, taps, out, lattice.height, lattice.width, rows, lattice.row_starts[0], *_constants(lattice), num_warps=WARPS
    )


def _across(v: Tensor, out: Tensor, lattice: Lattice, weights: Tensor | None = None) -> None:
    rows, columns = lattice.shape
    weighted = weights is not None
    _mean_across[v.shape[0], tiles(rows, columns)](
        v, lattice.column_taps, weights if weighted else out, out, rows, lattice.width, columns,
        lattice.column_starts[0], weighted, *_constants(lattice), num_warps=WARPS,
    )  # fmt: skip


def _back_across(q: Tensor, out: Tensor, lattice: Lattice, *, squared: bool = False) -> None:
    rows, columns = lattice.shape
    _adjoint_across[q.shape[0], tiles(rows, lattice.width)](
        q, lattice.column_taps, out, rows, lattice.width, columns, lattice.column_starts[0], squared,
        *_constants(lattice), num_warps=WARPS,
    )  # fmt: skip


def _back_down(
    q: Tensor,
    out: Tensor,
    lattice: Lattice,
    *,
    normal: tuple[Tensor, Tensor, Tensor] | None = None,
    squared: bool = False,
) -> None:
    # The kernel must be given tensors, even for what it does not use.
    diagonal, v, dots = normal or (out, out, out)
    _adjoint_down[q.shape[0], tiles(lattice.height, lattice.width)](
        q, lattice.row_taps, diagonal, v, dots, out, lattice.height, lattice.width, lattice.shape[0],
        lattice.row_starts[0], normal is not None, squared, *_constants(lattice), num_warps=WARPS,
    )  # fmt: skip


def _constants(lattice: Lattice) -> tuple[int, int, int, int]:
    """SIZE, STRIDE, ROWS and COLUMNS of every kernel."""
    return lattice.window.size, lattice.window.stride, *TILE


# -- kernels --------------------------------------------------------------------------------------------------
# The grid is (planes, tiles). Planes are counted in 64 bits: a batch may have more than 2^31 pixels. `first` is the
# left or top edge of the first window, 0 or negative. Taps are (size, windows of the axis), 0 outside the image.


@triton.jit
def _corner(count, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows and columns of this program's tile."""
    across = tl.cdiv(width, COLUMNS)
    tile = tl.program_id(1)
    rows = (tile // across) * ROWS + tl.arange(0, ROWS)
    return rows, (tile % across) * COLUMNS + tl.arange(0, COLUMNS)


@triton.jit
def _mean_down(  # type: ignore[no-untyped-def]
    v, taps, out, height, width, windows, first,
    SIZE: tl.constexpr, STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """(N, H, W) -> (N, P_h, W)."""
    plane = tl.program_id(0).to(tl.int64)
    p, j = _corner(windows, width, ROWS, COLUMNS)
    known, inside = p < windows, (j < width)[None, :]
    total = tl.zeros((ROWS, COLUMNS), dtype=v.dtype.element_ty)
    for k in tl.static_range(SIZE):
        i = p * STRIDE + first + k
        met = (known & (i >= 0) & (i < height))[:, None] & inside
        weight = tl.load(taps + k * windows + p, mask=known, other=0.0)
        total += weight[:, None] * tl.load(v + plane * height * width + i[:, None] * width + j[None, :], met, 0.0)
    tl.store(out + plane * windows * width + p[:, None] * width + j[None, :], total, known[:, None] & inside)


@triton.jit
def _mean_across(  # type: ignore[no-untyped-def]
    v, taps, weights, out, height, width, windows, first, WEIGHTED: tl.constexpr,
    SIZE: tl.constexpr, STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """(N, R, W) -> (N, R, P_w), times weights of that shape where WEIGHTED."""
    plane = tl.program_id(0).to(tl.int64)
    i, p = _corner(height, windows, ROWS, COLUMNS)
    inside, known = (i < height)[:, None], p < windows
    total = tl.zeros((ROWS, COLUMNS), dtype=v.dtype.element_ty)
    for k in tl.static_range(SIZE):
        j = p * STRIDE + first + k
        met = inside & (known & (j >= 0) & (j < width))[None, :]
        weight = tl.load(taps + k * windows + p, mask=known, other=0.0)
        total += weight[None, :] * tl.load(v + plane * height * width + i[:, None] * width + j[None, :], met, 0.0)
    at, met = plane * height * windows + i[:, None] * windows + p[None, :], inside & known[None, :]
    if WEIGHTED:
        total *= tl.load(weights + at, met, 0.0)
    tl.store(out + at, total, met)


@triton.jit
def _adjoint_across(  # type: ignore[no-untyped-def]
    q, taps, out, height, width, windows, first, SQUARED: tl.constexpr,
    SIZE: tl.constexpr, STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """(N, R, P_w) -> (N, R, W), with the taps or their squares."""
    plane = tl.program_id(0).to(tl.int64)
    i, j = _corner(height, width, ROWS, COLUMNS)
    inside, last = (i < height)[:, None], (j - first) // STRIDE
    total = tl.zeros((ROWS, COLUMNS), dtype=q.dtype.element_ty)
    for other in tl.static_range((SIZE + STRIDE - 1) // STRIDE):
        p = last - other
        k = j - first - p * STRIDE
        met = (p >= 0) & (p < windows) & (k < SIZE) & (j < width)
        weight = tl.load(taps + k * windows + p, mask=met, other=0.0)
        if SQUARED:
            weight *= weight
        at = plane * height * windows + i[:, None] * windows + p[None, :]
        total += weight[None, :] * tl.load(q + at, inside & met[None, :], 0.0)
    tl.store(out + plane * height * width + i[:, None] * width + j[None, :], total, inside & (j < width)[None, :])


@triton.jit
def _adjoint_down(  # type: ignore[no-untyped-def]
    q, taps, diagonal, v, dots, out, height, width, windows, first, NORMAL: tl.constexpr, SQUARED: tl.constexpr,
    SIZE: tl.constexpr, STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """(N, P_h, W) -> (N, H, W); where NORMAL, plus diagonal * v, and each tile's part of the product with v."""
    plane = tl.program_id(0).to(tl.int64)
    i, j = _corner(height, width, ROWS, COLUMNS)
    inside, last = (j < width)[None, :], (i - first) // STRIDE
    total = tl.zeros((ROWS, COLUMNS), dtype=q.dtype.element_ty)
    for other in tl.static_range((SIZE + STRIDE - 1) // STRIDE):
        p = last - other
        k = i - first - p * STRIDE
        met = (p >= 0) & (p < windows) & (k < SIZE) & (i < height)
        weight = tl.load(taps + k * windows + p, mask=met, other=0.0)
        if SQUARED:
            weight *= weight
        at = plane * windows * width + p[:, None] * width + j[None, :]
        total += weight[:, None] * tl.load(q + at, met[:, None] & inside, 0.0)
    at, met = plane * height * width + i[:, None] * width + j[None, :], (i < height)[:, None] & inside
    if NORMAL:
        value = tl.load(v + at, met, 0.0)
        total += tl.load(diagonal + at, met, 0.0) * value
        part = tl.sum(tl.sum(tl.where(met, total * value, 0.0), axis=1), axis=0)
        tl.store(dots + plane * tl.num_programs(1) + tl.program_id(1), part.to(tl.float64))
    tl.store(out + at, total, met)
