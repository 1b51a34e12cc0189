"""The compiled part of :mod:`.window_grid`: single pixels move by one grey step, and every window over them is updated.

Each window of a plane has three means: of ``c = d - a x``, of ``c^2``, and of ``d`` less the middle of its interval.
The excess of window p is ``max(0, V_p(c)/r_p^2 - 1) + max(0, (m_p(d) - middle)^2/half_p^2 - 1)``.
"""

from __future__ import annotations

import numpy as np

from solvers.backends.numba_jit import compiled

GREY_STEP = 1 / 255
# After so many retreats, pixels move towards the reference only. From then on every move reduces the distance to it.
FREE_RETREATS = 4
# A move must reduce the excess by more than this.
MIN_GAIN = 1e-9
# Grey steps that a pixel may take along the gradient in one call.
LIFT_PASSES = 8


@compiled
def _excess(mean, square, shift, radius, half):  # type: ignore[no-untyped-def]
    ball = (square - mean * mean) / radius - 1
    interval = shift * shift / half - 1
    return max(ball, 0.0) + max(interval, 0.0)


@compiled
def _change(grey, base, i, j, step, axes, state):  # type: ignore[no-untyped-def]
    """The change of the excess of all windows over pixel (i, j) with the move, and the largest rise of one window."""
    row_first, row_count, rows, column_first, column_count, columns = axes
    mean, square, shift, radius, half = state
    move = step * GREY_STEP
    squares = move * (2 * (grey[i, j] * GREY_STEP - base[i, j]) + move)
    total = worst = 0.0
    for p in range(row_first[i], row_first[i] + row_count[i]):
        for r in range(column_first[j], column_first[j] + column_count[j]):
            weight = rows[p, i] * columns[r, j]
            old = _excess(mean[p, r], square[p, r], shift[p, r], radius[p, r], half[p, r])
            new = _excess(
                mean[p, r] + weight * move,
                square[p, r] + weight * squares,
                shift[p, r] + weight * move,
                radius[p, r],
                half[p, r],
            )
            total += new - old
            worst = max(worst, new - old)
    return total, worst


@compiled
def _apply(grey, base, i, j, step, axes, state):  # type: ignore[no-untyped-def]
    row_first, row_count, rows, column_first, column_count, columns = axes
    mean, square, shift, _, _ = state
    move = step * GREY_STEP
    squares = move * (2 * (grey[i, j] * GREY_STEP - base[i, j]) + move)
    for p in range(row_first[i], row_first[i] + row_count[i]):
        for r in range(column_first[j], column_first[j] + column_count[j]):
            weight = rows[p, i] * columns[r, j]
            mean[p, r] += weight * move
            square[p, r] += weight * squares
            shift[p, r] += weight * move
    grey[i, j] += step


@compiled
def _window_change(grey, base, i, j, step, p, r, axes, state):  # type: ignore[no-untyped-def]
    """The change of the excess of window (p, r) alone."""
    _, _, rows, _, _, columns = axes
    mean, square, shift, radius, half = state
    move = step * GREY_STEP
    squares = move * (2 * (grey[i, j] * GREY_STEP - base[i, j]) + move)
    weight = rows[p, i] * columns[r, j]
    old = _excess(mean[p, r], square[p, r], shift[p, r], radius[p, r], half[p, r])
    moved = mean[p, r] + weight * move, square[p, r] + weight * squares, shift[p, r] + weight * move
    return _excess(moved[0], moved[1], moved[2], radius[p, r], half[p, r]) - old


