"""Perturbations shortened to the decision boundary: the shortest share of them that still reaches the goal."""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.batch_algebra import per_image
from ssimpert.perturbation.goal import Goal

# The share is found to within this.
SHARE_RESOLUTION = 2.0**-12
# So many trials are by false position: three or four suffice along nearly linear margins. The later ones bisect.
FALSE_POSITION_TRIALS = 6


def shorten_to_boundary(goal: Goal, image: Tensor, perturbed: Tensor, clean_margin: Tensor) -> tuple[Tensor, Tensor]:
    """The perturbations, shortened to where the margin vanishes, on the side where it is positive.

    A bracket of shares is closed by false position with the Illinois rule, then by bisection.

    Args:
        goal: of these images.
        image: the clean images, (B, C, H, W).
        perturbed: the perturbed images, (B, C, H, W).
        clean_margin: the margins of ``image``, (B,), at most 0.

    Returns:
        Perturbations (B, C, H, W) float64, and whether they reach the goal, (B,) bool. ``image`` plus a perturbation is
        exactly what the images' dtype holds. The margins there are positive by more than the logits' rounding. A
        perturbation that does not reach the goal comes back whole.
    """
    reference = image.to(torch.float64)
    whole = perturbed - reference

    def shortened(share: Tensor, indices: Tensor) -> Tensor:
        """The images at ``indices`` with this share (K,) of their perturbations, rounded to the images' dtype."""
        images = reference[indices] + per_image(share) * whole[indices]
        return images.clamp(0, 1).to(image.dtype).to(torch.float64)

    def sure_margin(share: Tensor, indices: Tensor) -> Tensor:
        """The margin there, less what rounding may change, (K,)."""
        return goal.select(indices).sure_margin(shortened(share, indices)).to(torch.float64)

    everyone = torch.arange(len(image), device=image.device)
    low, high = torch.zeros(len(image), dtype=torch.float64, device=image.device), reference.new_ones(len(image))
    low_margin, high_margin = clean_margin.to(torch.float64), sure_margin(high, everyone)
    reached = high_margin > 0
    moved_last = torch.zeros_like(everyone)  # the end of the bracket that moved last: 1 the upper, -1 the lower
    trial = 0
    while True:
        wide = (reached & (high - low > SHARE_RESOLUTION)).nonzero()[:, 0]
        if not wide.numel():
            break
        trial += 1
        a, b, margin_a, margin_b = low[wide], high[wide], low_margin[wide], high_margin[wide]
        share = a + (b - a) * (-margin_a / (margin_b - margin_a))
        # A trial keeps half the resolution from either end, so that near the boundary it closes the bracket.
        share = share.clamp(a + SHARE_RESOLUTION / 2, b - SHARE_RESOLUTION / 2)
        share = torch.where(share.isfinite() & (trial <= FALSE_POSITION_TRIALS), share, (a + b) / 2)
        margin = sure_margin(share, wide)
        success = margin > 0
        # The Illinois rule: the margin of an end that stays twice counts half, or false position would creep.
        halved_a = torch.where(moved_last[wide] == 1, margin_a / 2, margin_a)
        halved_b = torch.where(moved_last[wide] == -1, margin_b / 2, margin_b)
        low_margin[wide] = torch.where(success, halved_a, margin)
        high_margin[wide] = torch.where(success, margin, halved_b)
        high[wide], low[wide] = torch.where(success, share, b), torch.where(success, a, share)
        moved_last[wide] = torch.where(success, 1, -1)
    return shortened(high, everyone) - reference, reached
