"""A perturbation stretched or shrunk, within the pixel range, until it has a wanted size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from solvers.batch_algebra import norm, per_image
from ssimpert.metrics import ssim

# Of clean and changed images (N, C, H, W), float64, to (N,): 0 for equal images.
Size = Callable[[Tensor, Tensor], Tensor]
# Doublings before a size counts as out of reach: by then a pixel that moves by 1e-9 of the range is at its end.
_DOUBLINGS = 30
_HALVINGS = 100


def l2_size(clean: Tensor, changed: Tensor) -> Tensor:
    """``|x' - x|``."""
    return norm(changed - clean)


def ssim_size(clean: Tensor, changed: Tensor) -> Tensor:
    """``1 - SSIM``, mean over the windows of the published index."""
    return 1 - ssim(clean, changed, data_range=1.0)


def rescale(image: Tensor, delta: Tensor, size: Size, target: Tensor, *, tolerance: float) -> tuple[Tensor, Tensor]:
    """``clip(x + t d)`` in [0, 1] with a scalar t >= 0 per image, so that its size is ``target``.

    t is bracketed by doubling from 1, then bisected; each image stops on its own. ``size`` must be continuous in t;
    where it isn't increasing (SSIM need not fall along a line) the t found is one of several.

    Args:
        image: x, (B, C, H, W) in [0, 1]; delta: d, likewise. Both in float64.
        target: (B,), at least 0; 0 gives t = 0.
        tolerance: relative, on the size.

    Returns:
        The images, float64, and a mask (B,) of those whose target the pixel range allows; the others are stretched
        as far as it goes.
    """

    scale = (target > 0).to(torch.float64)

    def excess(index: Tensor) -> Tensor:
        changed = (image[index] + per_image(scale[index]) * delta[index]).clamp(0, 1)
        return size(image[index], changed) - target[index]

    short = (target > 0).nonzero()[:, 0]
    for _ in range(_DOUBLINGS):
        short = short[excess(short) < 0] if short.numel() else short
        scale[short] *= 2
    reached = torch.ones_like(target, dtype=torch.bool)
    reached[short] = False
    low, high = torch.where(scale > 1, scale / 2, 0), scale.clone()
    moving = (reached & (target > 0)).nonzero()[:, 0]
    for _ in range(_HALVINGS):
        if not moving.numel():
            break
        scale[moving] = (low[moving] + high[moving]) / 2
        beyond = excess(moving)
        low[moving] = torch.where(beyond < 0, scale[moving], low[moving])
        high[moving] = torch.where(beyond < 0, high[moving], scale[moving])
        moving = moving[beyond.abs() > tolerance * target[moving]]
    return (image + per_image(scale) * delta).clamp(0, 1), reached
