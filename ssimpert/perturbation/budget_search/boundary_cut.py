"""Perturbations cut to the border of the decision: the shortest share of them that still reaches the goal."""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.batch_algebra import per_image
from ssimpert.linearization import Margin
from ssimpert.models.forward_passes import Model, forward, model_dtype

# The share is found to within this.
RESOLUTION = 2.0**-12
# A margin is positive from so many roundings of the largest logit, and of 1, on: in other batches logits round
# otherwise.
ROUNDINGS = 16
# Trials by false position, along nearly linear margins three or four suffice; bisection ends what is left.
SECANTS = 6


def cut_to_border(
    model: Model, image: Tensor, moved: Tensor, label: Tensor, margin: Margin, clean: Tensor
) -> tuple[Tensor, Tensor]:
    """Perturbations shortened to where the margin vanishes, where it is positive, and whether it is, (B,) bool.

    Args:
        image, moved: (B, C, H, W), the latter perturbed.
        clean: (B,), the margins of ``image``, at most 0.

    Returns:
        (B, C, H, W) float64, but such that image + delta is what the images' dtype holds, and positive margins there,
        by more than the logits' rounding. What does not reach the goal is returned whole.
    """
    reference = image.to(torch.float64)
    whole = moved - reference

    def at(share: Tensor, which: Tensor) -> Tensor:
        there = reference[which] + per_image(share) * whole[which]
        return there.clamp(0, 1).to(image.dtype).to(torch.float64)

    rounding = ROUNDINGS * torch.finfo(model_dtype(model)).eps

    def beyond_rounding(moved: Tensor, label: Tensor) -> Tensor:
        logits = forward(model, moved)
        return (margin(logits, label) - rounding * (1 + logits.abs().amax(dim=1))).to(torch.float64)

    everyone = torch.arange(len(image), device=image.device)
    low, high = torch.zeros(len(image), dtype=torch.float64, device=image.device), reference.new_ones(len(image))
    below = clean.to(torch.float64)
    above = beyond_rounding(at(high, everyone), label)
    reached = above > 0
    last = torch.zeros_like(everyone)  # the side that moved last: 1 the upper, -1 the lower
    trial = 0
    while True:
        open_ = (reached & (high - low > RESOLUTION)).nonzero()[:, 0]
        if not open_.numel():
            break
        trial += 1
        lo, hi, f, g = low[open_], high[open_], below[open_], above[open_]
        share = lo + (hi - lo) * (-f / (g - f))
        # Half the resolution off either end, a trial near the border closes the bracket from the other side.
        share = share.clamp(lo + RESOLUTION / 2, hi - RESOLUTION / 2)
        share = torch.where(share.isfinite() & (trial <= SECANTS), share, (lo + hi) / 2)
        value = beyond_rounding(at(share, open_), label[open_])
        up = value > 0
        # Illinois: an end that stays twice counts half, or false position would creep.
        below[open_] = torch.where(up, torch.where(last[open_] == 1, f / 2, f), value)
        above[open_] = torch.where(up, value, torch.where(last[open_] == -1, g / 2, g))
        high[open_], low[open_] = torch.where(up, share, hi), torch.where(up, lo, share)
        last[open_] = torch.where(up, 1, -1)
    return at(high, everyone) - reference, reached
