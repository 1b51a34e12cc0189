"""Weak localisation by thresholding: the tightest box around a map's high pixels against the object's boxes.

Fong, Vedaldi, "Interpretable explanations of black boxes by meaningful perturbation", ICCV 2017 (after Cao et al., ICCV
2015). A threshold alpha keeps some pixels of a map H. There are three thresholdings:

* ``value`` keeps the pixels with H - min(H) >= alpha (max(H) - min(H)), for alpha from 0 to 0.95 by 0.05;
* ``energy`` keeps the fewest highest pixels that hold the share alpha of the sum, for alpha from 0 to 0.95 by 0.05;
* ``mean`` keeps the pixels with H >= alpha mean(H), for alpha from 0 to 10 by 0.5.

The estimate is the tightest box around the kept pixels, or the whole image if no pixel is kept. The estimate is wrong
if its best intersection over union with a box of the class is below 0.5. Alpha is chosen on other images than those
that are evaluated (:mod:`ssimpert.analysis.localization.cross_validation`).

A map that is constant or not finite estimates nothing. Such a map is wrong at every alpha and has a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from ssimpert.analysis.degenerate_maps import degenerate_reasons, ranks_pixels
from ssimpert.analysis.localization.boxes import Boxes, best_iou, bounding_boxes, padded_boxes
from ssimpert.errors import InputError, unknown_name
from ssimpert.validation import Numbers, check_maps, check_numbers

Thresholding = Literal["value", "energy", "mean"]

THRESHOLDINGS: tuple[Thresholding, ...] = ("value", "energy", "mean")
ALPHAS: dict[Thresholding, tuple[float, ...]] = {
    "value": tuple(k / 20 for k in range(20)),
    "energy": tuple(k / 20 for k in range(20)),
    "mean": tuple(k / 2 for k in range(21)),
}
"""The published grids."""

CORRECT_IOU = 0.5
"""From this intersection over union on, an estimate is correct."""


@dataclass(frozen=True, eq=False)
class ThresholdedBoxes:
    """Boxes of B maps at A values of alpha.

    Attributes:
        thresholding: ``"value"``, ``"energy"`` or ``"mean"``.
        alphas: the A values of alpha.
        boxes: (B, A, 4) float64, the estimates (x0, y0, x1, y1), ends exclusive, in the image's pixels; NaN where the
            map estimates nothing.
        iou: (B, A) float64 in [0, 1], the best intersection over union with a box of the image; NaN where the map
            estimates nothing.
        correct: (B, A) bool, ``iou`` at least 0.5.
        reasons: why a map estimates nothing, ``None`` where it does.
    """

    thresholding: Thresholding
    alphas: tuple[float, ...]
    boxes: Tensor
    iou: Tensor
    correct: Tensor
    reasons: tuple[str | None, ...]

    @property
    def errors(self) -> Tensor:
        """(A,) float64, the share of images that are wrong at each alpha. Alpha is chosen from this curve."""
        return 1 - self.correct.double().mean(dim=0)


def thresholded_boxes(
    maps: Tensor,
    boxes: Boxes,
    thresholding: Thresholding,
    *,
    alphas: Numbers | None = None,
    image_sizes: Tensor | None = None,
) -> ThresholdedBoxes:
    """Estimate a box for each map and each alpha, and compare the box with the objects' boxes.

    Args:
        maps: (B, H, W), float32 or float64; nonnegative for ``energy`` and ``mean``.
        boxes: the objects of the class, (B, 4) or B tensors (k, 4): (x0, y0, x1, y1), ends exclusive, in the image's
            pixels.
        thresholding: ``"value"``, ``"energy"`` or ``"mean"``. Pixels of equal value are kept together or dropped
            together.
        alphas: the thresholds, in [0, 1] for ``value`` and ``energy``, 0 or more for ``mean``; default ``None`` for the
            published grid :data:`ALPHAS`.
        image_sizes: (B, 2), the height and the width of the original images, to which the estimates are scaled; default
            ``None`` for the size of the maps.

    Raises:
        InputError: an unknown thresholding, an alpha out of range, shapes that do not fit, or negative maps for
            ``energy`` or ``mean``: a share of the sum and a multiple of the mean then mean nothing.
    """
    if thresholding not in THRESHOLDINGS:
        raise unknown_name("thresholding", thresholding, THRESHOLDINGS)
    chosen = ALPHAS[thresholding] if alphas is None else check_numbers("alphas", alphas)
    _check_alphas(chosen, thresholding)
    check_maps("maps", maps)
    if maps.numel() == 0:
        raise InputError(f"maps must not be empty, got shape {tuple(maps.shape)}")
    objects, real = padded_boxes(boxes, len(maps), maps.device)
    scale = _scale(image_sizes, maps)

    reasons = degenerate_reasons(maps)
    ranked = ranks_pixels(reasons, maps.device)
    values = torch.where(ranked[:, None, None], maps.detach().double(), 0.0)
    if thresholding != "value" and bool((values < 0).any()):
        raise InputError(
            f"thresholding {thresholding!r} needs nonnegative maps, got {float(values.min()):.3g}; "
            "take the absolute value or the positive part, or threshold by 'value'"
        )
    keep = {"value": _by_value, "energy": _by_energy, "mean": _by_mean}[thresholding]
    estimates = torch.stack([bounding_boxes(keep(values, Fraction(str(alpha)))) for alpha in chosen], dim=1)
    estimates = estimates * scale[:, None, :]
    estimates_nothing = ~ranked[:, None]
    iou = best_iou(estimates, objects, real).masked_fill(estimates_nothing, float("nan"))
    return ThresholdedBoxes(
        thresholding=thresholding,
        alphas=chosen,
        boxes=estimates.masked_fill(estimates_nothing[..., None], float("nan")),
        iou=iou,
        correct=iou >= CORRECT_IOU,
        reasons=reasons,
    )


# Alpha enters as the fraction that its decimal form means, and the comparison is cross-multiplied: in binary 0.07 * 100
# is 7.000000000000001, and a map that holds exactly its share would miss that number.


def _by_value(maps: Tensor, alpha: Fraction) -> Tensor:
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) * alpha.denominator >= (high - low) * alpha.numerator


def _by_energy(maps: Tensor, alpha: Fraction) -> Tensor:
    if alpha == 0:
        return torch.zeros_like(maps, dtype=torch.bool)
    flat = maps.flatten(1)
    falling = flat.sort(dim=1, descending=True).values
    sums = falling.cumsum(dim=1)
    # The total is the last of these sums. A second summation may round to a total above the last sum.
    is_enough = sums * alpha.denominator >= sums[:, -1:] * alpha.numerator
    last_kept = is_enough.int().argmax(dim=1, keepdim=True)
    return maps >= falling.gather(1, last_kept)[..., None]


def _by_mean(maps: Tensor, alpha: Fraction) -> Tensor:
    pixels = maps[0].numel()
    return maps * (alpha.denominator * pixels) >= maps.sum(dim=(1, 2), keepdim=True) * alpha.numerator


def _scale(image_sizes: Tensor | None, maps: Tensor) -> Tensor:
    """(B, 4) float64: the factors that bring the coordinates of a box on the map to the image."""
    count, height, width = maps.shape
    if image_sizes is None:
        return torch.ones(count, 4, dtype=torch.float64, device=maps.device)
    if not isinstance(image_sizes, Tensor) or image_sizes.shape != (count, 2):
        got = tuple(image_sizes.shape) if isinstance(image_sizes, Tensor) else type(image_sizes).__name__
        raise InputError(f"image_sizes must be ({count}, 2), height and width, got {got}")
    if not bool((image_sizes > 0).all()):
        raise InputError(f"image_sizes must be positive, got {image_sizes.tolist()}")
    sizes = image_sizes.to(maps.device, torch.float64)
    x, y = sizes[:, 1] / width, sizes[:, 0] / height
    return torch.stack([x, y, x, y], dim=1)


def _check_alphas(alphas: tuple[float, ...], thresholding: Thresholding) -> None:
    largest = float("inf") if thresholding == "mean" else 1.0
    if not alphas:
        raise InputError("alphas must hold at least one value, got none")
    for alpha in alphas:
        if not 0 <= alpha <= largest or alpha == float("inf"):
            raise InputError(f"alpha must be a number from 0 to {largest} for {thresholding!r}, got {alpha!r}")
