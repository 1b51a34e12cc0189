"""The most expensive part of :mod:`.pixel_bounds`, on a GPU, in Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from solvers.windows.kernels_triton import TILE, WARPS, tiles
from solvers.windows.quadratic import Bounds


def tighten_cuda(
    rows: list[tuple[Tensor, Tensor]],
    columns: list[tuple[Tensor, Tensor]],
    window_limits: Tensor,
    centre: Tensor,
    finite_box: Bounds,
    box: Bounds,
) -> Bounds:
    """:func:`~solvers.constraints.ssim_windows.pixel_bounds.tighten` in one pass over the pixels.

    Args:
        rows, columns: the windows over each row and column of pixels, and their weights there.
        window_limits: the limits of every window, (5, B, C, P_h, P_w).
        centre: a x, (B, C, H, W).
        finite_box: the box with 0 in the place of infinite bounds.
        box: the bounds on d, (B, C, H, W) each.
    """
    lattice, images = window_limits.shape[-2:], centre.shape[-2:]
    readable = (centre, finite_box.lower, finite_box.upper)
    planes = [value.expand_as(centre).reshape(-1, *images).contiguous() for value in readable]
    result = [value.expand_as(centre).reshape(-1, *images).clone() for value in (box.lower, box.upper)]
    taps = [torch.stack(column) for axis in (rows, columns) for column in zip(*axis, strict=True)]
    packed = window_limits.reshape(5, -1, *lattice).contiguous()
    with torch.cuda.device_of(centre):
        _tighten[len(result[0]), tiles(*images)](
            *taps, packed, *planes, *result, packed[0].numel(), *images, *lattice, len(rows), len(columns), *TILE,
            num_warps=WARPS,
        )  # fmt: skip
    return Bounds(result[0].reshape(centre.shape), result[1].reshape(centre.shape))


@triton.jit
def _tighten(  # type: ignore[no-untyped-def]
    row_at, row_weight, column_at, column_weight, limits, centre, lower, upper, low, high, limit_stride, height, width,
    lattice_rows, lattice_columns, DOWN: tl.constexpr, ACROSS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Grid (planes, tiles). ``limit_stride`` is the distance in memory between the five limits of a window."""
    plane, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    across = tl.cdiv(width, COLUMNS)
    i = (tile // across) * ROWS + tl.arange(0, ROWS)
    j = (tile % across) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (i < height)[:, None] & (j < width)[None, :]
    at = plane * height * width + i[:, None] * width + j[None, :]
    middle = tl.load(centre + at, inside, 0.0)
    bottom, top = tl.load(lower + at, inside, 0.0), tl.load(upper + at, inside, 0.0)
    new_low, new_high = tl.load(low + at, inside, 0.0), tl.load(high + at, inside, 0.0)
    for k in range(DOWN):
        row = tl.load(row_at + k * height + i, i < height, 0)
        down = tl.load(row_weight + k * height + i, i < height, 0.0)
        for other in range(ACROSS):
            column = tl.load(column_at + other * width + j, j < width, 0)
            weight = down[:, None] * tl.load(column_weight + other * width + j, j < width, 0.0)[None, :]
            met = inside & (weight > 0)
            weight = tl.where(met, weight, 1.0)
            window = limits + plane * lattice_rows * lattice_columns + row[:, None] * lattice_columns + column[None, :]
            reach = tl.load(window + 2 * limit_stride, met, 0.0) * tl.sqrt((1 - weight) / weight)
            rise = bottom + tl.load(window + 3 * limit_stride, met, 0.0) / weight
            fall = top - tl.load(window + 4 * limit_stride, met, 0.0) / weight
            highest = tl.minimum(tl.load(window, met, 0.0) + middle + reach, rise)
            lowest = tl.maximum(tl.load(window + limit_stride, met, 0.0) + middle - reach, fall)
            new_high = tl.where(met, tl.minimum(new_high, highest), new_high)
            new_low = tl.where(met, tl.maximum(new_low, lowest), new_low)
    tl.store(low + at, new_low, inside)
    tl.store(high + at, new_high, inside)
