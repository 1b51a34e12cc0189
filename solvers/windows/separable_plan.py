"""What the compiled window products need to know of a window operator, as plain tuples of arrays and numbers.

Plain, because numba takes them apart several times faster than named tuples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from solvers.windows.lattice import Lattice


class Plan(NamedTuple):
    """The two passes of a window operator.

    Vertical, a banded matrix by rows: ``(starts, counts, taps)``, row i having ``counts[i]`` entries ``taps[i]`` from
    column ``starts[i]`` on.

    Horizontal, a row of pixels that lies in ``stride`` phases, one after the other and each ``span`` long:
    ``(taps, scale, offsets, first, stride, span, back_taps, back_counts, back_offsets)``. taps: (size,) of a whole
    window, at ``offsets`` (size,). scale: (P_w,), 1 over the mass that is left of each window. first: the (nonpositive)
    left edge of the first window. For the adjoint, phase by phase: back_taps (stride, most), of which the first
    back_counts (stride,) count, at back_offsets (most,) in a row of windows that begins with ``most - 1`` zeros.
    """

    down: tuple[Any, ...]  # vertical, image rows -> window rows
    up: tuple[Any, ...]  # vertical, window rows -> image rows, its transpose
    columns: tuple[Any, ...]  # horizontal


def plan_of(lattice: Lattice) -> Plan:
    """The operator's :class:`Plan`, built once."""
    plan: Plan | None = lattice.__dict__.get("_plan")
    if plan is None:
        rows, size, stride = lattice.rows.numpy(), lattice.window.size, lattice.window.stride
        tops, pixels = np.asarray(lattice.row_starts), np.arange(lattice.height)
        low, high = np.maximum(tops, 0), np.minimum(tops + size, lattice.height)
        earliest = np.maximum(-(-(pixels - size + 1 - tops[0]) // stride), 0)
        latest = np.minimum((pixels - tops[0]) // stride, len(tops) - 1)
        plan = lattice.__dict__["_plan"] = Plan(
            _packed(rows, low, high - low),
            _packed(rows.T, earliest, np.maximum(latest - earliest + 1, 0)),
            _columns(lattice, rows.dtype),
        )
    return plan


def check_planes(lattice: Lattice, *, pixels: tuple[Tensor, ...], windows: tuple[Tensor, ...]) -> None:
    """Raise :class:`ValueError` unless all are contiguous, of the operator's dtype, and (N, H, W) or (N, P_h, P_w) with
    one N: a kernel would read memory that isn't theirs."""
    number = len(pixels[0])
    for values, shape in ((pixels, (number, lattice.height, lattice.width)), (windows, (number, *lattice.shape))):
        for value in values:
            if value.shape != shape or value.dtype != lattice.rows.dtype or not value.is_contiguous():
                raise ValueError(
                    f"a window product needs a contiguous {lattice.rows.dtype} tensor of shape {shape}, "
                    f"got {value.dtype} of shape {tuple(value.shape)} and strides {value.stride()}"
                )


def _packed(matrix: NDArray[Any], starts: NDArray[Any], counts: NDArray[Any]) -> tuple[Any, ...]:
    taps = np.zeros((len(matrix), int(counts.max())), dtype=matrix.dtype)
    for i, (start, count) in enumerate(zip(starts, counts, strict=True)):
        taps[i, :count] = matrix[i, start : start + count]
    return starts, counts, taps


def _columns(lattice: Lattice, number: np.dtype[Any]) -> tuple[Any, ...]:
    starts, length, size, stride = lattice.column_starts, lattice.width, lattice.window.size, lattice.window.stride
    taps = lattice.window.taps().numpy()
    inside = [taps[max(-start, 0) : min(length - start, size)] for start in starts]
    scale = np.array([1.0 if len(part) == size else 1 / part.sum() for part in inside])
    # Room for the last window, and for the pixels beyond it, which lie in none.
    span = -(-max(stride * (len(starts) - 1) + size, length - starts[0]) // stride)
    offsets = np.array([k % stride * span + k // stride for k in range(size)], dtype=np.uint64)
    most = -(-size // stride)
    back = np.zeros((stride, most))
    for k, tap in enumerate(taps):
        back[k % stride, k // stride] = tap
    counts = np.array([len(taps[r::stride]) for r in range(stride)], dtype=np.uint64)
    windows = taps.astype(number), scale.astype(number), offsets, starts[0], stride, span
    return *windows, back.astype(number), counts, np.arange(most, dtype=np.uint64)[::-1].copy()
