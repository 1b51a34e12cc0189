"""MaxBoxAcc: the best box accuracy that one threshold reaches over a whole data set.

Choe et al., "Evaluating weakly supervised object localization methods right", CVPR 2020 (MaxBoxAcc, v1),
and "Evaluation for weakly supervised object localization: protocol, metrics, and datasets", TPAMI 2022 (MaxBoxAccV2),
as the released evaluator (clovaai/wsolevaluation) computes them:

1. each map is scaled to 0...255 by its own minimum and maximum and cut to whole numbers;
2. at each threshold t, the pixels above t make a binary image, with contours
   (:mod:`ssimpert.analysis.localization.contours`);
3. v1 takes the box of the largest contour, v2 the best box of all contours, each against its best object box;
4. an image is correct where that IoU reaches 0.5 (v1), or 0.3, 0.5 and 0.7 in turn (v2);
5. accuracy is the share of correct images at one threshold for all; MaxBoxAcc is its maximum over thresholds, and v2
   the mean of the three maxima. It is not a best threshold for each image.

The evaluator's conventions are kept, for published figures rest on them. Boxes are inclusive, so their sides count
one more than the difference of their ends. An estimated box is (x, y, x + width, y + height) all the same, cut to the
image: one pixel too wide and too high unless it touches the edge, so a perfect 20x20 box reaches 400/441. The released
1000 thresholds become 255 different ones on whole numbers, which are those tried here. The evaluator resizes everything
to 224; here the map's size is the image's.

A map that is constant or not finite estimates nothing: it is wrong at every threshold, as in the evaluator, whose box
for it is a single pixel. Variants called "V3" in forks of the evaluator, which match several objects one to one, are
not by its authors and are not offered; with one object an image they equal v2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssimpert.analysis.degenerate_maps import degenerate_reasons
from ssimpert.analysis.localization.boxes import Boxes, best_iou, padded_boxes
from ssimpert.analysis.localization.contours import contour_boxes
from ssimpert.errors import InputError
from ssimpert.validation import check_maps

LEVELS = 255
V1_IOU = 0.5
V2_IOUS = (0.3, 0.5, 0.7)


class BoxRow(TypedDict):
    """One image at the thresholds that are best for the data set. The IoU are NaN where there is a ``reason``."""

    image: int
    v1_iou: float
    v1_correct: bool
    v2_iou_30: float
    v2_iou_50: float
    v2_iou_70: float
    reason: str | None


@dataclass(frozen=True, eq=False)
class MaxBoxAcc:
    """Box accuracy of B maps at the thresholds 0 to 254.

    Attributes:
        iou_largest: (B, 255) float64, IoU of the largest contour's box with its best object box (v1); NaN for a map
            that estimates nothing.
        iou_best: (B, 255) float64, the best IoU over all contours (v2); NaN likewise.
        reasons: why a map estimates nothing, ``None`` where it does.
    """

    iou_largest: Tensor
    iou_best: Tensor
    reasons: tuple[str | None, ...]

    @property
    def v1_accuracies(self) -> Tensor:
        """(255,) float64: the share of images whose largest contour's box reaches IoU 0.5, at each threshold."""
        return (self.iou_largest >= V1_IOU).double().mean(dim=0)

    @property
    def v2_accuracies(self) -> Tensor:
        """(3, 255) float64: the share of images with a box that reaches IoU 0.3, 0.5, 0.7, at each threshold."""
        return torch.stack([(self.iou_best >= least).double().mean(dim=0) for least in V2_IOUS])

    @property
    def v1(self) -> float:
        """MaxBoxAcc, in [0, 1]."""
        return float(self.v1_accuracies.max())

    @property
    def v2(self) -> float:
        """MaxBoxAccV2, in [0, 1]: each IoU has its own best threshold."""
        return float(self.v2_accuracies.amax(dim=1).mean())

    @property
    def v1_threshold(self) -> int:
        """The best threshold for v1, 0 to 254 of 255; the smallest of equals."""
        return int(self.v1_accuracies.argmax())

    @property
    def v2_thresholds(self) -> tuple[int, ...]:
        """The best threshold for each of v2's three IoU; the smallest of equals."""
        return tuple(self.v2_accuracies.argmax(dim=1).tolist())

    def records(self) -> list[BoxRow]:
        """A row for each image: a tidy table."""
        v1 = self.iou_largest[:, self.v1_threshold].tolist()
        v2 = self.iou_best[:, list(self.v2_thresholds)].tolist()
        return [
            BoxRow(
                image=index,
                v1_iou=first,
                v1_correct=first >= V1_IOU,
                v2_iou_30=second[0],
                v2_iou_50=second[1],
                v2_iou_70=second[2],
                reason=reason,
            )
            for index, (first, second, reason) in enumerate(zip(v1, v2, self.reasons, strict=True))
        ]


