"""Windowed covariances in two passes, compiled by numba for the CPU.

A covariance as ``M(u v) - M u M v`` loses all its digits where the pixels lie far from 0 and differ little. Here the
means come first, and then the products of the deviations from these means. Rows come before windows: both passes walk
a row of pixels, and then the rows of a window, so the cost is linear in the number of pixels.

Numba compiles at the first call and keeps the machine code on disk where it may write. Results do not depend on the
number of threads, nor on what else is in the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from solvers.backends.numba_jit import compiled, compiled_in_order, run_rows
from solvers.windows.kernels_numba import _across, _combine
from solvers.windows.separable_plan import check_planes, plan_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from solvers.windows.lattice import Lattice


def covariance_planes(u: Tensor, v: Tensor, lattice: Lattice) -> Tensor:
    """Windowed covariances in two passes: two contiguous (N, H, W) on the CPU -> (N, P_h, P_w).

    First every row of every window gets its means and its covariance around these means. Then the rows are joined, the
    rows' means around the window's mean: ``cov = sum_r w_r (cov_r + (m_r(u) - m(u)) (m_r(v) - m(v)))``. No large terms
    cancel, however far the pixels are from 0. ``v`` may be ``u``, for the variance.
    """
    plan, same = plan_of(lattice), u is v
    check_planes(lattice, pixels=(u, v), windows=())
    taps, scale, _, first, stride, _, _, _, _ = plan.columns
    (planes, height, _), (tall, wide), size = u.shape, lattice.shape, lattice.window.size
    rows, windows = planes * height, planes * tall

    def means(pixels: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
        """The means of the windows' rows, (N, H, P_w), and of the windows, (N, P_h, P_w)."""
        by_row, by_window = u.new_empty(planes, height, wide).numpy(), u.new_empty(planes, tall, wide).numpy()
        run_rows(_row_means, (pixels.numpy(), plan.columns, by_row), rows, rows * wide * size)
        run_rows(_column_means, (by_row, *plan.down, by_window), windows, windows * wide * size)
        return by_row, by_window

    row_u, mean_u = means(u)
    row_v, mean_v = (row_u, mean_u) if same else means(v)
    within, out = u.new_empty(planes, height, wide).numpy(), u.new_empty(planes, tall, wide)
    arguments = u.numpy(), v.numpy(), taps, scale, first, stride, row_u, row_v, within
    run_rows(_row_covariances, arguments, rows, 2 * rows * wide * size)
    arguments = row_u, row_v, within, *plan.down, mean_u, mean_v, out.numpy()
    run_rows(_join_covariances, arguments, windows, 2 * windows * wide * size)
    return out


# -- means ----------------------------------------------------------------------------------------------------


@compiled
def _row_means(v, columns, out, low, high):  # type: ignore[no-untyped-def]
    """Means of every window's part of a row of pixels: (N, H, W) -> (N, H, P_w)."""
    _, _, width = v.shape
    wide = out.shape[2]
    taps, scale, offsets, first, stride, span, _, _, _ = columns
    source, target = v.reshape(-1), out.reshape(-1)
    row, phases, n = np.zeros(width, v.dtype), np.zeros(span * stride, v.dtype), np.uint64(wide)
    for index in range(low, high):
        base, at = np.uint64(index * width), np.uint64(index * wide)
        if stride == 1:
            phases[np.uint64(-first) : np.uint64(width - first)] = source[base : base + np.uint64(width)]
        else:
            row[:] = source[base : base + np.uint64(width)]
        _across(row, phases, taps, offsets, first, stride, span, target, at, n)
        for q in range(n):
            target[at + q] *= scale[q]


@compiled
def _column_means(rows, starts, counts, taps, out, low, high):  # type: ignore[no-untyped-def]
    """Means of whole windows from those of their rows: (N, H, P_w) -> (N, P_h, P_w)."""
    _, height, wide = rows.shape
    lattice = out.shape[1]
    source, target, flat, most = rows.reshape(-1), out.reshape(-1), taps.reshape(-1), taps.shape[1]
    steps = np.arange(most).astype(np.uint64) * np.uint64(wide)
    for index in range(low, high):
        plane, p = index // lattice, index % lattice
        base, at = np.uint64((plane * height + starts[p]) * wide), np.uint64(index * wide)
        _combine(source, base, steps, flat, np.uint64(p * most), np.uint64(counts[p]), target, at, np.uint64(wide))


# -- covariances ----------------------------------------------------------------------------------------------
# The certificate bounds the rounding errors of these two kernels, so their operations are done as written.


