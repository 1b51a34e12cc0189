"""Grey values of 8-bit pixels, and perturbations of them inside any constraint set, by scaling and bisection."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

LARGEST_GREY_VALUE = 255
# An excess up to this, in a set's own unit, counts as inside: the rounding of float32 pixels.
INSIDE_TOLERANCE = 1e-6
# Trials of the bisection for a perturbation's scale.
SCALE_TRIALS = 12


def pixels_of(grey: Tensor, dtype: torch.dtype) -> Tensor:
    """The pixels of a PNG file with these grey values, to the last bit as :func:`ssimpert.load_image` reads them.

    ``grey`` has integers in [0, 255].
    """
    # On the CPU: an accelerator may multiply by 1/255 instead, which rounds differently.
    return (grey.cpu().to(dtype) / LARGEST_GREY_VALUE).to(grey.device)


def nearest_grey_values(pixels: Tensor) -> Tensor:
    """The nearest grey values of pixels, as float64. Halves go to the even one, as in :func:`ssimpert.save_image`.

    A pixel outside [0, 1], which no file holds, gets the nearer of 0 and 255.
    """
    return (pixels.double() * LARGEST_GREY_VALUE).round().clamp(0, LARGEST_GREY_VALUE)


class Excess(Protocol):
    """A set that says how far perturbations are outside of it."""

    def excess(self, delta: Tensor) -> Tensor:
        """The excess of perturbations (B, C, H, W), (B,), in the set's own unit; 0 or less inside."""
        ...


class ScaledRounding:
    """The grey values of one image inside a set of which only the excess is known, or inside no set.

    Args:
        bound: the set, bound to the image in float64; ``None`` for no set.
        image: the reference, (1, C, H, W), float64.
        dtype: of the pixels as they will be read.
    """

    def __init__(self, bound: Excess | None, image: Tensor, dtype: torch.dtype) -> None:
        self.bound, self.image, self.dtype = bound, image, dtype

    def allows(self, grey: Tensor) -> bool:
        """Whether the pixels of these grey values lie in the set, up to the tolerance."""
        if self.bound is None:
            return True
        delta = pixels_of(grey, self.dtype).double() - self.image
        return bool(self.bound.excess(delta) <= INSIDE_TOLERANCE)

    def settle(self, grey: Tensor, perturbed: Tensor) -> Tensor:
        """Grey values inside the set, near to a perturbed image.

        Args:
            grey: the nearest grey values of ``perturbed``, (1, C, H, W).
            perturbed: the perturbed image, (1, C, H, W).

        Returns:
            ``grey`` where the set allows these values. Else the grey values of the perturbation scaled towards 0 by the
            largest factor that bisection finds inside. Without such a factor ``grey`` again.
        """
        if self.allows(grey):
            return grey
        delta = perturbed.double() - self.image
        low, high, best = 0.0, 1.0, None
        for trial in range(SCALE_TRIALS):
            scale = 1.0 if trial == 0 else (low + high) / 2
            candidate = keep_sum(self.image + scale * delta)
            if self.allows(candidate):
                best, low = candidate, scale
                if scale == 1.0:
                    break
            else:
                high = scale
        return grey if best is None else best

    def lift(self, grey: Tensor, gradient: Tensor, needed: float) -> Tensor:
        """Grey values moved one step along the gradient, at the pixels of largest slope.

        Args:
            grey: (1, C, H, W).
            gradient: the margin's, (1, C, H, W).
            needed: by how much the margin is to rise.

        Returns:
            As many moves as promise the rise to first order, or as many as bisection finds that the set allows.
        """
        step = gradient.sign()
        target = grey + step
        movable = (step != 0) & (target >= 0) & (target <= LARGEST_GREY_VALUE)
        slope = torch.where(movable, gradient.abs(), 0.0).flatten()
        order = slope.argsort(descending=True, stable=True)
        promised = slope[order].cumsum(dim=0) / LARGEST_GREY_VALUE
        wanted = min(int((promised < needed).sum()) + 1, int(movable.sum()))

        def moved(count: int) -> Tensor:
            chosen = torch.zeros_like(slope).index_fill_(0, order[:count], 1.0).reshape(grey.shape)
            return grey + step * chosen

        low, high = 0, wanted
        if self.allows(moved(wanted)):
            return moved(wanted)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.allows(moved(middle)) else (low, middle)
        return moved(low)


def keep_sum(pixels: Tensor) -> Tensor:
    """Grey values next to ``pixels`` (1, C, H, W), each the one below or the one above, that keep the image's sum.

    The grey values with the largest fractions go up (the method of largest remainders). The sum is the nearest possible
    one, so the image's mean changes by at most half a grid step of a single pixel.
    """
    scaled = (pixels.double() * LARGEST_GREY_VALUE).clamp(0, LARGEST_GREY_VALUE).flatten()
    below = scaled.floor()
    fraction = scaled - below
    rounded_up = round(float(fraction.sum()))
    chosen = fraction.argsort(descending=True, stable=True)[:rounded_up]
    return below.index_add_(0, chosen, torch.ones_like(chosen, dtype=below.dtype)).reshape(pixels.shape)
