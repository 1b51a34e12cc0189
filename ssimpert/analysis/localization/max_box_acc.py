"""MaxBoxAcc: the best box accuracy that one threshold reaches over a whole data set.

Choe et al., "Evaluating weakly supervised object localization methods right", CVPR 2020 (MaxBoxAcc, v1), and
"Evaluation for weakly supervised object localization: protocol, metrics, and datasets", TPAMI 2022 (MaxBoxAccV2). The
figures are those of the released evaluator (clovaai/wsolevaluation):

1. Each map is scaled to 0...255 by its own minimum and maximum, and cut to whole numbers.
2. At each threshold t the pixels above t make a binary image, and this image has contours
   (:mod:`ssimpert.analysis.localization.contours`).
3. v1 takes the box of the largest contour. v2 takes the best box of all contours. Each box is compared with the
   object's box that fits it best.
4. An image is correct where this intersection over union (IoU) reaches 0.5 (v1), or 0.3, 0.5 and 0.7 in turn (v2).
5. The accuracy at a threshold is the share of correct images. MaxBoxAcc is the maximum of this accuracy over the
   thresholds; MaxBoxAccV2 is the mean of the three maxima. The threshold is the same for all images.

Published figures rest on the evaluator's conventions, so they are kept. Boxes have inclusive ends, and their sides are
one more than the difference of the ends. Even so, an estimated box is (x, y, x + width, y + height), cut to the image:
it is one pixel too wide and too high unless it touches the edge, and a perfect box of 20x20 pixels reaches only
400/441. The 1000 released thresholds become 255 different ones on whole numbers; these are tried here. The evaluator
resizes everything to 224 pixels; here the size of the map is the size of the image.

A map that is constant or not finite estimates nothing and is wrong at every threshold. The evaluator gives such a map a
box of a single pixel, which is wrong, too. Forks of the evaluator have a "V3", which matches several objects one to
one. It is not by the evaluator's authors and is not offered here; with one object an image it equals v2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solvers.printing import IMAGES_SHOWN, Printed, Summary, cells, counted, image_numbers
from ssimpert.analysis.degenerate_maps import degenerate_reasons
from ssimpert.analysis.localization.boxes import Boxes, best_iou, padded_boxes
from ssimpert.analysis.localization.contours import contour_boxes
from ssimpert.errors import InputError
from ssimpert.validation import check_maps

THRESHOLDS = 255
"""The thresholds are the whole numbers from 0 to 254."""
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


@dataclass(frozen=True, eq=False, repr=False)
class MaxBoxAcc(Printed):
    """Box accuracy of B maps at the thresholds 0 to 254.

    Attributes:
        iou_largest: (B, 255) float64 in [0, 1], the IoU of the largest contour's box with the object's box that fits it
            best (v1); NaN for a map that estimates nothing.
        iou_best: (B, 255) float64 in [0, 1], the best IoU over all contours (v2); NaN for a map that estimates nothing.
        reasons: why a map estimates nothing, ``None`` where it does.
    """

    iou_largest: Tensor
    iou_best: Tensor
    reasons: tuple[str | None, ...]

    def summary(self) -> Summary:
        """What the accuracy prints: the whole, and the best IoU of the first images."""
        images = len(self.reasons)
        whole = (
            f"v1 {self.v1:.4f} at threshold {self.v1_threshold}, v2 {self.v2:.4f}" if images else "nothing to measure"
        )
        first = slice(None, IMAGES_SHOWN)
        return Summary(
            f"MaxBoxAcc of {counted(images)}: {whole}",
            {
                "image": image_numbers(images),
                "best IoU of the largest box": cells(self.iou_largest[first].amax(dim=1)),
                "of any box": cells(self.iou_best[first].amax(dim=1)),
                "reason": cells(self.reasons),
            },
            images,
        )

    @property
    def v1_accuracies(self) -> Tensor:
        """(255,) float64: the share of images whose largest contour's box reaches IoU 0.5, at each threshold."""
        return (self.iou_largest >= V1_IOU).double().mean(dim=0)

    @property
    def v2_accuracies(self) -> Tensor:
        """(3, 255) float64: the share of images with a box that reaches IoU 0.3, 0.5, 0.7, at each threshold."""
        return torch.stack([(self.iou_best >= required_iou).double().mean(dim=0) for required_iou in V2_IOUS])

    @property
    def v1(self) -> float:
        """MaxBoxAcc, in [0, 1]."""
        return float(self.v1_accuracies.max())

    @property
    def v2(self) -> float:
        """MaxBoxAccV2, in [0, 1]. Each of its three IoU has its own best threshold."""
        return float(self.v2_accuracies.amax(dim=1).mean())

    @property
    def v1_threshold(self) -> int:
        """The best threshold for v1, from 0 to 254; the smallest among equals."""
        return int(self.v1_accuracies.argmax())

    @property
    def v2_thresholds(self) -> tuple[int, ...]:
        """The best threshold for each of the three IoU of v2; the smallest among equals."""
        return tuple(self.v2_accuracies.argmax(dim=1).tolist())

    def records(self) -> list[BoxRow]:
        """A row for each image: a tidy table."""
        v1 = self.iou_largest[:, self.v1_threshold].tolist()
        v2 = self.iou_best[:, list(self.v2_thresholds)].tolist()
        return [
            BoxRow(
                image=index,
                v1_iou=v1_iou,
                v1_correct=v1_iou >= V1_IOU,
                v2_iou_30=v2_ious[0],
                v2_iou_50=v2_ious[1],
                v2_iou_70=v2_ious[2],
                reason=reason,
            )
            for index, (v1_iou, v2_ious, reason) in enumerate(zip(v1, v2, self.reasons, strict=True))
        ]


