"""Conjugate gradients for a concave quadratic over a box, a few steps from a good start."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from solvers.batch_algebra import per_image
from solvers.windows import WindowOperator


def ascend(
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    diagonal: Tensor,
    start: Tensor,
    box: tuple[Tensor, Tensor],
    inner: Callable[[Tensor, Tensor], Tensor],
    steps: Tensor,
    most: int,
) -> Tensor:
    """Towards the maximum of ``right'd - d'Hd/2`` over the box: ``steps`` conjugate gradients on the free pixels.

    A pixel is free unless it is on a bound and the gradient at ``start`` pushes it further. The result is *not*
    clipped: its gradient vanishes on the free pixels, which is what a dual bound wants, and clipping would spoil it.

    Args:
        product: H times an image, symmetric positive semi-definite.
        right, diagonal: (K, C, H, W); the diagonal of H preconditions.
        start: within the box.
        inner: inner products, broadcastable to images; separate ones for parts that H does not couple.
        steps: long (K,), for each image; ``most`` is the largest (a number, as asking a GPU for it would wait).
    """
    lower, upper = box
    gradient = right - product(start)
    held = ((start <= lower) & (gradient <= 0)) | ((start >= upper) & (gradient >= 0))
    # Held pixels have no residual, and through the preconditioner no part in any direction.
    preconditioner = torch.where(held, 0.0, 1 / diagonal)
    residual, delta = gradient, start.clone()
    scaled = residual * preconditioner
    direction, energy = scaled, inner(residual, scaled)
    tiny = torch.finfo(start.dtype).tiny
    for step in range(most):
        image = product(direction)
        length = energy / inner(direction, image).clamp_min(tiny)
        length = torch.where(per_image(steps > step), length, 0.0)
        delta = torch.addcmul(delta, length, direction)
        residual = torch.addcmul(residual, length, image, value=-1)
        scaled = residual * preconditioner
        following = inner(residual, scaled)
        direction = torch.addcmul(scaled, following / energy.clamp_min(tiny), direction)
        energy = following
    return delta


def ascend_windows(
    op: WindowOperator,
    slope: Tensor,
    weights: Tensor,
    right: Tensor,
    diagonal: Tensor,
    start: Tensor,
    box: tuple[Tensor, Tensor],
    steps: Tensor,
    most: int,
) -> Tensor:
    """:func:`ascend` for ``H = diag(slope) + M' diag(weights) M``, which couples nothing across channels: slope
    (K, C, H, W), weights (K, C, P_h, P_w). Compiled."""
    moved = op.ascend(slope, weights, right, diagonal, start, *box, steps[:, None].expand(start.shape[:2]), most)
    if moved is not None:
        return moved
    return ascend(lambda image: op.normal(image, slope, weights), right, diagonal, start, box, _by_channel, steps, most)


def _by_channel(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(dim=(-2, -1), keepdim=True)
