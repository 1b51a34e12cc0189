"""Separable window products, compiled by numba for the CPU: means, their adjoint, the normal product, and minima.

Every kernel walks the rows of a plane once. The vertical pass combines at most ``size`` image rows into one, over
contiguous columns. The horizontal pass combines at most ``size`` shifted copies of that row, in a buffer that stays in
the first-level cache. So the cost is linear in the number of pixels.

For the horizontal pass a row is split into ``stride`` phases, ``buffer[r, m] = row[stride * m + r]``, and padded with
zeros where windows hang over the edge. Windows are then contiguous for any stride, and all have the same taps. The sum
of a window that the edge cuts is divided by the weight that lies inside the image.

Numba compiles at the first call and keeps the machine code on disk where it may write. Results do not depend on the
number of threads, nor on what else is in the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from solvers.backends.numba_jit import compiled, run_rows
from solvers.windows.separable_plan import check_planes, plan_of

if TYPE_CHECKING:
    from solvers.windows.lattice import Lattice


def mean_planes(v: Tensor, lattice: Lattice, out: Tensor | None = None) -> Tensor:
    """Windowed means: contiguous (N, H, W) on the CPU -> (N, P_h, P_w)."""
    plan = plan_of(lattice)
    out = v.new_empty(v.shape[0], *lattice.shape) if out is None else out
    check_planes(lattice, pixels=(v,), windows=(out,))
    rows = out.shape[0] * lattice.shape[0]
    arguments = v.numpy(), plan.down, plan.columns, out.numpy()
    run_rows(_mean, arguments, rows, rows * lattice.width * 2 * lattice.window.size)
    return out


def adjoint_planes(q: Tensor, lattice: Lattice, out: Tensor | None = None) -> Tensor:
    """The adjoint of :func:`mean_planes`: contiguous (N, P_h, P_w) -> (N, H, W)."""
    plan = plan_of(lattice)
    out = q.new_empty(q.shape[0], lattice.height, lattice.width) if out is None else out
    check_planes(lattice, pixels=(out,), windows=(q,))
    pixels, rows = out.numpy(), out.shape[0] * lattice.height
    dots = torch.empty(out.shape[:2], dtype=torch.float64).numpy()
    arguments = False, pixels, pixels, q.numpy(), *plan, pixels, dots
    run_rows(_back_through, arguments, rows, rows * lattice.width * 2 * lattice.window.size)
    return out


def normal_planes(
    v: Tensor, diagonal: Tensor, weights: Tensor, lattice: Lattice, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The normal product ``diagonal * v + M'(weights * M v)``, and its inner product with v, plane by plane.

    Args:
        v: contiguous (N, H, W) on the CPU, like all images here, in the lattice's dtype.
        diagonal: (N, H, W).
        weights: contiguous (N, P_h, P_w).
        lattice: the windows.
        out: (N, H, W), where to write the product; default: a new tensor.

    Returns:
        The product, (N, H, W), and the inner products, float64 (N,).
    """
    plan = plan_of(lattice)
    out = torch.empty_like(v) if out is None else out
    check_planes(lattice, pixels=(v, diagonal, out), windows=(weights,))
    dots = torch.empty(v.shape[:2], dtype=torch.float64)
    rows = v.shape[0] * lattice.height
    arguments = True, v.numpy(), diagonal.numpy(), weights.numpy(), *plan, out.numpy(), dots.numpy()
    run_rows(_back_through, arguments, rows, rows * lattice.width * 4 * lattice.window.size)
    return out, dots.sum(dim=1)


def spread_min_planes(values: Tensor, lattice: Lattice, out: Tensor | None = None) -> Tensor:
    """For each pixel the smallest value of the windows over it: contiguous (N, P_h, P_w) on the CPU -> (N, H, W).

    +inf for a pixel in no window; NaN where any of the windows has NaN.
    """
    plan = plan_of(lattice)
    out = values.new_empty(values.shape[0], lattice.height, lattice.width) if out is None else out
    check_planes(lattice, pixels=(out,), windows=(values,))
    starts, counts, _ = plan.up
    _, _, _, first, stride, span, _, phase_counts, back_offsets = plan.columns
    rows = out.shape[0] * lattice.height
    arguments = values.numpy(), starts, counts, first, stride, span, phase_counts, back_offsets.size, out.numpy()
    run_rows(_spread_min, arguments, rows, rows * lattice.width * 2 * back_offsets.size)
    return out


# -- one row --------------------------------------------------------------------------------------------------
# All indices are unsigned: numba then leaves out the test for negative indices, and the loops become SIMD.


