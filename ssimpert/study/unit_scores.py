"""The measures of one unit: what a comparison found, as the rows of a record."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ssimpert.analysis import Comparison, compare
from ssimpert.analysis.localization.max_box_acc import max_box_acc
from ssimpert.analysis.localization.thresholded_boxes import THRESHOLDINGS, thresholded_boxes
from ssimpert.analysis.map_agreement.metrics import AGREEMENT_METRICS
from ssimpert.models import Classifier
from ssimpert.perturbation import PerturbResult
from ssimpert.study.sections.analysis import CONTROLS, L2_CONTROL, AnalysisSection
from ssimpert.study.unit_objects import NO_BOX, UnitObjects

PERTURBATION = "perturbation"
"""What the rows of a record call the method of the unit's own perturbation, whatever the formulation is called."""

METRIC_NAMES = {
    "agreement": tuple(AGREEMENT_METRICS),
    "pointing": ("energy_over_area", "pointing_hit"),
    "localization": ("best_box_iou",),
    "insertion-deletion": ("insertion_auc", "deletion_auc"),
}
"""The metrics of a record for each metric of a study."""


def compare_unit(
    model: Classifier,
    image: Tensor,
    result: PerturbResult,
    section: AnalysisSection,
    objects: UnitObjects | None,
    *,
    control: PerturbResult | None,
    seed: int,
) -> Comparison:
    """The comparison of one unit, on its own: no other image of a batch plays a part.

    Args:
        model: the classifier.
        image: the clean image, (1, 3, S, S).
        result: its perturbation.
        section: what to measure.
        objects: where the objects are; ``None`` where no metric asks for them.
        control: the l2 control of the perturbation; ``None`` where the study has no such control.
        seed: of the unit.
    """
    mask = None if objects is None else objects.mask
    boxes = None if objects is None else objects.boxes
    return compare(
        model,
        image,
        result,
        control=control,
        layer=section.layer,
        cam=section.cam,
        attributions=sorted(section.attributions),
        masks=None if mask is None else mask[None].to(image.device),
        boxes=None if boxes is None else [boxes.to(image.device)],
        insertion_deletion="insertion-deletion" in section.metrics,
        sanity=section.sanity,
        shifts=section.used_shifts,
        seed=seed,
    )


def score_rows(view: Comparison, section: AnalysisSection, objects: UnitObjects | None) -> list[dict[str, Any]]:
    """The rows ``scores`` of a record: one for each map and metric that the study asks for."""
    metrics = [name for group in METRIC_NAMES for name in METRIC_NAMES[group] if group in section.metrics]
    rows: list[dict[str, Any]] = []
    for method, kind in compared_maps(view, section):
        scores = view.scores[method][kind]
        for metric in metrics:
            if metric in scores.values:
                value, reason = float(scores.values[metric][0]), scores.reasons[metric][0]
            else:
                value, reason = math.nan, "" if objects is None else objects.reason
            if metric == "best_box_iou" and objects is not None and objects.boxes is None and not reason:
                value, reason = math.nan, NO_BOX
            p_values = scores.p_values.get(metric)
            rows.append(
                {
                    "method": PERTURBATION if method == view.perturbation else method,
                    "map": kind,
                    "metric": metric,
                    "value": value,
                    "p_value": math.nan if p_values is None else float(p_values[0]),
                    "reason": reason,
                }
            )
    return rows


def box_curve_rows(view: Comparison, section: AnalysisSection, objects: UnitObjects) -> list[dict[str, Any]]:
    """The rows ``box_curves`` of a record; none where no object has a box of its own."""
    if objects.boxes is None:
        return []
    rows: list[dict[str, Any]] = []
    for method, kind in compared_maps(view, section):
        for curve, values in _box_curves(view.maps[method][kind].cpu(), [objects.boxes]).items():
            rows.append(
                {
                    "method": PERTURBATION if method == view.perturbation else method,
                    "map": kind,
                    "kind": curve,
                    "values": values,
                }
            )
    return rows


def compared_maps(view: Comparison, section: AnalysisSection) -> list[tuple[str, str]]:
    """The maps that a study keeps, by method and kind, in the comparison's order."""
    left_out = {name for control, name in CONTROLS.items() if control not in section.controls and control != L2_CONTROL}
    perturbations = {view.perturbation} | ({view.control.name} if view.control is not None else set())
    return [
        (method, kind)
        for method, kinds in view.maps.items()
        for kind in kinds
        if method not in left_out and (method not in perturbations or kind in section.maps)
    ]


def _box_curves(maps: Tensor, boxes: list[Tensor]) -> dict[str, list[float]]:
    """The overlaps of one map (1, H, W) at every threshold of MaxBoxAcc and every published alpha."""
    accuracy = max_box_acc(maps, boxes)
    curves = {"iou_largest": accuracy.iou_largest[0].tolist(), "iou_best": accuracy.iou_best[0].tolist()}
    is_negative = bool((maps < 0).any())
    for thresholding in THRESHOLDINGS:
        if is_negative and thresholding != "value":  # shares of the sum and multiples of the mean mean nothing
            curves[thresholding] = []
        else:
            curves[thresholding] = thresholded_boxes(maps, boxes, thresholding).iou[0].tolist()
    return curves
