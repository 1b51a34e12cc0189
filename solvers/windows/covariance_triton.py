"""Windowed covariances in two passes, compiled by Triton for a GPU.

The same sums as :mod:`solvers.windows.covariance_numba` has for the CPU: means first, then the products of the
deviations from these means; rows before windows. One kernel takes both passes along the rows of pixels, the other both
passes down the rows of a window, so the means of whole windows never leave the registers. Sums are made in a fixed
order: results do not depend on what else is in the batch.

Triton contracts a product and a sum to one operation with one rounding. No other operation is changed, so the errors
are those that :attr:`~solvers.windows.operator.WindowOperator.relative_error` bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from solvers.windows.kernels_triton import WARPS, _constants, _corner, tiles
from solvers.windows.separable_plan import check_planes

if TYPE_CHECKING:
    from solvers.windows.lattice import Lattice


def covariance_planes(u: Tensor, v: Tensor, lattice: Lattice) -> Tensor:
    """Windowed covariances in two passes: two contiguous (N, H, W) -> (N, P_h, P_w).

    First every row of every window gets its means and its covariance around these means. Then the rows are joined, the
    rows' means around the window's mean: ``cov = sum_r w_r (cov_r + (m_r(u) - m(u)) (m_r(v) - m(v)))``. No large terms
    cancel, however far the pixels are from 0. ``v`` may be ``u``, for the variance.
    """
    check_planes(lattice, pixels=(u, v), windows=())
    same, (planes, height, width), (windows, columns) = u is v, u.shape, lattice.shape
    mean_u, within = (u.new_empty(planes, height, columns) for _ in range(2))
    mean_v = mean_u if same else torch.empty_like(mean_u)
    out = u.new_empty(planes, windows, columns)
    with torch.cuda.device_of(u):
        _row_covariances[planes, tiles(height, columns)](
            u, v, lattice.column_taps, mean_u, mean_v, within, height, width, columns, lattice.column_starts[0], same,
            *_constants(lattice), num_warps=WARPS,
        )  # fmt: skip
        _join_covariances[planes, tiles(windows, columns)](
            mean_u, mean_v, within, lattice.row_taps, out, height, columns, windows, lattice.row_starts[0], same,
            *_constants(lattice), num_warps=WARPS,
        )  # fmt: skip
    return out


# -- kernels --------------------------------------------------------------------------------------------------
# Grid, taps and `first` are those of kernels_triton. Where SAME, v is u and is not read. The loops are not unrolled:
# the compiler would keep what the first pass has read for the second, in more registers than a thread has.


@triton.jit
def _row_covariances(  # type: ignore[no-untyped-def]
    u, v, taps, mean_u, mean_v, out, height, width, windows, first, SAME: tl.constexpr,
    SIZE: tl.constexpr, STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Means of every window's part of a row of pixels, and its covariance around them: (N, H, W) -> (N, H, P_w)."""
    plane = tl.program_id(0).to(tl.int64)
    i, p = _corner(height, windows, ROWS, COLUMNS)
    inside, known = (i < height)[:, None], p < windows
    row = plane * height * width + i[:, None] * width
    center_u = tl.zeros((ROWS, COLUMNS), dtype=u.dtype.element_ty)
    center_v = tl.zeros((ROWS, COLUMNS), dtype=u.dtype.element_ty)
    for k in range(SIZE):
        j = p * STRIDE + first + k
        met = inside & (known & (j >= 0) & (j < width))[None, :]
        weight = tl.load(taps + k * windows + p, mask=known, other=0.0)[None, :]
        center_u += weight * tl.load(u + row + j[None, :], met, 0.0)
        if not SAME:
            center_v += weight * tl.load(v + row + j[None, :], met, 0.0)
    total = tl.zeros((ROWS, COLUMNS), dtype=u.dtype.element_ty)
    for k in range(SIZE):
        j = p * STRIDE + first + k
        met = inside & (known & (j >= 0) & (j < width))[None, :]
        weight = tl.load(taps + k * windows + p, mask=known, other=0.0)[None, :]
        deviation_u = tl.load(u + row + j[None, :], met, 0.0) - center_u
        deviation_v = deviation_u
        if not SAME:
            deviation_v = tl.load(v + row + j[None, :], met, 0.0) - center_v
        total += weight * (deviation_u * deviation_v)
    at, met = plane * height * windows + i[:, None] * windows + p[None, :], inside & known[None, :]
    tl.store(mean_u + at, center_u, met)
    if not SAME:
        tl.store(mean_v + at, center_v, met)
    tl.store(out + at, total, met)


@triton.jit
def _join_covariances(  # type: ignore[no-untyped-def]
    mean_u, mean_v, within, taps, out, height, width, windows, first, SAME: tl.constexpr,
    SIZE: tl.constexpr, STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Covariances of whole windows from means and covariances of their rows: (N, H, P_w) -> (N, P_h, P_w)."""
    plane = tl.program_id(0).to(tl.int64)
    p, j = _corner(windows, width, ROWS, COLUMNS)
    known, inside = p < windows, (j < width)[None, :]
    column = plane * height * width + j[None, :]
    center_u = tl.zeros((ROWS, COLUMNS), dtype=out.dtype.element_ty)
    center_v = tl.zeros((ROWS, COLUMNS), dtype=out.dtype.element_ty)
    for k in range(SIZE):
        i = p * STRIDE + first + k
        at, met = column + i[:, None] * width, (known & (i >= 0) & (i < height))[:, None] & inside
        weight = tl.load(taps + k * windows + p, mask=known, other=0.0)[:, None]
        center_u += weight * tl.load(mean_u + at, met, 0.0)
        if not SAME:
            center_v += weight * tl.load(mean_v + at, met, 0.0)
    total = tl.zeros((ROWS, COLUMNS), dtype=out.dtype.element_ty)
    for k in range(SIZE):
        i = p * STRIDE + first + k
        at, met = column + i[:, None] * width, (known & (i >= 0) & (i < height))[:, None] & inside
        weight = tl.load(taps + k * windows + p, mask=known, other=0.0)[:, None]
        deviation_u = tl.load(mean_u + at, met, 0.0) - center_u
        deviation_v = deviation_u
        if not SAME:
            deviation_v = tl.load(mean_v + at, met, 0.0) - center_v
        total += weight * (tl.load(within + at, met, 0.0) + deviation_u * deviation_v)
    tl.store(out + plane * windows * width + p[:, None] * width + j[None, :], total, known[:, None] & inside)