def max_box_acc(maps: Tensor, boxes: Boxes) -> MaxBoxAcc:
    """Box accuracy at every threshold; ``.v1`` and ``.v2`` are the two metrics.

    Args:
        maps: (B, H, W), float32 or float64, of any scale.
        boxes: the objects, (B, 4) or B tensors (k, 4), in the map's pixels: (x0, y0, x1, y1), ends *exclusive* as
            everywhere in this package; they are made inclusive by taking 1 from x1 and y1.

    Contours are found on the CPU, whatever the device of the maps; the result is on the device of the maps. On one core
    a smooth map of 224x224 pixels takes about 0.1 s, white noise 3 s.

    Raises:
        InputError: shapes or types that don't fit, a box without area.
    """
    check_maps("maps", maps)
    if maps.numel() == 0:
        raise InputError(f"maps must not be empty, got shape {tuple(maps.shape)}")
    objects, real = padded_boxes(boxes, len(maps), torch.device("cpu"))
    reasons = degenerate_reasons(maps)
    largest = torch.full((len(maps), LEVELS), float("nan"), dtype=torch.float64)
    best = largest.clone()
    for index, reason in enumerate(reasons):
        if reason is None:
            levels = _levels(maps[index])
            largest[index], best[index] = _ious(levels, objects[index], real[index])
    return MaxBoxAcc(largest.to(maps.device), best.to(maps.device), reasons)


def _levels(one: Tensor) -> NDArray[np.uint8]:
    """The map (H, W) scaled to 0...255 by its extremes and cut, not rounded, to whole numbers."""
    values = one.detach().double().cpu().numpy()
    low, high = values.min(), values.max()
    return ((values - low) / (high - low) * 255).astype(np.uint8)


def _ious(levels: NDArray[np.uint8], objects: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of the largest contour's box and of the best box, at thresholds 0 to 254, (255,) each."""
    height, width = levels.shape
    largest = torch.empty(LEVELS, dtype=torch.float64)
    best = torch.empty(LEVELS, dtype=torch.float64)
    ends = torch.tensor([0, 0, 1, 1], dtype=torch.float64)
    present = np.bincount(levels.ravel(), minlength=LEVELS + 1) > 0
    for level in range(LEVELS):
        # Without a pixel of this level the binary image is the last one. Level 0 always has one, and so has 255.
        if present[level]:
            found = contour_boxes(levels > level)
            # Inclusive ends would be x + width - 1; the evaluator takes x + width, cut to the image.
            inclusive = np.minimum(found.all, [width, height, width - 1, height - 1])
            # One more than inclusive ends are exclusive ends: then plain areas are the evaluator's.
            estimates = torch.from_numpy(inclusive).double() + ends
            iou = best_iou(estimates[None], objects[None], real[None])[0]
            largest[level], best[level] = iou[found.largest], iou.max()
        else:
            largest[level], best[level] = largest[level - 1], best[level - 1]
    return largest, best
