"""The part of :mod:`.pixel_bounds` that costs most, on a GPU, in Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from solvers.windows.kernels_triton import TILE, WARPS, tiles


def tighten_cuda(
    rows: list[tuple[Tensor, Tensor]],
    columns: list[tuple[Tensor, Tensor]],
    parts: Tensor,
    centre: Tensor,
    known: tuple[Tensor, Tensor],
    box: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """:func:`~solvers.constraints.ssim_windows.pixel_bounds.tighten`: a pixel asks all its windows in one pass."""
    lattice, images = parts.shape[-2:], centre.shape[-2:]
    planes = [value.expand_as(centre).reshape(-1, *images).contiguous() for value in (centre, *known)]
    cut = [value.expand_as(centre).reshape(-1, *images).clone() for value in box]
    taps = [torch.stack(column) for axis in (rows, columns) for column in zip(*axis, strict=True)]
    packed = parts.reshape(5, -1, *lattice).contiguous()
    with torch.cuda.device_of(centre):
        _tighten[len(cut[0]), tiles(*images)](
            *taps, packed, *planes, *cut, packed[0].numel(), *images, *lattice, len(rows), len(columns), *TILE,
            num_warps=WARPS,
        )  # fmt: skip
    return cut[0].reshape(centre.shape), cut[1].reshape(centre.shape)


@triton.jit
def _tighten(  # type: ignore[no-untyped-def]
    row_at, row_weight, column_at, column_weight, parts, centre, lower, upper, low, high, apart, height, width,
    lattice_rows, lattice_columns, DOWN: tl.constexpr, ACROSS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Grid (planes, tiles); ``apart`` is the distance between the five parts."""
    plane, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    across = tl.cdiv(width, COLUMNS)
    i = (tile // across) * ROWS + tl.arange(0, ROWS)
    j = (tile % across) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (i < height)[:, None] & (j < width)[None, :]
    at = plane * height * width + i[:, None] * width + j[None, :]
    middle = tl.load(centre + at, inside, 0.0)
    bottom, top = tl.load(lower + at, inside, 0.0), tl.load(upper + at, inside, 0.0)
    least, most = tl.load(low + at, inside, 0.0), tl.load(high + at, inside, 0.0)
    for k in range(DOWN):
        row = tl.load(row_at + k * height + i, i < height, 0)
        down = tl.load(row_weight + k * height + i, i < height, 0.0)
        for other in range(ACROSS):
            column = tl.load(column_at + other * width + j, j < width, 0)
            weight = down[:, None] * tl.load(column_weight + other * width + j, j < width, 0.0)[None, :]
            met = inside & (weight > 0)
            weight = tl.where(met, weight, 1.0)
            window = parts + plane * lattice_rows * lattice_columns + row[:, None] * lattice_columns + column[None, :]
            reach = tl.load(window + 2 * apart, met, 0.0) * tl.sqrt((1 - weight) / weight)
            rise = bottom + tl.load(window + 3 * apart, met, 0.0) / weight
            fall = top - tl.load(window + 4 * apart, met, 0.0) / weight
            highest = tl.minimum(tl.load(window, met, 0.0) + middle + reach, rise)
            lowest = tl.maximum(tl.load(window + apart, met, 0.0) + middle - reach, fall)
            most = tl.where(met, tl.minimum(most, highest), most)
            least = tl.where(met, tl.maximum(least, lowest), least)
    tl.store(low + at, least, inside)
    tl.store(high + at, most, inside)
