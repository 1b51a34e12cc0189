"""What is measured of every map, image by image, as one long table."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from maps import load, path_of
from torch import Tensor

import ssimpert
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
    chosen: CompositeSet,
    folder: Path,
    methods: Iterable[str],
    benched: Collection[str],
) -> pd.DataFrame:
    """The long table (columns of :mod:`ssimpert.analysis.statistics.table`, ``object`` and ``model``), kept method by
    method.

    Args:
        forward: the model or its ONNX copy, for insertion and deletion.
        folder: of the maps of :func:`maps.make_maps`; the tables are put beside them.
        benched: the methods that also go through MaxBoxAcc (not the 1 - SSIM map) and through insertion and deletion
            (of a perturbation's maps the contribution alone), which takes most of the time.
    """
    parts = []
    for method in methods:
        target = path_of(folder, method).with_suffix(".parquet")
        if not target.exists():
            table = measure_method(forward, chosen, folder, method, bench=method in benched)
            write_table(table.assign(model=model.name), target)
            print(f"{model.name}: {method} measured", flush=True)
        parts.append(read_table(target))
    return pd.concat(parts, ignore_index=True)


def measure_method(
    forward: ssimpert.Classifier | ssimpert.OnnxClassifier,
    chosen: CompositeSet,
    folder: Path,
    method: str,
    *,
    bench: bool,
) -> pd.DataFrame:
    cam = load(folder, "Grad-CAM")["maps"]["map"]
    deviation = local_std(chosen.images)
    boxes = box_masks(chosen.boxes, *chosen.masks.shape)
    one_class = torch.zeros(len(cam), dtype=torch.int64)
    parts: list[pd.DataFrame] = []
    for kind, values in load(folder, method)["maps"].items():
        if method != "Grad-CAM":
            found = agreement(values, cam)
            columns = {"object": chosen.objects}
            parts.append(agreement_table(found, images=range(len(cam)), method=method, kind=kind, columns=columns))
        more = {
            "pearson with local std": pearson(values, deviation),
            "energy in object / area": energy_over_area(values, chosen.masks),
            "energy in box / area": energy_over_area(values, boxes),
            "pointing": pointing_game(values, chosen.masks, one_class).hits.double(),
            "shift p": shift_null(values, cam, "pearson", shifts=1000, minimum_distance=8, seed=SEED).p_value,
        }
        for how in THRESHOLDINGS:
            localization = cross_validated(thresholded_boxes(values, chosen.boxes, how), folds=FOLDS, seed=SEED)
            more[f"localisation error, {how}"] = 1 - localization.correct.double()
        if bench and kind in ("contribution", "map"):
            step = ROWS_A_STEP * values.shape[-1]
            curves = insertion_deletion(forward, chosen.images, values, target=chosen.labels, step=step)
            more |= {curve: found.auc for curve, found in curves.items()}
        if bench and kind != "ssim":
            reached = max_box_acc(values, chosen.boxes).iou_best
            torch.save(reached, path_of(folder, f"{method} {kind}").with_suffix(".iou"))
        parts.append(rows(method, kind, more, chosen))
    return pd.concat(parts, ignore_index=True)


def rows(method: str, kind: str, values: dict[str, Tensor], chosen: CompositeSet) -> pd.DataFrame:
    """Measures (N,) by name in the long form."""
    lines: list[dict[str, Any]] = []
    for metric, numbers in values.items():
        for image, value in enumerate(numbers.double().tolist()):
            reason = "" if value == value else "the map is degenerate"
            lines.append(
                {"image": image, "method": method, "map": kind, "metric": metric, "value": value, "reason": reason,
                 "object": chosen.objects[image]}
            )  # fmt: skip
    return pd.DataFrame(lines)


def energy_over_area(maps: Tensor, region: Tensor) -> Tensor:
    return mask_agreement(maps, region).values["energy_over_area"]
