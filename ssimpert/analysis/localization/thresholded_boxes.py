"""Weak localisation by thresholding: the tightest box around a map's high pixels against the object's boxes.

Fong, Vedaldi, "Interpretable explanations of black boxes by meaningful perturbation", ICCV 2017 (after
Cao et al., ICCV 2015). Three thresholdings of a map H by alpha keep these pixels:

* ``value``: H - min >= alpha (max - min), for alpha 0 to 0.95 by 0.05;
* ``energy``: the fewest highest values that hold the share alpha of the sum, for alpha 0 to 0.95 by 0.05;
* ``mean``: H >= alpha mean(H), for alpha 0 to 10 by 0.5.

The estimate is the tightest box around what stays, the whole image if nothing does. It is wrong if its best
intersection over union with a box of the class is below 0.5. Alpha is chosen on other images than those it is judged
on: :mod:`ssimpert.analysis.localization.cross_validation`.

A map that is constant or not finite estimates nothing: it is wrong at every alpha, and says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from ssimpert.analysis.degenerate_maps import degenerate_reasons, ranks_pixels
from ssimpert.analysis.localization.boxes import Boxes, best_iou, bounding_boxes, padded_boxes
from ssimpert.errors import InputError, unknown_name
from ssimpert.validation import check_maps

Thresholding = Literal["value", "energy", "mean"]

THRESHOLDINGS: tuple[Thresholding, ...] = ("value", "energy", "mean")
ALPHAS: dict[Thresholding, tuple[float, ...]] = {
    "value": tuple(k / 20 for k in range(20)),
    "energy": tuple(k / 20 for k in range(20)),
    "mean": tuple(k / 2 for k in range(21)),
}
"""The published grids."""

LEAST_IOU = 0.5


@dataclass(frozen=True, eq=False)
class ThresholdedBoxes:
    """Boxes of B maps at A values of alpha.

    Attributes:
        thresholding: ``"value"``, ``"energy"`` or ``"mean"``.
        alphas: the A values.
        boxes: (B, A, 4) float64, (x0, y0, x1, y1), ends exclusive, in the image's pixels; NaN where the map estimates
            nothing.
        iou: (B, A) float64 in [0, 1], the best over the image's boxes; NaN where the map estimates nothing.
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
        """(A,) float64, the share of images that are wrong at each alpha: the curve from which alpha is chosen."""
        return 1 - self.correct.double().mean(dim=0)


def thresholded_boxes(
    maps: Tensor,
    boxes: Boxes,
    thresholding: Thresholding,
    *,
    alphas: Sequence[float] | None = None,
    image_sizes: Tensor | None = None,
) -> ThresholdedBoxes:
    """Estimate and judge a box for each map and alpha.

    Args:
        maps: (B, H, W), float32 or float64; for ``energy`` and ``mean`` nonnegative.
        boxes: the objects of the class, (B, 4) or B tensors (k, 4): (x0, y0, x1, y1), ends exclusive, in the image's
            pixels.
        thresholding: ``"value"``, ``"energy"`` or ``"mean"``. Equal values stay or go together.
        alphas: default the published grid; value and energy in [0, 1], mean 0 or more.
        image_sizes: (B, 2), height and width of the original images, to which the estimates are scaled; ``None``:
            the maps' size.

    Raises:
        InputError: an unknown thresholding, an alpha out of range, negative maps where a share of the sum or a
            multiple of the mean means nothing, shapes that don't fit.
    """
    if thresholding not in THRESHOLDINGS:
        raise unknown_name("thresholding", thresholding, THRESHOLDINGS)
    chosen = ALPHAS[thresholding] if alphas is None else tuple(alphas)
    _check_alphas(chosen, thresholding)
    check_maps("maps", maps)
    if maps.numel() == 0:
        raise InputError(f"maps must not be empty, got shape {tuple(maps.shape)}")
    objects, real = padded_boxes(boxes, len(maps), maps.device)
    scale = _scale(image_sizes, maps)

    reasons = degenerate_reasons(maps)
    sound = ranks_pixels(reasons, maps.device)
    values = torch.where(sound[:, None, None], maps.detach().double(), 0.0)
    if thresholding != "value" and bool((values < 0).any()):
        raise InputError(
            f"thresholding {thresholding!r} needs nonnegative maps, got {float(values.min()):.3g}; "
            "take the absolute value or the positive part, or threshold by 'value'"
        )
    stay = {"value": _by_value, "energy": _by_energy, "mean": _by_mean}[thresholding]
    estimates = torch.stack([bounding_boxes(stay(values, Fraction(str(alpha)))) for alpha in chosen], dim=1)
    estimates = estimates * scale[:, None, :]
    nothing = ~sound[:, None]
    iou = best_iou(estimates, objects, real).masked_fill(nothing, float("nan"))
    return ThresholdedBoxes(
        thresholding=thresholding,
        alphas=chosen,
        boxes=estimates.masked_fill(nothing[..., None], float("nan")),
        iou=iou,
        correct=iou >= LEAST_IOU,
        reasons=reasons,
    )


# Alpha enters as the fraction its decimal means, by cross-multiplication: 0.07 * 100 is 7.000000000000001 in binary,
# and a map that holds exactly its share would miss it.


def _by_value(maps: Tensor, alpha: Fraction) -> Tensor:
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) * alpha.denominator >= (high - low) * alpha.numerator


def _by_energy(maps: Tensor, alpha: Fraction) -> Tensor:
    if alpha == 0:
        return torch.zeros_like(maps, dtype=torch.bool)
    flat = maps.flatten(1)
    falling = flat.sort(dim=1, descending=True).values
    held = falling.cumsum(dim=1)
    # The last sum and not a second summation, which may round above it and never be reached.
    enough = held * alpha.denominator >= held[:, -1:] * alpha.numerator
    last = enough.int().argmax(dim=1, keepdim=True)
    return maps >= falling.gather(1, last)[..., None]


def _by_mean(maps: Tensor, alpha: Fraction) -> Tensor:
    pixels = maps[0].numel()
    return maps * (alpha.denominator * pixels) >= maps.sum(dim=(1, 2), keepdim=True) * alpha.numerator


def _scale(image_sizes: Tensor | None, maps: Tensor) -> Tensor:
    """(B, 4) float64: what the sides of a box on the map are multiplied by."""
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
    most = float("inf") if thresholding == "mean" else 1.0
    if not alphas:
        raise InputError("alphas must hold at least one value, got none")
    for alpha in alphas:
        number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
        if not number or not 0 <= alpha <= most or alpha == float("inf"):
            raise InputError(f"alpha must be a number from 0 to {most} for {thresholding!r}, got {alpha!r}")
