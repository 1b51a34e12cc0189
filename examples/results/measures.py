"""What is measured of every map, image by image, as one long table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from maps import load
from torch import Tensor

import ssimpert
from ssimpert.analysis import (
    agreement,
    agreement_table,
    cross_validated,
    deletion,
    insertion,
    local_std,
    max_box_acc,
    pearson,
    pointing_game,
    shift_null,
    thresholded_boxes,
)
from ssimpert.analysis.thresholded_boxes import THRESHOLDINGS
from ssimpert.data.composites import CompositeSet

SEED = 0
ROWS_A_STEP = 8


def measure(
    model: ssimpert.Classifier, chosen: CompositeSet, folder: Path, methods: Iterable[str], *, curves: Iterable[str]
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """The long table (columns of :mod:`ssimpert.analysis.table`, and ``object``), and MaxBoxAcc's IoU by map.

    Args:
        curves: the methods whose insertion and deletion curves are drawn, which takes most of the time.
    """
    cam = load(folder, "Grad-CAM")["maps"]["map"]
    deviation = local_std(chosen.images)
    parts: list[pd.DataFrame] = []
    boxes: dict[str, Tensor] = {}
    wanted = set(curves)
    for method in methods:
        for kind, values in load(folder, method)["maps"].items():
            found = agreement(values, cam)
            table = agreement_table(
                found, images=range(len(cam)), method=method, kind=kind, columns={"object": chosen.objects}
            )
            with_cams = [] if method == "Grad-CAM" else [table]
            more = {
                "Pearson with local std": pearson(values, deviation),
                "energy in object / area": energy_ratio(values, chosen.masks),
                "energy in box / area": energy_ratio(values, box_regions(chosen)),
                "hit": pointing_game(values, chosen.masks, torch.zeros(len(cam), dtype=torch.int64)).hits.double(),
                "shift p": shift_null(values, cam, "pearson", shifts=1000, minimum_distance=8, seed=SEED).p_value,
            }
            for how in THRESHOLDINGS:
                judged = cross_validated(thresholded_boxes(values, chosen.boxes, how), folds=5, seed=SEED)
                more[f"localisation error, {how}"] = 1 - judged.correct.double()
            found_boxes = max_box_acc(values, chosen.boxes)
            boxes[f"{method}|{kind}"] = found_boxes.iou_best
            if method in wanted and kind != "ssim":
                step = ROWS_A_STEP * values.shape[-1]
                for curve in (insertion, deletion):
                    more[curve.__name__] = curve(
                        model, chosen.images, values, target=chosen.labels, step=step
                    ).auc
            parts += [*with_cams, rows(method, kind, more, chosen)]
    return pd.concat(parts, ignore_index=True), boxes


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


def energy_ratio(maps: Tensor, region: Tensor) -> Tensor:
    """The share of a map's sum within the region over the region's share of the image, (N,); 1 for a flat map."""
    total = maps.double().flatten(1).sum(dim=1)
    inside = (maps.double() * region).flatten(1).sum(dim=1)
    share = region.double().flatten(1).mean(dim=1)
    return torch.where(total > 0, inside / total, torch.nan) / share


def box_regions(chosen: CompositeSet) -> Tensor:
    regions = torch.zeros_like(chosen.masks)
    for region, (x0, y0, x1, y1) in zip(regions, chosen.boxes.tolist(), strict=True):
        region[y0:y1, x0:x1] = True
    return regions
