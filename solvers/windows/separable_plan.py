"""The plan of a separable window product: a lattice's weights laid out as numba's kernels read them.

A windowed mean is a vertical pass and then a horizontal pass over the image. A plan holds the taps of both passes, in
plain tuples of arrays and numbers, because numba unpacks these several times faster than named tuples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from solvers.windows.lattice import Lattice


class Plan(NamedTuple):
    """The taps of a window product's passes.

    Attributes:
        down: the vertical pass from image rows to window rows, a banded matrix row by row, ``(starts, counts, taps)``:
            row i has ``counts[i]`` entries, ``taps[i, :counts[i]]``, from column ``starts[i]`` on.
        up: the transposed pass, from window rows to image rows, in the same form.
        columns: the horizontal pass and its transpose, ``(taps, scale, offsets, first, stride, span, back_taps,
            back_counts, back_offsets)``. A row of pixels is first split into ``stride`` phases, laid one after the
            other, each ``span`` long (see :mod:`solvers.windows.kernels_numba`).

    The parts of ``columns``:

    - ``taps``, ``offsets``: (size,) each, the weights of a whole window and where their pixels lie in the split row.
    - ``scale``: (P_w,), 1 over the weight of each window that lies inside the image.
    - ``first``: the left edge of the first window, 0 or negative.
    - ``back_taps``: (stride, n), n = ceil(size/stride), the transpose's taps phase by phase. Phase r has
      ``back_counts[r]`` of them.
    - ``back_offsets``: (n,), where the taps' windows lie in a row of windows that begins with n - 1 zeros.
    """

    down: tuple[Any, ...]
    up: tuple[Any, ...]
    columns: tuple[Any, ...]


def plan_of(lattice: Lattice) -> Plan:
    """The lattice's :class:`Plan`, built at the first call and kept with the lattice."""
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
    """Check tensors before a kernel reads and writes their memory without any check of its own.

    Args:
        lattice: the windows.
        pixels: images, to be contiguous (N, H, W) of the lattice's dtype.
        windows: window values, to be contiguous (N, P_h, P_w) of that dtype, with the same N.

    Raises:
        ValueError: anything else.
    """
    planes = len(pixels[0])
    for values, shape in ((pixels, (planes, lattice.height, lattice.width)), (windows, (planes, *lattice.shape))):
        for value in values:
            if value.shape != shape or value.dtype != lattice.rows.dtype or not value.is_contiguous():
                raise ValueError(
                    f"a window product needs a contiguous {lattice.rows.dtype} tensor of shape {shape}, "
                    f"got {value.dtype} of shape {tuple(value.shape)} and strides {value.stride()}"
                )


def _packed(matrix: NDArray[Any], starts: NDArray[Any], counts: NDArray[Any]) -> tuple[Any, ...]:
    """A banded matrix as ``(starts, counts, taps)``; see :class:`Plan`."""
    taps = np.zeros((len(matrix), int(counts.max())), dtype=matrix.dtype)
    for i, (start, count) in enumerate(zip(starts, counts, strict=True)):
        taps[i, :count] = matrix[i, start : start + count]
    return starts, counts, taps


def _columns(lattice: Lattice, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """The horizontal pass; see :class:`Plan`."""
    starts, length, size, stride = lattice.column_starts, lattice.width, lattice.window.size, lattice.window.stride
    taps = lattice.window.taps().numpy()
    inside = [taps[max(-start, 0) : min(length - start, size)] for start in starts]
    scale = np.array([1.0 if len(part) == size else 1 / part.sum() for part in inside])
    # Long enough for the last window, and for pixels beyond it that lie in no window.
    span = -(-max(stride * (len(starts) - 1) + size, length - starts[0]) // stride)
    offsets = np.array([k % stride * span + k // stride for k in range(size)], dtype=np.uint64)
    windows_over_pixel = -(-size // stride)
    back_taps = np.zeros((stride, windows_over_pixel))
    for k, tap in enumerate(taps):
        back_taps[k % stride, k // stride] = tap
    back_counts = np.array([len(taps[r::stride]) for r in range(stride)], dtype=np.uint64)
    back_offsets = np.arange(windows_over_pixel, dtype=np.uint64)[::-1].copy()
    forward = taps.astype(dtype), scale.astype(dtype), offsets, starts[0], stride, span
    return *forward, back_taps.astype(dtype), back_counts, back_offsets
