"""What is measured of each map: agreement and its significance, the object's mask, insertion and deletion."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ssimpert.analysis.comparison.maps import BeginStage, ComparedMaps
from ssimpert.analysis.comparison.options import ComparisonOptions
from ssimpert.analysis.faithfulness.curve import Kind, PixelCurve
from ssimpert.analysis.faithfulness.insertion_deletion import insertion_deletion
from ssimpert.analysis.localization.mask_agreement import mask_agreement
from ssimpert.analysis.map_agreement.agreement import agreement
from ssimpert.analysis.map_agreement.shift_test import shift_null

NULL_METRICS = ("pearson", "spearman")
"""The metrics that get a p-value. One Fourier transform gives the null distribution of each."""


@dataclass(frozen=True, eq=False)
class MapScores:
    """The measures of B maps of one kind.

    Attributes:
        values: metric -> (B,) float64, NaN where undefined. The metrics are those of
            :func:`ssimpert.analysis.agreement`; with masks also those of :func:`ssimpert.analysis.mask_agreement`;
            with curves also ``insertion_auc`` and ``deletion_auc``.
        reasons: metric -> for each image why the value is NaN, ``""`` where it is a number.
        p_values: metric -> (B,) in (0, 1], of the circular shifts, for :data:`NULL_METRICS`. NaN where the metric is
            NaN, for the same reason. Empty where no shifts were asked for.
        curves: ``"insertion"`` and ``"deletion"`` where they were asked for; else empty.
    """

    values: dict[str, Tensor]
    reasons: dict[str, tuple[str, ...]]
    p_values: dict[str, Tensor]
    curves: dict[Kind, PixelCurve]


def score_maps(
    model: nn.Module, image: Tensor, compared: ComparedMaps, options: ComparisonOptions, begin: BeginStage
) -> dict[str, dict[str, MapScores]]:
    """Measure every map of a comparison: method -> kind of map -> scores, in the order of ``compared.maps``.

    Args:
        model: the classifier, whose probability the curves follow.
        image: the clean images (B, C, H, W).
        compared: the maps.
        options: what to measure.
        begin: called before each map.
    """
    scores: dict[str, dict[str, MapScores]] = {}
    for method, kinds in compared.maps.items():
        scores[method] = {}
        for kind, maps in kinds.items():
            begin(f"measuring {method}")
            scores[method][kind] = score_map(model, image, maps, compared, options)
    return scores


def score_map(
    model: nn.Module, image: Tensor, maps: Tensor, compared: ComparedMaps, options: ComparisonOptions
) -> MapScores:
    """Measure maps of one kind.

    Args:
        model: the classifier, whose probability the curves follow.
        image: the clean images (B, C, H, W).
        maps: the maps that are measured, (B, H, W).
        compared: has the class activation maps, and the class (B,) whose probability the curves follow.
        options: ``masks``, ``boxes``, ``insertion_deletion``, ``shifts``, ``seed`` and ``forward`` are used.
    """
    measured = agreement(maps, compared.cam)
    values, reasons = dict(measured.values), dict(measured.reasons)
    masks = options.object_masks(maps)
    if masks is not None:
        objects = mask_agreement(maps, masks, boxes=options.boxes)
        values |= objects.values
        reasons |= objects.reasons
    curves: dict[Kind, PixelCurve] = {}
    if options.draws_curves:
        forward_model = options.forward_model(model)
        curves = insertion_deletion(forward_model, image, maps, target=compared.target, step=options.curve_step)
    for kind, curve in curves.items():
        values[f"{kind}_auc"] = curve.auc
        reasons[f"{kind}_auc"] = tuple(reason or "" for reason in curve.reasons)
    p_values = {
        metric: shift_null(maps, compared.cam, metric, shifts=options.shifts, seed=options.seed).p_value
        for metric in NULL_METRICS
        if options.shifts
    }
    return MapScores(values, reasons, p_values, curves)
