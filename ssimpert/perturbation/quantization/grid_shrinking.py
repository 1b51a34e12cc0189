"""One quantised image drawn back towards the clean image, on the grid of 8-bit pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ssimpert.perturbation.goal import Goal
from ssimpert.perturbation.quantization.pixel_grid import (
    INSIDE_TOLERANCE,
    LARGEST_GREY_VALUE,
    Excess,
    nearest_grey_values,
    pixels_of,
)
from ssimpert.perturbation.shrinking import smallest_share

# From the nearest grey values (1, C, H, W) of an image and its exact pixels (1, C, H, W) to grey values inside the set.
Settle = Callable[[Tensor, Tensor], Tensor]


def shrink_on_grid(
    goal: Goal, image: Tensor, grey: Tensor, settle: Settle, bound: Excess | None
) -> tuple[Tensor, float]:
    """The smallest share of a quantised perturbation whose own grey values still reach the goal.

    A share is rounded to grey values, brought into the set as the whole perturbation was, and judged as it will be read
    from a file. It may be no further outside the set than ``grey`` is. The clean image's own grey values are no
    candidate.

    Args:
        goal: of this image; reached by ``grey``.
        image: the clean image, (1, C, H, W).
        grey: the quantised image's grey values, (1, C, H, W) float64.
        settle: brings grey values into the set.
        bound: the set around the clean image, on the device of ``grey``; ``None`` for no set.

    Returns:
        Grey values (1, C, H, W), and the share.
    """
    reference = image.double().to(grey.device)
    whole = grey / LARGEST_GREY_VALUE - reference
    clean = nearest_grey_values(reference)

    def excess(candidate: Tensor) -> float:
        if bound is None:
            return 0.0
        return float(bound.excess(pixels_of(candidate, image.dtype).double() - reference))

    allowed = max(INSIDE_TOLERANCE, excess(grey))
    served_grey = {1.0: grey}

    def serves(share: Tensor, indices: Tensor) -> Tensor:
        pixels = reference + float(share) * whole
        candidate = settle(nearest_grey_values(pixels), pixels)
        reached = (
            not torch.equal(candidate, clean)
            and bool(goal.sure_margin(pixels_of(candidate, image.dtype).to(image)) > 0)
            and excess(candidate) <= allowed
        )
        if reached:
            served_grey[float(share)] = candidate
        return torch.tensor([reached])

    share = float(smallest_share(serves, torch.ones(1, dtype=torch.bool)))
    return served_grey[share], share
