"""Compiled separable window products on the CPU: windowed means, their adjoint, and the fused normal product.

Every kernel walks the rows of a plane once. A row of windows is the combination of at most ``size`` image rows
(vertical pass, over contiguous columns) and then of at most ``size`` shifted copies of itself (horizontal pass, in a
buffer that stays in the first cache), so the cost is linear in pixels. For the horizontal pass a row lies in ``stride``
phases, ``buffer[r, m] = row[stride * m + r]``, padded with zeros where windows hang over the edge: windows are then
contiguous for any stride, all have the same taps, and a cut window's sum is divided by its remaining mass.

Numba compiles at the first call and keeps the machine code on disk where it may write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import torch
from torch import Tensor

from solvers.window_plan import plan_of

if TYPE_CHECKING:
    from solvers.windows import WindowOperator

FAST = {"contract", "reassoc", "nsz"}


def compiled(function: Callable[..., Any]) -> Any:
    """``function`` in machine code, without the interpreter lock; kept on disk where that can be written."""
    try:
        return numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")(function)
    except RuntimeError:  # no writable place for the cache
        return numba.njit(nogil=True, fastmath=FAST, error_model="numpy")(function)


# -- entry points ---------------------------------------------------------------------------------------------


def mean_planes(v: Tensor, op: WindowOperator, out: Tensor | None = None) -> Tensor:
    """Windowed means: contiguous (N, H, W) on the CPU -> (N, P_h, P_w)."""
    plan = plan_of(op)
    out = v.new_empty(v.shape[0], *op.shape) if out is None else out
    _mean(v.numpy(), plan.down, plan.columns, out.numpy(), 0, out.shape[0] * out.shape[1])
    return out


def adjoint_planes(q: Tensor, op: WindowOperator, out: Tensor | None = None) -> Tensor:
    """The adjoint of :func:`mean_planes`: contiguous (N, P_h, P_w) -> (N, H, W)."""
    plan = plan_of(op)
    out = q.new_empty(q.shape[0], op.height, op.width) if out is None else out
    _adjoint(q.numpy(), plan.up, plan.columns, out.numpy(), 0, out.shape[0] * out.shape[1])
    return out


def normal_planes(
    v: Tensor, diagonal: Tensor, weights: Tensor, op: WindowOperator, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``diagonal * v + M'(weights * M v)`` and its inner product with v, plane by plane.

    Contiguous v, diagonal (N, H, W) and weights (N, P_h, P_w) -> (N, H, W) and float64 (N,).
    """
    plan = plan_of(op)
    out = torch.empty_like(v) if out is None else out
    dots = torch.empty(v.shape[:2], dtype=torch.float64)
    arrays = v.numpy(), diagonal.numpy(), weights.numpy()
    _normal(*arrays, plan.down, plan.up, plan.columns, out.numpy(), dots.numpy(), 0, v.shape[0] * v.shape[1])
    return out, dots.sum(dim=1)


# -- one row --------------------------------------------------------------------------------------------------
# Unsigned indices throughout: numba then leaves out the test for negative ones, and the loops become SIMD.


@compiled
def _combine(source, base, offsets, taps, count, out, at, n):  # type: ignore[no-untyped-def]
    """out[at + j] = sum_k taps[k] * source[base + offsets[k] + j] for j < n; all arrays flat."""
    k = np.uint64(0)
    one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    if count >= four:
        a, b, c, d = taps[0], taps[1], taps[2], taps[3]
        u, v, w, x = base + offsets[0], base + offsets[1], base + offsets[2], base + offsets[3]
        for j in range(n):
            out[at + j] = a * source[u + j] + b * source[v + j] + c * source[w + j] + d * source[x + j]
        k += four
    else:
        for j in range(n):
            out[at + j] = 0
    while k + four <= count:
        a, b, c, d = taps[k], taps[k + one], taps[k + two], taps[k + three]
        u, v = base + offsets[k], base + offsets[k + one]
        w, x = base + offsets[k + two], base + offsets[k + three]
        for j in range(n):
            out[at + j] += a * source[u + j] + b * source[v + j] + c * source[w + j] + d * source[x + j]
        k += four
    if k + three == count:
        a, b, c = taps[k], taps[k + one], taps[k + two]
        u, v, w = base + offsets[k], base + offsets[k + one], base + offsets[k + two]
        for j in range(n):
            out[at + j] += a * source[u + j] + b * source[v + j] + c * source[w + j]
    elif k + two == count:
        a, b = taps[k], taps[k + one]
        u, v = base + offsets[k], base + offsets[k + one]
        for j in range(n):
            out[at + j] += a * source[u + j] + b * source[v + j]
    elif k + one == count:
        a, u = taps[k], base + offsets[k]
        for j in range(n):
            out[at + j] += a * source[u + j]


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
def _row_mean(source, base, down, row_taps, count, columns, row, phases, out, at, n):  # type: ignore[no-untyped-def]
    """One row of windows, before the division by the mass that the right and left edges leave."""
    taps, _, offsets, first, stride, span, _, _, _ = columns
    width = np.uint64(row.size)
    if stride == 1:
        _combine(source, base, down, row_taps, count, phases, np.uint64(-first), width)
    else:
        _combine(source, base, down, row_taps, count, row, np.uint64(0), width)
        _split(row, first, stride, span, phases)
    _combine(phases, np.uint64(0), offsets, taps, np.uint64(taps.size), out, at, n)


