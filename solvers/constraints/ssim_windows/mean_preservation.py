"""Bring the means of all windows to 0 within bounds, for WindowSSIM with ``luminance="preserve"``.

Where windows overlap, "every mean is 0" is a system of linear equations with bounds on the unknowns. Scaling cannot
solve this system.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.batch_algebra import inner, per_image
from solvers.windows import WindowOperator

# A window mean of at most this many roundings of a pixel counts as 0.
ZERO_MEAN_ROUNDINGS = 8
# How often conjugate gradients remove the means on one face of the bounds before the face is given up.
MAX_REFINEMENTS = 3


def project_to_zero_means(
    op: WindowOperator, delta: Tensor, lower: Tensor, upper: Tensor, steps: int = 200, scale: float = 1.0
) -> Tensor:
    """``delta`` moved so that every window's mean is 0 and ``lower <= delta <= upper``.

    Alternating projections (Boyle and Dykstra, 1986) approach such a point. After 0, 1, 2, 4, 8, ... of them the means
    are also removed on the face of the bounds on which the iterate lies; where this succeeds, the point is exact.

    Args:
        op: the window operator.
        delta: the perturbations, (B, C, H, W).
        lower: lower bounds, at most 0, (B, C, H, W).
        upper: upper bounds, at least 0, (B, C, H, W).
        steps: the largest number of projections.
        scale: the size of a pixel, against which a mean counts as 0.
    """
    movable = _movable(op, lower, upper)
    delta = delta * movable
    correction = torch.zeros_like(delta)
    inside = (delta >= lower) & (delta <= upper)
    result, done = delta, _has_zero_means(op, delta, scale) & per_image(inside.flatten(1).all(dim=1))
    if bool(done.all()):
        return result
    for step in range(steps):
        without_means = _remove_means(op, delta, movable)
        clipped = (without_means + correction).clamp(lower, upper)
        correction = without_means + correction - clipped
        delta = clipped
        if step & (step - 1) and step != steps - 1:
            continue  # removing the means on a face costs as much as a step, so only powers of two try
        face = movable * ((delta > lower) & (delta < upper))
        on_face = delta
        for _ in range(MAX_REFINEMENTS):  # a later try removes what conjugate gradients left
            on_face = _remove_means(op, on_face, face).clamp(lower, upper)
            is_zero = _has_zero_means(op, on_face, scale)
            if bool((is_zero | done).all()):
                break
        newly_done = is_zero & ~done
        result = torch.where(done, result, torch.where(newly_done, on_face, delta))
        done = done | newly_done
        if bool(done.all()):
            break
    return result


def _has_zero_means(op: WindowOperator, delta: Tensor, scale: float) -> Tensor:
    """Whether every window's mean is 0 up to rounding, (B, 1, 1, 1) bool."""
    largest_mean = op.mean(delta).abs().flatten(1).amax(dim=1)
    return per_image(largest_mean <= ZERO_MEAN_ROUNDINGS * torch.finfo(delta.dtype).eps * scale)


def _movable(op: WindowOperator, lower: Tensor, upper: Tensor) -> Tensor:
    """1 where a pixel can move while every window's mean stays 0, else 0, in the image's dtype.

    In a window whose movable pixels can all only rise (a black window), or only fall, no pixel can move. Then its
    neighbours have fewer movable pixels, and so on.
    """
    movable = torch.ones_like(lower)
    while True:
        is_stuck = (op.mean(lower.clamp_min(-1) * movable) == 0) | (op.mean(upper.clamp_max(1) * movable) == 0)
        still_movable = movable * (op.spread_min(torch.where(is_stuck, 0.0, 1.0).to(movable.dtype)) > 0)
        if torch.equal(still_movable, movable):
            return movable
        movable = still_movable


def _remove_means(op: WindowOperator, delta: Tensor, movable: Tensor) -> Tensor:
    """The nearest image whose window means are all 0, ``d - F M'(M F M')^+ M d``, by conjugate gradients.

    F keeps the pixels where ``movable`` is 1; ``delta`` is 0 on all others.
    """
    residual = op.mean(delta)
    multiplier = torch.zeros_like(residual)
    direction = residual
    energy = inner(residual, residual)
    first_energy = energy
    tiny = torch.finfo(delta.dtype).tiny
    for _ in range(4 * max(op.height, op.width)):
        running = energy > 1e-30 * first_energy  # for each image alone, whatever the others of the batch do
        if not bool(running.any()):
            break
        image = op.adjoint(direction) * movable
        step = per_image(torch.where(running, energy / inner(image, image).clamp_min(tiny), 0.0))
        multiplier = multiplier + step * direction
        residual = residual - step * op.mean(image)
        next_energy = inner(residual, residual)
        turn = per_image(torch.where(running, next_energy / energy.clamp_min(tiny), 0.0))
        direction = residual + turn * direction
        energy = torch.where(running, next_energy, energy)
    return delta - op.adjoint(multiplier) * movable