@compiled
def _combine(source, base, offsets, taps, t, count, out, at, n):  # type: ignore[no-untyped-def]
    """out[at + j] = sum_k taps[t + k] * source[base + offsets[k] + j] over k < count, for j < n; all arrays flat.

    Seven taps at a time, then four, then the rest: each pass over the row costs a load and a store on top of its taps.
    """
    k, one, two, three, four = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    if count >= np.uint64(7):
        a, b, c, d = taps[t], taps[t + one], taps[t + two], taps[t + three]
        e, f, g = taps[t + four], taps[t + four + one], taps[t + four + two]
        ka, kb, kc, kd = base + offsets[0], base + offsets[1], base + offsets[2], base + offsets[3]
        ke, kf, kg = base + offsets[4], base + offsets[5], base + offsets[6]
        for j in range(n):
            first = a * source[ka + j] + b * source[kb + j] + c * source[kc + j] + d * source[kd + j]
            out[at + j] = first + (e * source[ke + j] + f * source[kf + j] + g * source[kg + j])
        k += four + three
    elif count >= four:
        a, b, c, d = taps[t], taps[t + one], taps[t + two], taps[t + three]
        ka, kb, kc, kd = base + offsets[0], base + offsets[1], base + offsets[2], base + offsets[3]
        for j in range(n):
            out[at + j] = a * source[ka + j] + b * source[kb + j] + c * source[kc + j] + d * source[kd + j]
        k += four
    else:
        for j in range(n):
            out[at + j] = 0
    while k + four <= count:
        a, b, c, d = taps[t + k], taps[t + k + one], taps[t + k + two], taps[t + k + three]
        ka, kb = base + offsets[k], base + offsets[k + one]
        kc, kd = base + offsets[k + two], base + offsets[k + three]
        for j in range(n):
            out[at + j] += a * source[ka + j] + b * source[kb + j] + c * source[kc + j] + d * source[kd + j]
        k += four
    if k + three == count:
        a, b, c = taps[t + k], taps[t + k + one], taps[t + k + two]
        ka, kb, kc = base + offsets[k], base + offsets[k + one], base + offsets[k + two]
        for j in range(n):
            out[at + j] += a * source[ka + j] + b * source[kb + j] + c * source[kc + j]
    elif k + two == count:
        a, b, ka, kb = taps[t + k], taps[t + k + one], base + offsets[k], base + offsets[k + one]
        for j in range(n):
            out[at + j] += a * source[ka + j] + b * source[kb + j]
    elif k + one == count:
        a, ka = taps[t + k], base + offsets[k]
        for j in range(n):
            out[at + j] += a * source[ka + j]


