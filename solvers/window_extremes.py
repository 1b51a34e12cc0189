"""The compiled minimum over the windows that cover each pixel, separable like the products of ``window_kernels``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from solvers.backends.numba_jit import compiled, run_rows
from solvers.windows.separable_plan import check_planes, plan_of

if TYPE_CHECKING:
    from solvers.windows.window import WindowOperator


def spread_min_planes(values: Tensor, op: WindowOperator, out: Tensor | None = None) -> Tensor:
    """For each pixel the smallest value of the windows over it: contiguous (N, P_h, P_w) on the CPU -> (N, H, W);
    +inf where no window lies. A NaN spreads."""
    plan = plan_of(op)
    out = values.new_empty(values.shape[0], op.height, op.width) if out is None else out
    check_planes(op, pixels=(out,), windows=(values,))
    starts, counts, _ = plan.up
    _, _, _, first, stride, span, _, phase_counts, back_offsets = plan.columns
    rows = out.shape[0] * op.height
    arguments = values.numpy(), starts, counts, first, stride, span, phase_counts, back_offsets.size, out.numpy()
    run_rows(_spread_min, arguments, rows, rows * op.width * 2 * back_offsets.size)
    return out


@compiled
def _lower(source, at, out, to, n):  # type: ignore[no-untyped-def]
    """out[to + j] becomes the smaller of itself and source[at + j] for j < n; NaN if either is."""
    for j in range(n):
        x, y = source[at + j], out[to + j]
        out[to + j] = x if x < y or x != x else y


@compiled
def _spread_min(values, starts, counts, first, stride, span, phase_counts, most, out, low, high):  # type: ignore[no-untyped-def]
    """The rows from low to high, those of all planes numbered through."""
    _, lattice, wide = values.shape
    _, height, width = out.shape
    source, target, n = values.reshape(-1), out.reshape(-1), np.uint64(wide)
    row = np.full(most - 1 + span, np.inf, values.dtype)  # windows between as many that never count
    phase = np.empty(span, values.dtype)
    for index in range(low, high):
        plane, i = index // height, index % height
        row[most - 1 : most - 1 + wide] = np.inf
        for p in range(starts[i], starts[i] + counts[i]):
            _lower(source, np.uint64((plane * lattice + p) * wide), row, np.uint64(most - 1), n)
        for r in range(stride):
            # Pixel stride * m + r + first lies in the windows m - count + 1, ..., m.
            phase[:] = np.inf
            for a in range(phase_counts[r]):
                _lower(row, np.uint64(most - 1) - a, phase, np.uint64(0), np.uint64(span))
            m = max((-first - r + stride - 1) // stride, 0)
            j = stride * m + r + first
            for k in range((width - j + stride - 1) // stride):
                target[np.uint64(index * width + j + k * stride)] = phase[np.uint64(m + k)]
