"""Bring the means of all windows to 0 within bounds, for WindowSSIM with ``luminance="preserve"``.

Where windows overlap this is a system of linear equations with bounds on the unknowns: scaling can't reach it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.batch_algebra import inner, per_image
from solvers.windows import WindowOperator

# Window means under this many roundings of a pixel count as kept.
KEPT = 8
# Tries of conjugate gradients at removing means before the face is given up.
REFINEMENTS = 3


def project_to_zero_means(op: WindowOperator, delta: Tensor, lower: Tensor, upper: Tensor, steps: int = 200) -> Tensor:
    """Bring every window's mean to 0 within the bounds by alternating projections (Boyle and Dykstra), which
    now and then jump to the face of the bounds that they are on: that ends them exactly."""
    free = _free(op, lower, upper)
    delta = delta * free
    correction = torch.zeros_like(delta)
    inside = (delta >= lower) & (delta <= upper)
    result, done = delta, _kept(op, delta) & per_image(inside.flatten(1).all(dim=1))
    if bool(done.all()):
        return result
    for step in range(steps):
        level = _remove_means(op, delta, free)
        moved = (level + correction).clamp(lower, upper)
        correction = level + correction - moved
        delta = moved
        if step & (step - 1) and step != steps - 1:
            continue  # a jump costs as much as a step: after 0, 1, 2, 4, 8, ... of them
        face = free * ((delta > lower) & (delta < upper))
        jumped = delta
        for _ in range(REFINEMENTS):  # what conjugate gradients leave, they take at the next try
            jumped = _remove_means(op, jumped, face).clamp(lower, upper)
            kept = _kept(op, jumped)
            if bool((kept | done).all()):
                break
        good = kept & ~done
        result = torch.where(done, result, torch.where(good, jumped, delta))
        done = done | good
        if bool(done.all()):
            break
    return result


def _kept(op: WindowOperator, delta: Tensor) -> Tensor:
    """Whether every window's mean is 0 up to rounding, (B, 1, 1, 1) bool."""
    means = op.mean(delta).abs().flatten(1).amax(dim=1)
    return per_image(means <= KEPT * torch.finfo(delta.dtype).eps)


def _free(op: WindowOperator, lower: Tensor, upper: Tensor) -> Tensor:
    """1 where a pixel can move with every window's mean kept, else 0, in the image's dtype: in a window whose
    pixels can all only rise (a black one), or only fall, none can, and so on with its neighbours."""
    free = torch.ones_like(lower)
    while True:
        stuck = (op.mean(lower.clamp_min(-1) * free) == 0) | (op.mean(upper.clamp_max(1) * free) == 0)
        still = free * (op.spread_min(torch.where(stuck, 0.0, 1.0).to(free.dtype)) > 0)
        if torch.equal(still, free):
            return free
        free = still


def _remove_means(op: WindowOperator, delta: Tensor, free: Tensor) -> Tensor:
    """The nearest image whose window means are all 0, ``d - F M'(M F M')^+ M d`` with F the free pixels
    (conjugate gradients); ``delta`` is 0 on the others."""
    residual = op.mean(delta)
    multiplier = torch.zeros_like(residual)
    direction = residual
    energy = inner(residual, residual)
    start = energy
    tiny = torch.finfo(delta.dtype).tiny
    for _ in range(4 * max(op.height, op.width)):
        running = energy > 1e-30 * start  # image by image: none depends on its neighbours
        if not bool(running.any()):
            break
        image = op.adjoint(direction) * free
        step = per_image(torch.where(running, energy / inner(image, image).clamp_min(tiny), 0.0))
        multiplier = multiplier + step * direction
        residual = residual - step * op.mean(image)
        fresh = inner(residual, residual)
        turn = per_image(torch.where(running, fresh / energy.clamp_min(tiny), 0.0))
        direction = residual + turn * direction
        energy = torch.where(running, fresh, energy)
    return delta - op.adjoint(multiplier) * free