@compiled_in_order
def _add_products(u, at_u, mean_u, v, at_v, mean_v, at_mean, stride, taps, t, count, out, at, n):  # type: ignore[no-untyped-def]
    """out[at + q] += sum_k taps[t + k] * (u[at_u + stride q + k] - mean_u[at_mean + q]) * (the same of v), for q < n
    and k < count; all arrays flat, all numbers unsigned. Four taps at a time."""
    k, one, two, three, four = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    while k + four <= count:
        a, b, c, d = taps[t + k], taps[t + k + one], taps[t + k + two], taps[t + k + three]
        for q in range(n):
            mu, mv, i, j = mean_u[at_mean + q], mean_v[at_mean + q], at_u + stride * q + k, at_v + stride * q + k
            first = a * ((u[i] - mu) * (v[j] - mv)) + b * ((u[i + one] - mu) * (v[j + one] - mv))
            second = c * ((u[i + two] - mu) * (v[j + two] - mv)) + d * ((u[i + three] - mu) * (v[j + three] - mv))
            out[at + q] += first + second
        k += four
    while k < count:
        a = taps[t + k]
        for q in range(n):
            difference = u[at_u + stride * q + k] - mean_u[at_mean + q]
            out[at + q] += a * (difference * (v[at_v + stride * q + k] - mean_v[at_mean + q]))
        k += one


@compiled_in_order
def _row_covariances(u, v, taps, scale, first, stride, mean_u, mean_v, out, low, high):  # type: ignore[no-untyped-def]
    """Covariance of every window's part of a row of pixels around its means: (N, H, W) -> (N, H, P_w)."""
    width = u.shape[2]
    wide, size, zero, one = out.shape[2], taps.size, np.uint64(0), np.uint64(1)
    flat_u, flat_v, target = u.reshape(-1), v.reshape(-1), out.reshape(-1)
    means_u, means_v = mean_u.reshape(-1), mean_v.reshape(-1)
    # The windows from `begin` to `end` lie in the image; those before and after are cut.
    begin = min((-first + stride - 1) // stride, wide)
    end = max(min((width - size - first) // stride + 1, wide), begin)
    for index in range(low, high):
        pixels, windows = index * width, index * wide
        for q in range(wide):
            target[np.uint64(windows + q)] = 0
        inside, at, count = np.uint64(pixels + stride * begin + first), np.uint64(windows + begin), np.uint64(size)
        n, step = np.uint64(end - begin), np.uint64(stride)
        if end > begin:
            _add_products(flat_u, inside, means_u, flat_v, inside, means_v, at, step, taps, zero, count, target, at, n)
        for q in range(wide):
            if begin <= q < end:
                continue
            left = stride * q + first
            start, stop = max(-left, 0), min(width - left, size)
            inside, at = np.uint64(pixels + left + start), np.uint64(windows + q)
            t, count = np.uint64(start), np.uint64(max(stop - start, 0))
            _add_products(flat_u, inside, means_u, flat_v, inside, means_v, at, step, taps, t, count, target, at, one)
        for q in range(wide):
            target[np.uint64(windows + q)] *= scale[q]


@compiled_in_order
def _join_covariances(mean_u, mean_v, row_covariance, starts, counts, taps, center_u, center_v, out, low, high):  # type: ignore[no-untyped-def]
    """Covariances of whole windows from those of their rows: (N, H, P_w) -> (N, P_h, P_w)."""
    _, height, wide = mean_u.shape
    lattice = out.shape[1]
    means_u, means_v, within = mean_u.reshape(-1), mean_v.reshape(-1), row_covariance.reshape(-1)
    centers_u, centers_v, target = center_u.reshape(-1), center_v.reshape(-1), out.reshape(-1)
    n, one, two, three = np.uint64(wide), np.uint64(1), np.uint64(2), np.uint64(3)
    zero, four = np.uint64(0), np.uint64(4)
    for index in range(low, high):
        plane, p = index // lattice, index % lattice
        at, base = np.uint64(index * wide), np.uint64((plane * height + starts[p]) * wide)
        for q in range(n):
            target[at + q] = 0
        k, count = zero, np.uint64(counts[p])
        while k + four <= count:
            a, b, c, d = taps[p, k], taps[p, k + one], taps[p, k + two], taps[p, k + three]
            ka, kb, kc, kd = base + k * n, base + (k + one) * n, base + (k + two) * n, base + (k + three) * n
            for q in range(n):
                cu, cv = centers_u[at + q], centers_v[at + q]
                first = a * (within[ka + q] + (means_u[ka + q] - cu) * (means_v[ka + q] - cv))
                second = b * (within[kb + q] + (means_u[kb + q] - cu) * (means_v[kb + q] - cv))
                third = c * (within[kc + q] + (means_u[kc + q] - cu) * (means_v[kc + q] - cv))
                fourth = d * (within[kd + q] + (means_u[kd + q] - cu) * (means_v[kd + q] - cv))
                target[at + q] += (first + second) + (third + fourth)
            k += four
        while k < count:
            a, ka = taps[p, k], base + k * n
            for q in range(n):
                cu, cv = centers_u[at + q], centers_v[at + q]
                target[at + q] += a * (within[ka + q] + (means_u[ka + q] - cu) * (means_v[ka + q] - cv))
            k += one
