"""All measures of every map, image by image, as one long table."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import ssimpert
from examples.results.maps import load, path_of
from ssimpert.analysis import (
    agreement,
    agreement_table,
    cross_validated,
    insertion_deletion,
    local_std,
    max_box_acc,
    pearson,
    pointing_game,
    read_table,
    shift_null,
    thresholded_boxes,
    write_table,
)
from ssimpert.analysis.localization.boxes import box_masks
from ssimpert.analysis.localization.mask_agreement import mask_agreement
from ssimpert.analysis.localization.thresholded_boxes import THRESHOLDINGS
from ssimpert.data.composites import CompositeSet

SEED = 0
FOLDS = 5
ROWS_A_STEP = 8


def measure(
    model: ssimpert.Classifier,
    forward: ssimpert.Classifier | ssimpert.OnnxClassifier,
    composites: CompositeSet,
    folder: Path,
    methods: Iterable[str],
    benched: Collection[str],
) -> pd.DataFrame:
    """The long table: the columns of :mod:`ssimpert.analysis.statistics.table`, ``object`` and ``model``.

    Each method's part is kept in a file.

    Args:
        model: the classifier.
        forward: the model or its ONNX copy, for insertion and deletion.
        composites: the composites with their masks, boxes and labels.
        folder: where :func:`maps.make_maps` wrote the maps; the tables are written there, too.
        methods: the names of the methods.
        benched: the methods that also go through MaxBoxAcc (without the 1 - SSIM map) and through insertion and
            deletion (for a perturbation only its contribution map). This takes most of the time.
    """
    parts = []
    for method in methods:
        target = path_of(folder, method).with_suffix(".parquet")
        if not target.exists():
            table = measure_method(forward, composites, folder, method, bench=method in benched)
            write_table(table.assign(model=model.name), target)
            print(f"{model.name}: {method} measured", flush=True)
        parts.append(read_table(target))
    return pd.concat(parts, ignore_index=True)


def measure_method(
    forward: ssimpert.Classifier | ssimpert.OnnxClassifier,
    composites: CompositeSet,
    folder: Path,
    method: str,
    *,
    bench: bool,
) -> pd.DataFrame:
    """The part of the long table of one method.

    Args:
        forward: the model or its ONNX copy, for insertion and deletion.
        composites: the composites with their masks, boxes and labels.
        folder: where the maps are.
        method: the method's name.
        bench: whether its maps go through MaxBoxAcc and through insertion and deletion.
    """
    cam = load(folder, "Grad-CAM")["maps"]["map"]
    deviation = local_std(composites.images)
    boxes = box_masks(composites.boxes, *composites.masks.shape)
    one_class = torch.zeros(len(cam), dtype=torch.int64)
    parts: list[pd.DataFrame] = []
    for kind, values in load(folder, method)["maps"].items():
        if method != "Grad-CAM":
            agreement_with_cam = agreement(values, cam)
            columns = {"object": composites.objects}
            parts.append(
                agreement_table(agreement_with_cam, images=range(len(cam)), method=method, kind=kind, columns=columns)
            )
        measures = {
            "pearson with local std": pearson(values, deviation),
            "energy in object / area": energy_over_area(values, composites.masks),
            "energy in box / area": energy_over_area(values, boxes),
            "pointing": pointing_game(values, composites.masks, one_class).hits.double(),
            "shift p": shift_null(values, cam, "pearson", shifts=1000, minimum_distance=8, seed=SEED).p_value,
        }
        for thresholding in THRESHOLDINGS:
            boxes_of_maps = thresholded_boxes(values, composites.boxes, thresholding)
            localised = cross_validated(boxes_of_maps, folds=FOLDS, seed=SEED)
            measures[f"localisation error, {thresholding}"] = 1 - localised.correct.double()
        if bench and kind in ("contribution", "map"):
            step = ROWS_A_STEP * values.shape[-1]
            curves = insertion_deletion(forward, composites.images, values, target=composites.labels, step=step)
            measures |= {kind_of_curve: curve.auc for kind_of_curve, curve in curves.items()}
        if bench and kind != "ssim":
            reached = max_box_acc(values, composites.boxes).iou_best
            torch.save(reached, path_of(folder, f"{method} {kind}").with_suffix(".iou"))
        parts.append(rows(method, kind, measures, composites))
    return pd.concat(parts, ignore_index=True)


def rows(method: str, kind: str, values: dict[str, Tensor], composites: CompositeSet) -> pd.DataFrame:
    """Measures (N,), by name, in the long form: a row for each measure and image."""
    lines: list[dict[str, Any]] = []
    for metric, numbers in values.items():
        for image, value in enumerate(numbers.double().tolist()):
            reason = "" if value == value else "the map is degenerate"
            lines.append(
                {"image": image, "method": method, "map": kind, "metric": metric, "value": value, "reason": reason,
                 "object": composites.objects[image]}
            )  # fmt: skip
    return pd.DataFrame(lines)


def energy_over_area(maps: Tensor, region: Tensor) -> Tensor:
    """The share of a map's energy in a region, divided by the region's share of the area, (N,)."""
    return mask_agreement(maps, region).values["energy_over_area"]