def max_box_acc(maps: Tensor, boxes: Boxes) -> MaxBoxAcc:
    """The box accuracy at every threshold; ``.v1`` and ``.v2`` of the result are the two metrics.

    Args:
        maps: (B, H, W), float32 or float64, of any scale.
        boxes: the objects, (B, 4) or B tensors (k, 4), in the map's pixels: (x0, y0, x1, y1), ends *exclusive* as
            everywhere in this package. The evaluator's inclusive ends are x1 - 1 and y1 - 1.

    Contours are found on the CPU, whatever the device of the maps; the result is on the device of the maps. On one core
    a smooth map of 224x224 pixels takes about 0.1 s, white noise 3 s.

    Raises:
        InputError: shapes or types that do not fit, or a box without area.
    """
    check_maps("maps", maps)
    if maps.numel() == 0:
        raise InputError(f"maps must not be empty, got shape {tuple(maps.shape)}")
    objects, real = padded_boxes(boxes, len(maps), torch.device("cpu"))
    reasons = degenerate_reasons(maps)
    largest = torch.full((len(maps), THRESHOLDS), float("nan"), dtype=torch.float64)
    best = largest.clone()
    for index, reason in enumerate(reasons):
        if reason is None:
            values = _whole_numbers(maps[index])
            largest[index], best[index] = _ious(values, objects[index], real[index])
    return MaxBoxAcc(largest.to(maps.device), best.to(maps.device), reasons)


def _whole_numbers(saliency: Tensor) -> NDArray[np.uint8]:
    """One map (H, W) scaled to 0...255 by its extremes, and cut (not rounded) to whole numbers."""
    values = saliency.detach().double().cpu().numpy()
    low, high = values.min(), values.max()
    return ((values - low) / (high - low) * 255).astype(np.uint8)


def _ious(values: NDArray[np.uint8], objects: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """The IoU of the largest contour's box and of the best box, at the thresholds 0 to 254: (255,) each.

    Args:
        values: one map (H, W) from :func:`_whole_numbers`.
        objects: (K, 4) float64, the objects' boxes, ends exclusive.
        real: (K,) bool, which of these boxes are real.
    """
    height, width = values.shape
    largest = torch.empty(THRESHOLDS, dtype=torch.float64)
    best = torch.empty(THRESHOLDS, dtype=torch.float64)
    one_more = torch.tensor([0, 0, 1, 1], dtype=torch.float64)
    occurs = np.bincount(values.ravel(), minlength=THRESHOLDS + 1) > 0
    for threshold in range(THRESHOLDS):
        # Without a pixel of this value the binary image is that of the last threshold. The value 0 always occurs.
        if not occurs[threshold]:
            largest[threshold], best[threshold] = largest[threshold - 1], best[threshold - 1]
            continue
        contours = contour_boxes(values > threshold)
        # The evaluator takes x + width, cut to the image, as the inclusive end, which would be x + width - 1.
        inclusive = np.minimum(contours.all, [width, height, width - 1, height - 1])
        # With exclusive ends, which are one more, plain areas are the evaluator's areas.
        estimates = torch.from_numpy(inclusive).double() + one_more
        iou = best_iou(estimates[None], objects[None], real[None])[0]
        largest[threshold], best[threshold] = iou[contours.largest], iou.max()
    return largest, best
