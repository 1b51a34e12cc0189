"""The box that a WindowSSIM set implies: no pixel can move further than the windows over it let it.

For a pixel i of window p, with weight w and ``u = d - a x``: ``u_i - m_p(u)`` is at most ``|R_p u| sqrt((1 - w)/w)``
(the vector that is 1 on i and 0 elsewhere, centred, has norm ``sqrt(w (1 - w))`` under the weights), so

    d_i <= hi_p + a (x_i - m_p(x)) + r_p sqrt((1 - w)/w).

And since the other pixels of the window are at their lower bounds or above, ``w d_i + sum_{k != i} w_k lo_k <= hi_p``.
Both hold for every feasible d, so the certificate may take its supremum of z'd over the smaller box. It matters: what
an iterative method leaves in z costs the whole width of the box, 1 for a black pixel that can in truth rise by 0.016;
on photos the implied box is four to nine times narrower than [0, 1], and so is that part of the gap.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.backends.eligibility import compiled_code_may_read, triton_serves
from solvers.batch_algebra import per_image
from solvers.windows import WindowOperator

# Rounding of the formulas above, relative to the largest finite bound: the box must not cut off a feasible point.
ROUNDING = 1e-11
# Per axis, how many windows over a pixel are asked, those with the largest weight first: under a Gaussian the far
# ones say nothing.
MOST_WINDOWS = 7


def implied_bounds(
    op: WindowOperator,
    reference: Tensor,
    ball_center: float,
    radius: Tensor,
    mean_limits: tuple[Tensor, Tensor],
    box: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """Elementwise bounds on d, (B, C, H, W) each, within ``box`` and containing every d of the set in the box.

    Args:
        op, reference, ball_center, radius: as in BoundWindowSSIM, float64.
        mean_limits: lo_p and hi_p, each (B, C, P_h, P_w).
        box: lower and upper bounds on d, (B, C, H, W), infinite where there is none.
    """
    # One image at a time fits a CPU's cache; a larger batch would only be slower.
    together = 1 if reference.device.type == "cpu" else len(reference)
    batched = (reference, radius, *mean_limits, *box)
    bounds = [
        _implied_bounds(op, ball_center, *values)
        for values in zip(*(tensor.split(together) for tensor in batched), strict=True)
    ]
    lower, upper = zip(*bounds, strict=True)
    return torch.cat(lower), torch.cat(upper)


def _implied_bounds(
    op: WindowOperator,
    ball_center: float,
    reference: Tensor,
    radius: Tensor,
    mean_lower: Tensor,
    mean_upper: Tensor,
    box_lower: Tensor,
    box_upper: Tensor,
) -> tuple[Tensor, Tensor]:
    # Where a pixel has no bound its windows' other pixels learn nothing from the box.
    lower, upper = (torch.where(limit.isfinite(), limit, 0.0) for limit in (box_lower, box_upper))
    centre = reference * ball_center
    window_centre = op.mean(centre)
    rows, columns = _heaviest(op.rows), _heaviest(op.columns_t.t())
    box_mean_lower, box_mean_upper = (
        torch.where(op.mean(limit.isfinite().to(values)) >= 1 - 1e-12, op.mean(values), sign * torch.inf)
        for limit, values, sign in zip((box_lower, box_upper), (lower, upper), (-1, 1), strict=True)
    )
    least = torch.maximum(mean_lower, box_mean_lower)
    most = torch.minimum(mean_upper, box_mean_upper)
    parts = torch.stack(
        [most - window_centre, least - window_centre, radius, most - box_mean_lower, box_mean_upper - least]
    )
    largest = torch.maximum(lower.abs(), upper.abs()).flatten(1).amax(dim=1)
    slack = per_image(ROUNDING * largest.clamp_min(1.0))
    arguments = rows, columns, parts, centre, (lower, upper), (box_lower, box_upper)
    serves = compiled_code_may_read(parts, centre, lower, upper, box_lower, box_upper)
    if serves and parts.is_cpu:
        from solvers.constraints.ssim_windows.pixel_bounds_numba import tighten_compiled

        new_lower, new_upper = tighten_compiled(*arguments)
    elif serves and triton_serves(parts.device):
        from solvers.constraints.ssim_windows.pixel_bounds_triton import tighten_cuda

        new_lower, new_upper = tighten_cuda(*arguments)
    else:
        new_lower, new_upper = tighten(*arguments)
    # d = 0 is feasible whenever the box holds it, and rounding must not deny that.
    lower = torch.maximum(box_lower, new_lower.clamp_max(0) - slack)
    upper = torch.minimum(box_upper, new_upper.clamp_min(0) + slack)
    # A pixel in no window is bounded by the box alone.
    return torch.where(op.covered, lower, box_lower), torch.where(op.covered, upper, box_upper)


Taps = list[tuple[Tensor, Tensor]]
Limits = tuple[Tensor, Tensor]


def tighten(rows: Taps, columns: Taps, parts: Tensor, centre: Tensor, known: Limits, box: Limits) -> Limits:
    """``box`` cut down by every window asked.

    Args:
        rows, columns: per axis, windows and weights; see :func:`_heaviest`.
        parts: (5, B, C, P_h, P_w), what each window's mean and ball let a pixel rise and fall.
        centre: (B, C, H, W), a x.
        known: the box with 0 in place of what is infinite.
        box: lower and upper bounds, (B, C, H, W).
    """
    lower, upper = known
    new_lower, new_upper = box
    for row, row_weight in rows:
        by_row = parts[..., row, :]
        for column, column_weight in columns:
            top, bottom, ball, rise, fall = by_row[..., column].unbind()
            weight = torch.outer(row_weight, column_weight)
            inside = weight > 0
            weight = torch.where(inside, weight, 1.0)
            reach = ball * ((1 - weight) / weight).sqrt()
            high = torch.minimum(top + centre + reach, lower + rise / weight)
            low = torch.maximum(bottom + centre - reach, upper - fall / weight)
            new_upper = torch.where(inside, torch.minimum(new_upper, high), new_upper)
            new_lower = torch.where(inside, torch.maximum(new_lower, low), new_lower)
    return new_lower, new_upper


def _heaviest(matrix: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each pixel of an axis the windows over it, heaviest first: at most MOST_WINDOWS pairs (window (length,),
    weight (length,)); weight 0 where a pixel has no further window. ``matrix``: (windows, length)."""
    count = min(MOST_WINDOWS, int((matrix > 0).sum(dim=0).max()))
    weight, window = matrix.topk(count, dim=0)
    return [(window[k], weight[k].to(torch.float64)) for k in range(count)]
