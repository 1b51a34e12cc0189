"""Agreement between a map and the object's mask: energy, pointing and the best box, image by image.

These are per-image measures for a table, beside those against a class activation map. The benchmarks proper, with
classes, difficult subsets and held-out thresholds, are :mod:`ssimpert.analysis.localization.pointing_game` and
:mod:`ssimpert.analysis.localization.cross_validation`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssimpert.analysis.degenerate_maps import degenerate_reasons, ranks_pixels
from ssimpert.analysis.localization.boxes import bounding_boxes
from ssimpert.analysis.localization.pointing_game import TOLERANCE, highest_points, hits_mask
from ssimpert.analysis.localization.thresholded_boxes import thresholded_boxes
from ssimpert.analysis.map_agreement.agreement import Agreement
from ssimpert.errors import InputError
from ssimpert.validation import check_maps, check_positive

NEGATIVE = "the map has negative values"


def mask_agreement(maps: Tensor, masks: Tensor, *, tolerance: float = TOLERANCE) -> Agreement:
    """Agreement of maps (B, H, W) with objects' masks (B, H, W) bool, on one device.

    By name, each (B,) float64:

    * ``energy_over_area``: the share of the map's sum inside the mask over the mask's share of the area, 0 or more; an
      unrelated map scores 1, and none more than H W / (mask's pixels). NaN also where the map has negative values.
    * ``pointing_hit``: 1 where the map's highest pixel lies within ``tolerance`` pixels of the mask (squared distance
      below its square, as :func:`ssimpert.analysis.localization.pointing_game.pointing_game`), else 0.
    * ``best_box_iou``: the largest intersection over union of the mask's tightest box and the tightest box around
      the map thresholded by value, over the published alphas 0 to 0.95, in [0, 1]. Alpha is chosen *with* the
      object's box, image by image: what the map could do at best, not the localisation error of the benchmark.

    A map that is constant or not finite is NaN in all three, with its reason. (In the pointing game, where a trial is
    never left out, it is a miss.)

    Raises:
        InputError: masks that aren't bool, of another shape or device, or empty; a tolerance that isn't positive.
    """
    check_maps("maps", maps)
    check_masks(masks, tuple(maps.shape))
    if masks.device != maps.device:
        raise InputError(f"maps are on {maps.device}, masks on {masks.device}; bring both to one device")
    check_positive("tolerance", tolerance)
    faults = degenerate_reasons(maps)
    ranked = ranks_pixels(faults, maps.device)
    values = torch.where(ranked[:, None, None], maps.detach().double(), 0.0)
    negative = (values < 0).flatten(1).any(dim=1)

    height, width = maps.shape[-2:]
    found = {
        "energy_over_area": _energy_over_area(values, masks).masked_fill(negative, float("nan")),
        "pointing_hit": hits_mask(highest_points(values, height, width), masks, tolerance).double(),
        "best_box_iou": thresholded_boxes(values, bounding_boxes(masks), "value").iou.amax(dim=1),
    }
    reasons = tuple(fault or "" for fault in faults)
    energy_reasons = tuple(
        reason or (NEGATIVE if below else "") for reason, below in zip(reasons, negative.tolist(), strict=True)
    )
    return Agreement(
        values={name: scores.masked_fill(~ranked, float("nan")) for name, scores in found.items()},
        reasons={"energy_over_area": energy_reasons, "pointing_hit": reasons, "best_box_iou": reasons},
    )


def check_masks(masks: Tensor, shape: tuple[int, ...]) -> None:
    """Raise :class:`InputError` unless ``masks`` is bool, of ``shape`` (B, H, W), with a pixel in each mask."""
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool or tuple(masks.shape) != shape:
        got = f"{tuple(masks.shape)} {masks.dtype}" if isinstance(masks, Tensor) else type(masks).__name__
        raise InputError(f"masks must be {shape} bool, one an image, got {got}")
    empty = (~masks.flatten(1).any(dim=1)).nonzero()
    if len(empty):
        raise InputError(f"mask {int(empty[0])} has no pixel; give images without an object no masks at all")


def _energy_over_area(values: Tensor, masks: Tensor) -> Tensor:
    # Scaled by the largest value first, or the sum of huge maps would overflow.
    largest = values.abs().amax(dim=(1, 2), keepdim=True)
    scaled = values / torch.where(largest > 0, largest, 1.0)
    inside = torch.where(masks, scaled, 0.0).sum(dim=(1, 2))
    total = scaled.sum(dim=(1, 2))
    return inside / torch.where(total > 0, total, 1.0) / masks.double().mean(dim=(1, 2))
