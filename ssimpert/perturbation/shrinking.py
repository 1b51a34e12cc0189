"""Successful perturbations drawn back along their segment: the smallest share that still reaches the goal::

    t*     = the smallest t in (0, 1] at which x + t d reaches the goal and lies in the set
    t      = the smallest power of two 2^-k, k = 0, ..., HALVINGS, that serves
    t      = the end of [t/2, t] that serves, after BISECTIONS bisections

An engine that stops at the first success has often gone far past the decision boundary, since one step may use the
whole set. The margin need not rise evenly along the segment, so every power of two is tried, and not only those above
the first failure. Within the bracket that is left, the share is found to within 1/128 of itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from solvers.batch_algebra import per_image
from ssimpert.errors import InputError
from ssimpert.perturbation.goal import Goal
from ssimpert.perturbation.results import FinalIterate

# The forward passes of each image: one for every power of two down to 2^-12, and one for every bisection.
HALVINGS, BISECTIONS = 12, 7
# An excess up to this, in the set's own unit, counts as inside, as everywhere: the rounding of float32 pixels.
INSIDE_TOLERANCE = 1e-6

# From shares (K,) and images' indices (K,) to whether these shares of the perturbations serve, (K,) bool.
Serves = Callable[[Tensor, Tensor], Tensor]
# From perturbed images (K, C, H, W) and their indices (K,) to how far they are outside their sets, (K,) float64.
Excess = Callable[[Tensor, Tensor], Tensor]


def shrink_option(shrink: bool | None, *, stop_at_success: bool, is_published: bool = False) -> bool:
    """Whether successful perturbations are drawn back: on by default where images stop at success.

    Args:
        shrink: what the caller asked for; ``None`` for the default.
        stop_at_success: whether an image stops once its goal is reached.
        is_published: whether the method is reproduced as published; then the default is off.

    Raises:
        InputError: ``shrink`` contradicts ``stop_at_success``.
    """
    if shrink is None:
        return stop_at_success and not is_published
    if shrink and not stop_at_success:
        raise InputError(
            "stop_at_success=False asks for the largest margin, shrink=True for the smallest; drop one of them"
        )
    return bool(shrink)


def smallest_share(serves: Serves, whole_serves: Tensor) -> Tensor:
    """The smallest share of each image's perturbation that serves, (B,) float64.

    Args:
        serves: whether shares serve; called ``HALVINGS + BISECTIONS`` times, never with the share 0.
        whole_serves: which images' whole perturbations serve, (B,) bool. The share of the others is 1.
    """
    share = torch.ones(len(whole_serves), dtype=torch.float64, device=whole_serves.device)
    indices = whole_serves.nonzero()[:, 0]
    if not indices.numel():
        return share
    for halvings in range(1, HALVINGS + 1):
        trial = torch.full_like(share[indices], 2.0**-halvings)
        served = indices[serves(trial, indices)]
        share[served] = 2.0**-halvings
    low, high = share[indices] / 2, share[indices]
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        success = serves(middle, indices)
        low, high = torch.where(success, low, middle), torch.where(success, middle, high)
    share[indices] = high
    return share


def shrink_to_goal(goal: Goal, image: Tensor, final: FinalIterate, excess: Excess | None) -> FinalIterate:
    """The final iterates of the images that reached the goal, drawn back towards the clean images.

    Candidates are rounded to the images' dtype before they are judged, by a forward pass of the model itself and by the
    set. Their margins must be positive by more than the logits' rounding. Images do not influence one another. An
    image without success, and one that nothing has moved, comes back as it is.

    Args:
        goal: what the perturbations reach.
        image: the clean images, (B, C, H, W) in [0, 1].
        final: where the engine ended.
        excess: over the sets around the clean images, 0 or less inside; ``None`` where there is no such set.
    """
    original = image.to(torch.float64)
    whole = final.images.to(torch.float64) - original

    def candidates(share: Tensor, indices: Tensor) -> Tensor:
        moved = original[indices] + per_image(share) * whole[indices]
        return moved.clamp(0, 1).to(image.dtype)

    def serves(share: Tensor, indices: Tensor) -> Tensor:
        images = candidates(share, indices)
        served = (goal.select(indices).sure_margin(images) > 0) & (images != image[indices]).flatten(1).any(dim=1)
        reached = served.nonzero()[:, 0]
        if excess is not None and reached.numel():
            served[reached] = excess(images[reached], indices[reached]) <= allowed[indices[reached]]
        return served

    everyone = torch.arange(len(image), device=image.device)
    rounded = candidates(torch.ones(len(image), dtype=torch.float64, device=image.device), everyone)
    moved = (rounded != image).flatten(1).any(dim=1)
    # An image whose whole perturbation lies outside by the rounding of its pixels may keep to that, and no worse.
    if excess is not None:
        allowed = excess(rounded, everyone).clamp_min(INSIDE_TOLERANCE)
    share = smallest_share(serves, moved & (goal.sure_margin(rounded) > 0))
    shrunk = (share < 1).nonzero()[:, 0]
    images = final.images.clone()
    images[shrunk] = candidates(share[shrunk], shrunk).to(images.dtype)
    return replace(final, images=images, shrink_share=share)
