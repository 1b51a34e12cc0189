"""The compiled part of :mod:`.pixel_bounds`, for the CPU. It is imported when first used: compiling takes time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from solvers.backends.numba_jit import compiled, run_rows
from solvers.windows.quadratic import Bounds


def tighten_compiled(
    rows: list[tuple[Tensor, Tensor]],
    columns: list[tuple[Tensor, Tensor]],
    window_limits: Tensor,
    centre: Tensor,
    finite_box: Bounds,
    box: Bounds,
) -> Bounds:
    """:func:`~solvers.constraints.ssim_windows.pixel_bounds.tighten`, row by row.

    A pixel stays in the cache while all its windows are used.

    Args:
        rows, columns: the windows over each row and column of pixels, and their weights there.
        window_limits: the limits of every window, (5, B, C, P_h, P_w).
        centre: a x, (B, C, H, W).
        finite_box: the box with 0 in the place of infinite bounds.
        box: the bounds on d, (B, C, H, W) each.
    """
    lattice, images = window_limits.shape[-2:], centre.shape[-2:]
    readable = (centre, finite_box.lower, finite_box.upper)
    planes = (value.reshape(-1, *images).contiguous().numpy() for value in readable)
    result = [value.expand_as(centre).reshape(-1, *images).clone() for value in (box.lower, box.upper)]
    taps = (torch.stack(column).numpy() for axis in (rows, columns) for column in zip(*axis, strict=True))
    packed_limits = window_limits.reshape(5, -1, *lattice).contiguous().numpy()
    arguments = *taps, packed_limits, *planes, *(value.numpy() for value in result)
    count = result[0].shape[0] * images[0]
    run_rows(_tighten_rows, arguments, count, 8 * len(rows) * len(columns) * centre.numel())
    return Bounds(result[0].reshape(centre.shape), result[1].reshape(centre.shape))


@compiled
def _tighten_rows(  # type: ignore[no-untyped-def]
    row_at, row_weight, column_at, column_weight, limits, centre, lower, upper, low, high, first, last
):
    """Rows ``first`` to ``last`` of all planes; the result is written into ``low`` and ``high``."""
    _, height, width = centre.shape
    for index in range(first, last):
        plane, i = index // height, index % height
        for k in range(row_at.shape[0]):
            if row_weight[k, i] <= 0:
                continue
            window = limits[:, plane, row_at[k, i]]
            for other in range(column_at.shape[0]):
                for j in range(width):
                    weight = row_weight[k, i] * column_weight[other, j]
                    if weight <= 0:
                        continue
                    at = column_at[other, j]
                    middle, reach = centre[plane, i, j], window[2, at] * math.sqrt((1 - weight) / weight)
                    rise, fall = window[3, at] / weight, window[4, at] / weight
                    highest = min(window[0, at] + middle + reach, lower[plane, i, j] + rise)
                    lowest = max(window[1, at] + middle - reach, upper[plane, i, j] - fall)
                    high[plane, i, j] = min(high[plane, i, j], highest)
                    low[plane, i, j] = max(low[plane, i, j], lowest)