@compiled
def _split(row, first, stride, span, phases):  # type: ignore[no-untyped-def]
    """phases[r * span + m] = row[stride * m + r + first] for every pixel of the row."""
    for r in range(stride):
        m = max((-first - r + stride - 1) // stride, 0)
        j = stride * m + r + first
        for i in range((row.size - j + stride - 1) // stride):
            phases[np.uint64(r * span + m + i)] = row[np.uint64(j + i * stride)]


@compiled
def _join(phase, r, first, stride, out, at, n):  # type: ignore[no-untyped-def]
    """out[at + stride * m + r + first] = phase[m] for every pixel of phase r among n."""
    m = max((-first - r + stride - 1) // stride, 0)
    j = stride * m + r + first
    for i in range((n - j + stride - 1) // stride):
        out[np.uint64(at + j + i * stride)] = phase[np.uint64(m + i)]


@compiled
def _across(row, phases, taps, offsets, first, stride, span, out, at, n):  # type: ignore[no-untyped-def]
    """n window sums along a row of pixels, which for stride 1 lies in its phase already."""
    if stride != 1:
        _split(row, first, stride, span, phases)
    zero = np.uint64(0)
    _combine(phases, zero, offsets, taps, zero, np.uint64(taps.size), out, at, n)


@compiled
def _back(windows, taps, counts, offsets, first, stride, span, phase, out, at, width):  # type: ignore[no-untyped-def]
    """A row of pixels, the adjoint of :func:`_across`; the windows lie between zeros."""
    zero = np.uint64(0)
    if stride == 1:
        base = np.uint64(-first)
        _combine(windows, base, offsets, taps, zero, counts[0], out, np.uint64(at), np.uint64(width))
        return
    for r in range(stride):
        t = np.uint64(r * offsets.size)
        _combine(windows, zero, offsets, taps, t, counts[r], phase, zero, np.uint64(span))
        _join(phase, r, first, stride, out, at, width)


# -- planes ---------------------------------------------------------------------------------------------------
# The rows of all planes are numbered in one sequence; a call works on the rows from low to high. `down`, `up` and
# `columns` are the parts of a Plan. They are unpacked here, because passing them on to a row's function costs more than
# the row's arithmetic.


@compiled
def _mean(v, down, columns, out, low, high):  # type: ignore[no-untyped-def]
    """Windowed means: (N, H, W) -> (N, P_h, P_w)."""
    _, height, width = v.shape
    _, lattice, wide = out.shape
    starts, counts, row_taps = down
    taps, scale, offsets, first, stride, span, _, _, _ = columns
    source, target, flat, most = v.reshape(-1), out.reshape(-1), row_taps.reshape(-1), row_taps.shape[1]
    steps = np.arange(most).astype(np.uint64) * np.uint64(width)
    row, phases, n = np.zeros(width, v.dtype), np.zeros(span * stride, v.dtype), np.uint64(wide)
    into, where = (phases, np.uint64(-first)) if stride == 1 else (row, np.uint64(0))
    for index in range(low, high):
        plane, p = index // lattice, index % lattice
        base, at = np.uint64((plane * height + starts[p]) * width), np.uint64(index * wide)
        _combine(source, base, steps, flat, np.uint64(p * most), np.uint64(counts[p]), into, where, np.uint64(width))
        _across(row, phases, taps, offsets, first, stride, span, target, at, n)
        for q in range(n):
            target[at + q] *= scale[q]


@compiled
def _back_through(normal, v, diagonal, weights, down, up, columns, out, dots, low, high):  # type: ignore[no-untyped-def]
    """``M' weights``; or, with ``normal``, ``diagonal * v + M'(weights * M v)`` and its product with v row by row."""
    _, height, width = out.shape
    _, lattice, wide = weights.shape
    down_starts, down_counts, down_taps = down
    up_starts, up_counts, up_taps = up
    taps, scale, offsets, first, stride, span, phase_taps, back_counts, back_offsets = columns
    square = scale * scale
    source, target, weight, slope = v.reshape(-1), out.reshape(-1), weights.reshape(-1), diagonal.reshape(-1)
    down_flat, up_flat, back_taps = down_taps.ravel(), up_taps.ravel(), phase_taps.ravel()
    down_most, up_most = down_taps.shape[1], up_taps.shape[1]
    steps = np.arange(max(down_most, up_most)).astype(np.uint64) * np.uint64(width)
    left, n, wide_row = np.uint64(back_offsets.size - 1), np.uint64(wide), np.uint64(width)
    row, phases, phase = np.zeros(width, v.dtype), np.zeros(span * stride, v.dtype), np.zeros(span, v.dtype)
    into, where = (phases, np.uint64(-first)) if stride == 1 else (row, np.uint64(0))
    middle = np.zeros(back_offsets.size - 1 + span, v.dtype)
    # Rows after the horizontal passes; when there is no room left, those still needed move to the front.
    room = 4 * up_most + 8
    held = np.zeros(room * width, v.dtype)
    begin, done = 0, 0
    for index in range(low, high):
        plane, i = index // height, index % height
        if i == 0 or index == low:
            begin = done = up_starts[i]
        while done < up_starts[i] + up_counts[i]:
            if done - begin == room:
                for j in range(np.uint64((done - up_starts[i]) * width)):
                    held[j] = held[np.uint64((up_starts[i] - begin) * width) + j]
                begin = up_starts[i]
            at = np.uint64((plane * lattice + done) * wide)
            if normal:
                base = np.uint64((plane * height + down_starts[done]) * width)
                t, count = np.uint64(done * down_most), np.uint64(down_counts[done])
                _combine(source, base, steps, down_flat, t, count, into, where, wide_row)
                _across(row, phases, taps, offsets, first, stride, span, middle, left, n)
                for q in range(n):
                    middle[left + q] *= square[q] * weight[at + q]
            else:
                for q in range(n):
                    middle[left + q] = scale[q] * weight[at + q]
            slot = (done - begin) * width
            _back(middle, back_taps, back_counts, back_offsets, first, stride, span, phase, held, slot, width)
            done += 1
        at, base = np.uint64(index * width), np.uint64((up_starts[i] - begin) * width)
        _combine(held, base, steps, up_flat, np.uint64(i * up_most), np.uint64(up_counts[i]), target, at, wide_row)
        if normal:
            dot = slope[0] * 0
            for j in range(wide_row):
                value = target[at + j] + slope[at + j] * source[at + j]
                target[at + j] = value
                dot += value * source[at + j]
            dots[plane, i] = dot


# -- minima ---------------------------------------------------------------------------------------------------


@compiled
def _lower(source, at, out, to, n):  # type: ignore[no-untyped-def]
    """out[to + j] becomes the smaller of itself and source[at + j] for j < n; NaN if either is."""
    for j in range(n):
        x, y = source[at + j], out[to + j]
        out[to + j] = x if x < y or x != x else y


@compiled
def _spread_min(values, starts, counts, first, stride, span, phase_counts, most, out, low, high):  # type: ignore[no-untyped-def]
    """For each pixel the smallest of the windows over it: (N, P_h, P_w) -> (N, H, W)."""
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
