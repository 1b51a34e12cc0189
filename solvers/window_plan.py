"""What the compiled window products need to know of a window operator, as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from solvers.windows import WindowOperator


class Rows(NamedTuple):
    """A banded matrix by rows: row i has ``counts[i]`` entries ``taps[i]`` from column ``start[i]`` on."""

    start: NDArray[np.int64]
    counts: NDArray[np.int64]
    taps: NDArray[Any]


class Columns(NamedTuple):
    """Windows along a row of pixels, whose phases lie one after the other, ``span`` apart.

    taps: (size,) of a whole window. scale: (P_w,), 1 over the mass that is left of each. first: the (nonpositive) left
    edge of the first window. offsets: (size,), where a window's taps lie. For the adjoint, phase by phase: back_taps
    (stride, most), of which the first back_counts count, at back_offsets (most,) in a row of windows that begins with
    ``most - 1`` zeros.
    """

    taps: NDArray[Any]
    scale: NDArray[Any]
    offsets: NDArray[np.uint64]
    first: int
    stride: int
    span: int
    back_taps: NDArray[Any]
    back_counts: NDArray[np.uint64]
    back_offsets: NDArray[np.uint64]


class Plan(NamedTuple):
    """What the kernels need of a :class:`WindowOperator`."""

    down: Rows  # image rows -> window rows
    up: Rows  # window rows -> image rows, the transpose
    columns: Columns


def plan_of(op: WindowOperator) -> Plan:
    """The operator's :class:`Plan`, built once."""
    plan: Plan | None = op.__dict__.get("_plan")
    if plan is None:
        rows, starts, length = op.rows.numpy(), op.column_starts, op.width
        size, stride = op.window.size, op.window.stride
        taps = op.window.taps().numpy()
        inside = [taps[max(-s, 0) : min(length - s, size)] for s in starts]
        scale = [1.0 if len(part) == size else 1 / part.sum() for part in inside]
        span = -(-max(stride * (len(starts) - 1) + size, length - starts[0]) // stride)
        offsets = np.array([k % stride * span + k // stride for k in range(size)], dtype=np.uint64)
        most = -(-size // stride)
        back = np.zeros((stride, most))
        for k, tap in enumerate(taps):
            back[k % stride, k // stride] = tap
        counts = np.array([len(taps[r::stride]) for r in range(stride)], dtype=np.uint64)
        back_offsets = np.arange(most)[::-1].astype(np.uint64)
        columns = Columns(
            taps.astype(rows.dtype),
            np.array(scale, dtype=rows.dtype),
            offsets,
            starts[0],
            stride,
            span,
            back.astype(rows.dtype),
            counts,
            back_offsets,
        )
        plan = op.__dict__["_plan"] = Plan(_packed(rows), _packed(np.ascontiguousarray(rows.T)), columns)
    return plan


def _packed(matrix: NDArray[Any]) -> Rows:
    inside = matrix != 0
    count = inside.sum(axis=1)
    start = np.where(count > 0, inside.argmax(axis=1), 0)
    taps = np.zeros((len(matrix), max(int(count.max()), 1)), dtype=matrix.dtype)
    for i, (low, n) in enumerate(zip(start, count, strict=True)):
        taps[i, :n] = matrix[i, low : low + n]
    return Rows(start, count, taps)
