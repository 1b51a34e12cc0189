"""All that is measured of one kind of map: agreement and its significance, object's mask, insertion and deletion."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssimpert.analysis.faithfulness.curve import Kind, PixelCurve
from ssimpert.analysis.faithfulness.insertion_deletion import insertion_deletion
from ssimpert.analysis.localization.mask_agreement import mask_agreement
from ssimpert.analysis.map_agreement.agreement import agreement
from ssimpert.analysis.map_agreement.shift_test import shift_null
from ssimpert.models.forward_passes import Model

NULL_METRICS = ("pearson", "spearman")
"""The metrics that get a p-value: one Fourier transform each."""


@dataclass(frozen=True, eq=False)
class MapScores:
    """The measures of B maps of one kind.

    Attributes:
        values: metric -> (B,) float64, NaN where undefined: those of :func:`ssimpert.analysis.map_agreement.agreement`;
            with masks those of :func:`ssimpert.analysis.localization.mask_agreement.mask_agreement`; with curves
            ``insertion_auc`` and ``deletion_auc``.
        reasons: metric -> for each image why the value is NaN, ``""`` where it is a number.
        p_values: metric -> (B,) in (0, 1], of the circular shifts, for :data:`NULL_METRICS`; NaN where the metric is,
            for the same reason. Empty where no shifts were asked for.
        curves: ``"insertion"`` and ``"deletion"``, where they were asked for; else empty.
    """

    values: dict[str, Tensor]
    reasons: dict[str, tuple[str, ...]]
    p_values: dict[str, Tensor]
    curves: dict[Kind, PixelCurve]


def score_map(
    model: Model,
    image: Tensor,
    maps: Tensor,
    cam: Tensor,
    target: Tensor,
    *,
    masks: Tensor | None,
    curves: bool,
    step: int | None,
    shifts: int,
    seed: int,
) -> MapScores:
    """Measure maps (B, H, W) of images (B, C, H, W) against class activation maps (B, H, W).

    Args:
        target: (B,), the class whose probability the curves follow.
        masks: (B, H, W) bool, or ``None``.
        curves: whether to run insertion and deletion, ``step`` pixels at a time.
        shifts, seed: of the null; 0 shifts leave the p-values out.
    """
    found = agreement(maps, cam)
    values, reasons = dict(found.values), dict(found.reasons)
    if masks is not None:
        objects = mask_agreement(maps, masks)
        values |= objects.values
        reasons |= objects.reasons
    drawn = insertion_deletion(model, image, maps, target=target, step=step) if curves else {}
    for kind, curve in drawn.items():
        values[f"{kind}_auc"] = curve.auc
        reasons[f"{kind}_auc"] = tuple(reason or "" for reason in curve.reasons)
    p_values = {
        metric: shift_null(maps, cam, metric, shifts=shifts, seed=seed).p_value for metric in NULL_METRICS if shifts
    }
    return MapScores(values, reasons, p_values, drawn)