@compiled
def _row_back(windows, columns, phase, out, at, width):  # type: ignore[no-untyped-def]
    """One row of pixels from one row of windows between zeros, each already divided by its mass."""
    _, _, _, first, stride, span, taps, counts, offsets = columns
    zero = np.uint64(0)
    if stride == 1:
        _combine(windows, np.uint64(-first), offsets, taps[0], counts[0], out, np.uint64(at), np.uint64(width))
        return
    for r in range(stride):
        _combine(windows, zero, offsets, taps[r], counts[r], phase, zero, np.uint64(span))
        _join(phase, r, first, stride, out, at, width)


# -- planes ---------------------------------------------------------------------------------------------------
# Rows of all planes are numbered through; a call works on those from low to high.


@compiled
def _mean(v, down, columns, out, low, high):  # type: ignore[no-untyped-def]
    _, height, width = v.shape
    _, lattice, wide = out.shape
    start, count, row_taps = down
    scale, stride, span = columns[1], columns[4], columns[5]
    source, target = v.reshape(-1), out.reshape(-1)
    offsets = np.arange(row_taps.shape[1]).astype(np.uint64) * np.uint64(width)
    row, phases = np.zeros(width, v.dtype), np.zeros(span * stride, v.dtype)
    for index in range(low, high):
        plane, p = index // lattice, index % lattice
        base, at = np.uint64((plane * height + start[p]) * width), np.uint64(index * wide)
        _row_mean(
            source, base, offsets, row_taps[p], np.uint64(count[p]), columns, row, phases, target, at, np.uint64(wide)
        )
        for q in range(np.uint64(wide)):
            target[at + q] *= scale[q]


@compiled
def _adjoint(windows, up, columns, out, low, high):  # type: ignore[no-untyped-def]
    _, lattice, wide = windows.shape
    _, height, width = out.shape
    start, count, row_taps = up
    scale, span, most = columns[1], columns[5], columns[6].shape[1]
    source, target = windows.reshape(-1), out.reshape(-1)
    offsets = np.arange(row_taps.shape[1]).astype(np.uint64) * np.uint64(wide)
    left = np.uint64(most - 1)
    row, phase = np.zeros(most - 1 + span, out.dtype), np.zeros(span, out.dtype)
    for index in range(low, high):
        plane, i = index // height, index % height
        base = np.uint64((plane * lattice + start[i]) * wide)
        _combine(source, base, offsets, row_taps[i], np.uint64(count[i]), row, left, np.uint64(wide))
        for q in range(np.uint64(wide)):
            row[left + q] *= scale[q]
        _row_back(row, columns, phase, target, index * width, width)


@compiled
def _normal(v, diagonal, weights, down, up, columns, out, dots, low, high):  # type: ignore[no-untyped-def]
    _, height, width = v.shape
    _, lattice, wide = weights.shape
    down_start, down_count, down_taps = down
    up_start, up_count, up_taps = up
    scale, stride, span, most = columns[1], columns[4], columns[5], columns[6].shape[1]
    square = scale * scale
    source, target, weight, slope = v.reshape(-1), out.reshape(-1), weights.reshape(-1), diagonal.reshape(-1)
    offsets = np.arange(max(down_taps.shape[1], up_taps.shape[1])).astype(np.uint64) * np.uint64(width)
    left, n = np.uint64(most - 1), np.uint64(wide)
    row, phases, phase = np.zeros(width, v.dtype), np.zeros(span * stride, v.dtype), np.zeros(span, v.dtype)
    middle = np.zeros(most - 1 + span, v.dtype)
    # Rows of M' before the vertical pass; when full, those still needed move to its front.
    room = 4 * up_taps.shape[1] + 8
    held = np.zeros(room * width, v.dtype)
    begin, done = 0, 0
    for index in range(low, high):
        plane, i = index // height, index % height
        if i == 0 or index == low:
            begin = done = up_start[i]
        while done < up_start[i] + up_count[i]:
            if done - begin == room:
                kept = (done - up_start[i]) * width
                held[:kept] = held[room * width - kept :]
                begin = up_start[i]
            p = done
            base = np.uint64((plane * height + down_start[p]) * width)
            count = np.uint64(down_count[p])
            _row_mean(source, base, offsets, down_taps[p], count, columns, row, phases, middle, left, n)
            at = np.uint64((plane * lattice + p) * wide)
            for q in range(n):
                middle[left + q] *= square[q] * weight[at + q]
            _row_back(middle, columns, phase, held, (p - begin) * width, width)
            done += 1
        at = np.uint64(index * width)
        base = np.uint64((up_start[i] - begin) * width)
        _combine(held, base, offsets, up_taps[i], np.uint64(up_count[i]), target, at, np.uint64(width))
        dot = slope[0] * 0
        for j in range(np.uint64(width)):
            value = target[at + j] + slope[at + j] * source[at + j]
            target[at + j] = value
            dot += value * source[at + j]
        dots[plane, i] = dot
