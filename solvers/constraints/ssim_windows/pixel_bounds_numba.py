"""The compiled part of :mod:`.pixel_bounds`, for the CPU; imported at its first use, as compiling is slow."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from solvers.backends.numba_jit import compiled, run_rows


def tighten_compiled(
    rows: list[tuple[Tensor, Tensor]],
    columns: list[tuple[Tensor, Tensor]],
    parts: Tensor,
    centre: Tensor,
    known: tuple[Tensor, Tensor],
    box: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """:func:`~solvers.constraints.ssim_windows.pixel_bounds.tighten`, row by row: a pixel stays in the cache while all
    its windows are asked."""
    lattice, images = parts.shape[-2:], centre.shape[-2:]
    planes = (value.reshape(-1, *images).contiguous().numpy() for value in (centre, *known))
    cut = [value.expand_as(centre).reshape(-1, *images).clone() for value in box]
    taps = (torch.stack(column).numpy() for axis in (rows, columns) for column in zip(*axis, strict=True))
    arguments = *taps, parts.reshape(5, -1, *lattice).contiguous().numpy(), *planes, *(value.numpy() for value in cut)
    count = cut[0].shape[0] * images[0]
    run_rows(_tighten_rows, arguments, count, 8 * len(rows) * len(columns) * centre.numel())
    return cut[0].reshape(centre.shape), cut[1].reshape(centre.shape)


@compiled
def _tighten_rows(  # type: ignore[no-untyped-def]
    row_at, row_weight, column_at, column_weight, parts, centre, lower, upper, low, high, first, last
):
    """Rows ``first`` to ``last`` of all planes, in ``low`` and ``high``."""
    _, height, width = centre.shape
    for index in range(first, last):
        plane, i = index // height, index % height
        for k in range(row_at.shape[0]):
            if row_weight[k, i] <= 0:
                continue
            window = parts[:, plane, row_at[k, i]]
            for other in range(column_at.shape[0]):
                for j in range(width):
                    weight = row_weight[k, i] * column_weight[other, j]
                    if weight <= 0:
                        continue
                    at = column_at[other, j]
                    middle, reach = centre[plane, i, j], window[2, at] * math.sqrt((1 - weight) / weight)
                    rise, fall = window[3, at] / weight, window[4, at] / weight
                    most = min(window[0, at] + middle + reach, lower[plane, i, j] + rise)
                    least = max(window[1, at] + middle - reach, upper[plane, i, j] - fall)
                    high[plane, i, j] = min(high[plane, i, j], most)
                    low[plane, i, j] = max(low[plane, i, j], least)
