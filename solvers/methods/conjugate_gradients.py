"""Conjugate gradients for a concave quadratic within pixel bounds: a few steps from a good start.

The methods ``dual`` and ``energy_step`` maximise a Lagrangian again and again, each time from the last maximiser. The
set of pixels at a bound is fixed for the few steps of a call, and is taken anew by the next call.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from solvers.batch_algebra import inner, per_image
from solvers.windows import WindowOperator
from solvers.windows.quadratic import Bounds, WindowQuadratic


def maximise_quadratic(
    product: Callable[[Tensor], Tensor],
    quadratic: WindowQuadratic,
    start: Tensor,
    bounds: Bounds,
    inner_product: Callable[[Tensor, Tensor], Tensor],
    steps: Tensor,
    max_steps: int,
) -> Tensor:
    """Move ``start`` towards the maximum of ``right'd - d'Hd/2`` within the bounds, by conjugate gradients.

    Only free pixels move. A pixel is free unless it lies on a bound and the gradient at ``start`` pushes it further.
    The result is *not* clipped to the bounds. Its gradient nearly vanishes on the free pixels, which makes a dual bound
    tight, and clipping would spoil that.

    Args:
        product: H times an image (K, C, H, W). H is symmetric and positive semi-definite.
        quadratic: its ``right`` and ``diagonal``, (K, C, H, W) each, are the linear part and the preconditioner. H
            itself is ``product``, which may hold more than the windows.
        start: (K, C, H, W), within the bounds.
        bounds: (K, C, H, W) each.
        inner_product: inner products, broadcastable to images. Parts of an image that H does not couple may have
            inner products of their own (:func:`inner_by_channel`).
        steps: (K,), long, the number of conjugate gradients of each image.
        max_steps: the largest of ``steps``, as a number: asking a GPU for it would wait.
    """
    gradient = quadratic.right - product(start)
    at_bound = ((start <= bounds.lower) & (gradient <= 0)) | ((start >= bounds.upper) & (gradient >= 0))
    # Pixels at a bound have no residual, and through the preconditioner no part in any direction.
    preconditioner = torch.where(at_bound, 0.0, 1 / quadratic.diagonal)
    residual, delta = gradient, start.clone()
    scaled = residual * preconditioner
    direction, energy = scaled, inner_product(residual, scaled)
    tiny = torch.finfo(start.dtype).tiny
    for step in range(max_steps):
        image = product(direction)
        length = energy / inner_product(direction, image).clamp_min(tiny)
        length = torch.where(per_image(steps > step), length, 0.0)
        delta = torch.addcmul(delta, length, direction)
        residual = torch.addcmul(residual, length, image, value=-1)
        scaled = residual * preconditioner
        next_energy = inner_product(residual, scaled)
        direction = torch.addcmul(scaled, next_energy / energy.clamp_min(tiny), direction)
        energy = next_energy
    return delta


def maximise_window_quadratic(
    op: WindowOperator,
    quadratic: WindowQuadratic,
    start: Tensor,
    bounds: Bounds,
    steps: Tensor,
    max_steps: int,
) -> Tensor:
    """:func:`maximise_quadratic` where H comes from the windows alone. Such an H couples nothing across channels, and
    compiled code runs the iteration where it is available.

    Args:
        op: the windows.
        quadratic: images (K, C, H, W) and weights (K, C, P_h, P_w).
        start: (K, C, H, W), within the bounds.
        bounds: (K, C, H, W) each.
        steps: (K,), long, the number of conjugate gradients of each image.
        max_steps: the largest of ``steps``, as a number.
    """
    compiled = op.maximise(quadratic, start, bounds, steps[:, None].expand(start.shape[:2]), max_steps)
    if compiled is not None:
        return compiled

    def product(image: Tensor) -> Tensor:
        return op.normal(image, quadratic.slope, quadratic.weights)

    return maximise_quadratic(product, quadratic, start, bounds, inner_by_channel, steps, max_steps)


def inner_by_image(first: Tensor, second: Tensor) -> Tensor:
    """Inner products of images (K, C, H, W), shaped (K, 1, 1, 1)."""
    return per_image(inner(first, second))


def inner_by_channel(first: Tensor, second: Tensor) -> Tensor:
    """Inner products of the channels of images (K, C, H, W), shaped (K, C, 1, 1)."""
    return (first * second).sum(dim=(-2, -1), keepdim=True)
