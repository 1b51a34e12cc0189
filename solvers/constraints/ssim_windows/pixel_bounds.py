"""The box that a set of SSIM windows implies: no pixel can move further than the windows over it allow.

Let a pixel i of window p have the weight w, and let ``u = d - a x``. The vector that is 1 at i and 0 elsewhere,
centred, has the norm ``sqrt(w (1 - w))`` under the weights. So ``u_i - m_p(u)`` is at most ``|R_p u| sqrt((1 - w)/w)``,
and

    d_i <= hi_p + a (x_i - m_p(x)) + r_p sqrt((1 - w)/w).

All other pixels of the window are at their lower bounds or above, so also ``w d_i + sum_{k != i} w_k lo_k <= hi_p``.
Both inequalities hold for every feasible d. Therefore the certificate may take its supremum of z'd over the smaller
box.

The smaller box matters. An iterative method leaves a small remainder in z, which costs the whole width of the box: 1
for a black pixel, although this pixel can rise by 0.016 at most. On photos the implied box is four to nine times
narrower than [0, 1], and this part of the gap shrinks by the same factor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.backends.eligibility import compiled_code_may_read, triton_serves
from solvers.batch_algebra import per_image
from solvers.constraints.ssim_windows.moments import WindowBalls
from solvers.windows import WindowOperator
from solvers.windows.quadratic import Bounds

# The rounding of a pixel's bound, relative to the numbers that it is made of: it must not cut off a feasible point.
PIXEL_BOUND_ROUNDING = 2.0**-44
# How many windows over a pixel are used along each axis, heaviest first. Under a Gaussian the light ones imply nothing.
MAX_WINDOWS_PER_AXIS = 7

# For one axis, the k-th heaviest window over each of its pixels and the weight there: a list over k of two (length,).
WindowsOverPixels = list[tuple[Tensor, Tensor]]


def implied_bounds(op: WindowOperator, reference: Tensor, balls: WindowBalls, box: Bounds, error: Tensor) -> Bounds:
    """Elementwise bounds on d within ``box`` that hold for every d of the set in the box, (B, C, H, W) each.

    Args:
        op: the window operator, float64.
        reference: x, or x less a number a channel, (B, C, H, W), float64.
        balls: the windows' balls and intervals; ``ball_center`` must be one number.
        box: bounds on d, (B, C, H, W) each, infinite where there is none.
        error: how much too small radii, and ends of intervals in size, may be, (B, C, 1, 1).
    """
    # One image at a time fits the cache of a CPU; a larger batch would only be slower.
    chunk = 1 if reference.device.type == "cpu" else len(reference)
    widened = balls.radius + error, balls.mean_lower - error, balls.mean_upper + error
    batched = (reference, *widened, box.lower, box.upper)
    bounds = [
        _implied_bounds(op, x, WindowBalls(balls.ball_center, *ball_parts), Bounds(lower, upper))
        for x, *ball_parts, lower, upper in zip(*(tensor.split(chunk) for tensor in batched), strict=True)
    ]
    return Bounds(torch.cat([part.lower for part in bounds]), torch.cat([part.upper for part in bounds]))


def _implied_bounds(op: WindowOperator, reference: Tensor, balls: WindowBalls, box: Bounds) -> Bounds:
    # Where a pixel has no bound, the box says nothing about the other pixels of its windows.
    finite_box = box.map(lambda limit: torch.where(limit.isfinite(), limit, 0.0))
    centre = reference * balls.ball_center
    centre_mean = op.mean(centre)
    rows, columns = _heaviest(op.rows), _heaviest(op.columns_t.t())
    box_mean_lower, box_mean_upper = (
        torch.where(op.mean(limit.isfinite().to(values)) >= 1 - 1e-12, op.mean(values), sign * torch.inf)
        for limit, values, sign in (
            (box.lower, finite_box.lower, -1),
            (box.upper, finite_box.upper, 1),
        )
    )
    mean_lower = torch.maximum(balls.mean_lower, box_mean_lower)
    mean_upper = torch.minimum(balls.mean_upper, box_mean_upper)
    # The products' rounding, in the units of a mean. It stands before the division by a weight, which magnifies it.
    largest = torch.maximum(finite_box.lower.abs(), finite_box.upper.abs())
    sizes = per_image((largest + centre.abs()).flatten(1).amax(dim=1))
    largest_radius = per_image(balls.radius.flatten(1).amax(dim=1))
    slack = 4 * op.relative_error * (sizes + largest_radius) + _lost_reach(op) * largest_radius
    window_limits = torch.stack(
        [
            mean_upper - centre_mean + slack,
            mean_lower - centre_mean - slack,
            balls.radius,
            mean_upper - box_mean_lower + slack,
            box_mean_upper - mean_lower + slack,
        ]
    )
    arguments = rows, columns, window_limits, centre, finite_box, box
    readable = compiled_code_may_read(window_limits, centre, finite_box.lower, finite_box.upper, box.lower, box.upper)
    if readable and window_limits.is_cpu:
        from solvers.constraints.ssim_windows.pixel_bounds_numba import tighten_compiled

        tightened = tighten_compiled(*arguments)
    elif readable and triton_serves(window_limits.device):
        from solvers.constraints.ssim_windows.pixel_bounds_triton import tighten_cuda

        tightened = tighten_cuda(*arguments)
    else:
        tightened = tighten(*arguments)
    # The last operations' rounding. d = 0 is feasible whenever the box holds it, and rounding must not deny that.
    share = PIXEL_BOUND_ROUNDING + 8 * op.relative_error
    tightened_lower = tightened.lower - share * (tightened.lower.abs() + sizes) - slack
    tightened_upper = tightened.upper + share * (tightened.upper.abs() + sizes) + slack
    lower = torch.maximum(box.lower, tightened_lower.clamp_max(0))
    upper = torch.minimum(box.upper, tightened_upper.clamp_min(0))
    # A pixel in no window is bounded by the box alone.
    return Bounds(torch.where(op.covered, lower, box.lower), torch.where(op.covered, upper, box.upper))


def _lost_reach(op: WindowOperator) -> float:
    """How much too small ``sqrt((1 - w)/w)`` may be where a pixel has most of a window's weight w: 1 - w is lost in
    rounding there."""
    weights = torch.outer(op.rows.amax(dim=1), op.columns.amax(dim=1))
    heaviest = float(torch.where(op.pixels > 1, weights, 0.0).max())
    return 2 * op.relative_error / max(1 - heaviest, op.relative_error) ** 0.5 if heaviest > 0.5 else 0.0


def tighten(
    rows: WindowsOverPixels,
    columns: WindowsOverPixels,
    window_limits: Tensor,
    centre: Tensor,
    finite_box: Bounds,
    box: Bounds,
) -> Bounds:
    """``box``, cut down by the windows over each pixel.

    Args:
        rows: the windows over each row of pixels, and their weights there; see :func:`_heaviest`.
        columns: the windows over each column of pixels, and their weights there.
        window_limits: (5, B, C, P_h, P_w), for every window the largest and the smallest mean of ``d - a x``, the
            radius, and how far the window's mean may rise above that of the box's lower bounds, and fall below that of
            its upper bounds.
        centre: a x, (B, C, H, W).
        finite_box: the box with 0 in the place of infinite bounds.
        box: the bounds on d, (B, C, H, W) each.
    """
    new_lower, new_upper = box.lower, box.upper
    for row, row_weight in rows:
        by_row = window_limits[..., row, :]
        for column, column_weight in columns:
            largest_mean, smallest_mean, radius, rise, fall = by_row[..., column].unbind()
            weight = torch.outer(row_weight, column_weight)
            inside = weight > 0
            weight = torch.where(inside, weight, 1.0)
            reach = radius * ((1 - weight) / weight).sqrt()
            high = torch.minimum(largest_mean + centre + reach, finite_box.lower + rise / weight)
            low = torch.maximum(smallest_mean + centre - reach, finite_box.upper - fall / weight)
            new_upper = torch.where(inside, torch.minimum(new_upper, high), new_upper)
            new_lower = torch.where(inside, torch.maximum(new_lower, low), new_lower)
    return Bounds(new_lower, new_upper)


def _heaviest(matrix: Tensor) -> WindowsOverPixels:
    """The windows over each pixel of an axis, heaviest first, from their weights ``matrix`` (windows, length).

    At most MAX_WINDOWS_PER_AXIS pairs of a window's number (length,) and its weight (length,), float64. The weight is 0
    where a pixel lies in fewer windows.
    """
    count = min(MAX_WINDOWS_PER_AXIS, int((matrix > 0).sum(dim=0).max()))
    weight, window = matrix.topk(count, dim=0)
    return [(window[k], weight[k].to(torch.float64)) for k in range(count)]
