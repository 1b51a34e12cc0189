"""Perturbations scaled, within the pixel range, until they have a wanted size: for comparisons at equal size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from solvers.batch_algebra import norm, per_image
from ssimpert.metrics import ssim

# From clean and perturbed images (N, C, H, W), float64, to (N,): 0 for equal images.
Size = Callable[[Tensor, Tensor], Tensor]
# After so many doublings a size counts as out of reach: by then a pixel that moves by 1e-9 of the range is at its end.
MAX_DOUBLINGS = 30
MAX_BISECTIONS = 100


def l2_size(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``|x' - x|``."""
    return norm(perturbed - clean)


def ssim_size(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``1 - SSIM``, mean over the windows of the published index."""
    return 1 - ssim(clean, perturbed, data_range=1.0)


def rescale(image: Tensor, delta: Tensor, size: Size, target: Tensor, *, tolerance: float) -> tuple[Tensor, Tensor]:
    """The images ``clip(x + t d)`` in [0, 1], with a scalar t >= 0 per image, whose size is ``target``.

    t is bracketed by doubling from 1, then bisected; each image stops on its own. ``size`` must be continuous in t.
    Where the size does not increase with t (SSIM need not fall along a line), the t found is one of several.

    Args:
        image: x, (B, C, H, W) in [0, 1], float64.
        delta: d, (B, C, H, W), float64.
        size: the size of perturbed images.
        target: (B,), at least 0; 0 gives t = 0.
        tolerance: relative, on the size.

    Returns:
        The images, float64, and a mask (B,) of those whose target the pixel range allows. The other images are
        stretched as far as the range allows.
    """

    scale = (target > 0).to(torch.float64)

    def excess(index: Tensor) -> Tensor:
        perturbed = (image[index] + per_image(scale[index]) * delta[index]).clamp(0, 1)
        return size(image[index], perturbed) - target[index]

    too_small = (target > 0).nonzero()[:, 0]
    for _ in range(MAX_DOUBLINGS):
        too_small = too_small[excess(too_small) < 0] if too_small.numel() else too_small
        scale[too_small] *= 2
    reached = torch.ones_like(target, dtype=torch.bool)
    reached[too_small] = False
    low, high = torch.where(scale > 1, scale / 2, 0), scale.clone()
    active = (reached & (target > 0)).nonzero()[:, 0]
    for _ in range(MAX_BISECTIONS):
        if not active.numel():
            break
        scale[active] = (low[active] + high[active]) / 2
        difference = excess(active)
        low[active] = torch.where(difference < 0, scale[active], low[active])
        high[active] = torch.where(difference < 0, high[active], scale[active])
        active = active[difference.abs() > tolerance * target[active]]
    return (image + per_image(scale) * delta).clamp(0, 1), reached
