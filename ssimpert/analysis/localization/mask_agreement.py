"""The agreement of a map with an object's mask: energy, pointing and the best box, image by image.

These measures are columns of a per-image table, beside the agreement with a class activation map. The benchmarks proper
have classes, difficult subsets and thresholds that are chosen on other images. They are
:mod:`ssimpert.analysis.localization.pointing_game` and :mod:`ssimpert.analysis.localization.cross_validation`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssimpert.analysis.degenerate_maps import degenerate_reasons, ranks_pixels
from ssimpert.analysis.localization.boxes import Boxes, bounding_boxes
from ssimpert.analysis.localization.object_masks import TOLERANCE, check_masks, hits_mask
from ssimpert.analysis.localization.pointing_game import highest_points
from ssimpert.analysis.localization.thresholded_boxes import thresholded_boxes
from ssimpert.analysis.map_agreement.agreement import Agreement
from ssimpert.errors import InputError
from ssimpert.validation import check_maps, check_positive

NEGATIVE = "the map has negative values"


def mask_agreement(
    maps: Tensor, masks: Tensor, *, boxes: Boxes | None = None, tolerance: float = TOLERANCE
) -> Agreement:
    """The agreement of maps (B, H, W) with the masks of objects (B, H, W) bool, on one device.

    There are three measures, each (B,) float64:

    * ``energy_over_area``: the share of the map's sum that lies inside the mask, over the mask's share of the image's
      area. The measure is 0 or more; a map that has nothing to do with the object scores 1, and no map scores more than
      H W / (pixels of the mask). It is NaN also where the map has negative values.
    * ``pointing_hit``: 1 where the map's highest pixel lies within ``tolerance`` pixels of the mask, else 0. The
      distance is judged as in :func:`ssimpert.analysis.pointing_game`.
    * ``best_box_iou``: the largest intersection over union, in [0, 1], of two boxes: the tightest box of the mask, and
      the tightest box of the map thresholded by value at the published alphas 0 to 0.95. Alpha is chosen *with* the
      object's box, for each image: this is what the map could reach at best, and not the localisation error of the
      benchmark.

    ``boxes``: the boxes of the objects, :data:`ssimpert.analysis.localization.boxes.Boxes`. ``best_box_iou`` is then
    the overlap with the best of the image's boxes. Default ``None``: the tightest box of the mask.

    A map that is constant or not finite is NaN in all three measures, with its reason. (In the pointing game no trial
    is left out, and such a map is a miss.)

    ``tolerance``: pixels, above 0, default 15.

    Raises:
        InputError: masks that are not bool, that have another shape or device, or that have no pixel; boxes that do
            not fit the maps; a tolerance that is not positive.
    """
    check_maps("maps", maps)
    check_masks(masks, tuple(maps.shape))
    if masks.device != maps.device:
        raise InputError(f"maps are on {maps.device}, masks on {masks.device}; bring both to one device")
    tolerance = check_positive("tolerance", tolerance)
    degenerate = degenerate_reasons(maps)
    ranked = ranks_pixels(degenerate, maps.device)
    values = torch.where(ranked[:, None, None], maps.detach().double(), 0.0)
    negative = (values < 0).flatten(1).any(dim=1)

    height, width = maps.shape[-2:]
    objects = bounding_boxes(masks) if boxes is None else boxes
    measures = {
        "energy_over_area": _energy_over_area(values, masks).masked_fill(negative, float("nan")),
        "pointing_hit": hits_mask(highest_points(values, height, width), masks, tolerance).double(),
        "best_box_iou": thresholded_boxes(values, objects, "value").iou.amax(dim=1),
    }
    reasons = tuple(reason or "" for reason in degenerate)
    energy_reasons = tuple(
        reason or (NEGATIVE if is_negative else "")
        for reason, is_negative in zip(reasons, negative.tolist(), strict=True)
    )
    return Agreement(
        values={name: scores.masked_fill(~ranked, float("nan")) for name, scores in measures.items()},
        reasons={"energy_over_area": energy_reasons, "pointing_hit": reasons, "best_box_iou": reasons},
    )


def _energy_over_area(values: Tensor, masks: Tensor) -> Tensor:
    # Each map is scaled by its largest value first: the sum of a huge map would overflow.
    largest = values.abs().amax(dim=(1, 2), keepdim=True)
    scaled = values / torch.where(largest > 0, largest, 1.0)
    inside = torch.where(masks, scaled, 0.0).sum(dim=(1, 2))
    total = scaled.sum(dim=(1, 2))
    return inside / torch.where(total > 0, total, 1.0) / masks.double().mean(dim=(1, 2))
