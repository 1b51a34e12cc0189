"""Levels of 8-bit pixels, and perturbations of them inside any constraint set by trial."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

LEVELS = 255
# What counts as inside, in a set's own unit: the rounding of float32 pixels.
TOLERANCE = 1e-6
HALVINGS = 12


def pixels_of(levels: Tensor, dtype: torch.dtype) -> Tensor:
    """The pixels that a PNG with these ``levels``, integers in [0, 255], holds: as :func:`ssimpert.load_image`
    reads them, to the last bit."""
    # On the CPU: an accelerator may multiply by 1/255 instead, which rounds differently.
    return (levels.cpu().to(dtype) / LEVELS).to(levels.device)


def nearest_levels(pixels: Tensor) -> Tensor:
    """The nearest levels of pixels, as float64; halves go to the even level, as in :func:`ssimpert.save_image`. Pixels
    outside [0, 1], which no file holds, come to its ends."""
    return (pixels.double() * LEVELS).round().clamp(0, LEVELS)


class Excess(Protocol):
    """A set that says how far outside of it perturbations (B, C, H, W) are, (B,), in its own unit; 0 or less inside."""

    def excess(self, delta: Tensor) -> Tensor: ...


class AnyGrid:
    """The pixels of one image inside a set that is asked by its excess only, or inside none.

    Args:
        bound: says how far outside of the set a perturbation of the image is, in float64; ``None`` where there is
            nothing to keep.
        image: the reference, (1, C, H, W), float64.
        dtype: of the pixels as they will be read.
    """

    def __init__(self, bound: Excess | None, image: Tensor, dtype: torch.dtype) -> None:
        self.bound, self.image, self.dtype = bound, image, dtype

    def allows(self, levels: Tensor) -> bool:
        """Whether the pixels of ``levels`` lie in the set, up to the tolerance."""
        if self.bound is None:
            return True
        delta = pixels_of(levels, self.dtype).double() - self.image
        return bool(self.bound.excess(delta) <= TOLERANCE)

    def settle(self, levels: Tensor, perturbed: Tensor) -> Tensor:
        """``levels``, the nearest to ``perturbed`` (1, C, H, W), if they are inside; else those of the perturbation
        scaled towards 0 by the largest factor that bisection finds inside. Without one, ``levels`` again."""
        if self.allows(levels):
            return levels
        delta = perturbed.double() - self.image
        low, high, best = 0.0, 1.0, None
        for halving in range(HALVINGS):
            scale = 1.0 if halving == 0 else (low + high) / 2
            candidate = keep_sum(self.image + scale * delta)
            if self.allows(candidate):
                best, low = candidate, scale
                if scale == 1.0:
                    break
            else:
                high = scale
        return levels if best is None else best

    def lift(self, levels: Tensor, gradient: Tensor, need: float) -> Tensor:
        """The pixels of largest slope moved one grid step along the gradient: as many as promise ``need`` more
        margin, or the most, by bisection, that the set allows."""
        step = gradient.sign()
        target = levels + step
        free = (step != 0) & (target >= 0) & (target <= LEVELS)
        slope = torch.where(free, gradient.abs(), 0.0).flatten()
        order = slope.argsort(descending=True, stable=True)
        promised = slope[order].cumsum(dim=0) / LEVELS
        wanted = min(int((promised < need).sum()) + 1, int(free.sum()))

        def moved(count: int) -> Tensor:
            chosen = torch.zeros_like(slope).index_fill_(0, order[:count], 1.0).reshape(levels.shape)
            return levels + step * chosen

        low, high = 0, wanted
        if self.allows(moved(wanted)):
            return moved(wanted)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.allows(moved(middle)) else (low, middle)
        return moved(low)


def keep_sum(pixels: Tensor) -> Tensor:
    """Levels next to ``pixels`` (1, C, H, W), each the one below or the one above, whose sum is the nearest possible:
    those with the largest fractions go up (the method of largest remainders). Keeps an image's mean to within half a
    grid step of a single pixel."""
    scaled = (pixels.double() * LEVELS).clamp(0, LEVELS).flatten()
    below = scaled.floor()
    fraction = scaled - below
    up = round(float(fraction.sum()))
    chosen = fraction.argsort(descending=True, stable=True)[:up]
    return below.index_add_(0, chosen, torch.ones_like(chosen, dtype=below.dtype)).reshape(pixels.shape)