@compiled
def _mend(  # type: ignore[no-untyped-def]
    grey, nearest, base, gradient, floor, extent, p, r, towards_reference, one_window, axes, state
):
    """Move pixels of window (p, r) until it is inside. Each time the pixel moves that has the largest fall of excess
    for the margin it costs. Returns whether any moved. With ``towards_reference``, pixels move towards the reference
    only. With ``one_window``, only this window's excess counts."""
    mean, square, shift, radius, half = state
    moved = False
    while _excess(mean[p, r], square[p, r], shift[p, r], radius[p, r], half[p, r]) > 0:
        best, best_i, best_j, best_step = 0.0, -1, -1, 0
        for i in range(extent[0][p], extent[1][p]):
            for j in range(extent[2][r], extent[3][r]):
                away = grey[i, j] - nearest[i, j]
                for step in (-1, 1):
                    target = grey[i, j] + step
                    if target < 0 or target > 255 or (towards_reference and away * step >= 0):
                        continue
                    if one_window:
                        change = _window_change(grey, base, i, j, step, p, r, axes, state)
                    else:
                        change, _ = _change(grey, base, i, j, step, axes, state)
                    if change > -MIN_GAIN:
                        continue
                    score = -change / (max(-step * gradient[i, j], 0.0) + floor)
                    if score > best:
                        best, best_i, best_j, best_step = score, i, j, step
        if best_i < 0:
            break
        _apply(grey, base, best_i, best_j, best_step, axes, state)
        moved = True
    return moved


@compiled
def _retreat(grey, nearest, base, gradient, floor, extent, p, r, axes, state):  # type: ignore[no-untyped-def]
    """Bring window (p, r) inside by moves towards the reference, whatever the windows around it lose. Where no move
    helps, all its pixels go one step. Returns whether any moved."""
    mean, square, shift, radius, half = state
    moved = _mend(grey, nearest, base, gradient, floor, extent, p, r, True, True, axes, state)
    if _excess(mean[p, r], square[p, r], shift[p, r], radius[p, r], half[p, r]) > 0:
        for i in range(extent[0][p], extent[1][p]):
            for j in range(extent[2][r], extent[3][r]):
                away = grey[i, j] - nearest[i, j]
                if away != 0:
                    _apply(grey, base, i, j, -1 if away > 0 else 1, axes, state)
                    moved = True
    return moved


@compiled
def settle_plane(grey, nearest, base, gradient, floor, extent, axes, state):  # type: ignore[no-untyped-def]
    """Bring a plane's windows inside. Returns how many stay outside with all pixels at the reference's grey value."""
    mean, square, shift, radius, half = state
    retreats = 0
    while True:
        changed = True
        while changed:
            changed, outside = False, 0
            for p in range(mean.shape[0]):
                for r in range(mean.shape[1]):
                    if _excess(mean[p, r], square[p, r], shift[p, r], radius[p, r], half[p, r]) > 0:
                        towards_reference = retreats >= FREE_RETREATS
                        if _mend(
                            grey, nearest, base, gradient, floor, extent, p, r, towards_reference, False, axes, state
                        ):
                            changed = True
                        if _excess(mean[p, r], square[p, r], shift[p, r], radius[p, r], half[p, r]) > 0:
                            outside += 1
        if outside == 0:
            return 0
        moved = False
        for p in range(mean.shape[0]):
            for r in range(mean.shape[1]):
                if _excess(mean[p, r], square[p, r], shift[p, r], radius[p, r], half[p, r]) > 0:
                    moved |= _retreat(grey, nearest, base, gradient, floor, extent, p, r, axes, state)
        if not moved:
            return outside
        retreats += 1


@compiled
def lift_image(grey, base, gradient, covered, order, needed, axes, states):  # type: ignore[no-untyped-def]
    """Move pixels along the gradient, in ``order``, where no window's excess rises, until ``gradient' move`` reaches
    ``needed``. Returns the value reached. grey, base, gradient: (C, H, W); states: (5, C, P_h, P_w). grey and states
    are changed in place."""
    _, height, width = grey.shape
    gained = 0.0
    for _ in range(LIFT_PASSES):
        moved = False
        for index in order:
            channel, i, j = index // (height * width), index // width % height, index % width
            slope = gradient[channel, i, j]
            step = 1 if slope > 0 else -1
            target = grey[channel, i, j] + step
            if slope == 0 or target < 0 or target > 255 or not covered[i, j]:
                continue
            state = (
                states[0, channel],
                states[1, channel],
                states[2, channel],
                states[3, channel],
                states[4, channel],
            )
            _, worst = _change(grey[channel], base[channel], i, j, step, axes, state)
            if worst > 0:
                continue
            _apply(grey[channel], base[channel], i, j, step, axes, state)
            moved = True
            gained += np.abs(slope) * GREY_STEP
            if gained >= needed:
                return gained
        if not moved:
            break
    return gained
