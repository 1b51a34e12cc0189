"""The benchmarks of localisation over the records of a study: pointing game, MaxBoxAcc, thresholded boxes.

The three are properties of a data set and not of an image: the pointing game averages over classes, and the others
choose one threshold for all images. So a record keeps what each image contributes, and the numbers are made here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from ssimpert.analysis.localization.cross_validation import cross_validated
from ssimpert.analysis.localization.max_box_acc import MaxBoxAcc
from ssimpert.analysis.localization.pointing_result import PointingResult
from ssimpert.analysis.localization.thresholded_boxes import ALPHAS, CORRECT_IOU, THRESHOLDINGS, ThresholdedBoxes
from ssimpert.study.grid import CELL_COLUMNS
from ssimpert.validation import check_seed

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FOLDS = 5
"""The folds in which an alpha is chosen on other images."""
GROUP_COLUMNS = ("data", *CELL_COLUMNS)


def localization_benchmarks(table: pa.Table, *, seed: int = 0) -> pd.DataFrame:
    """The benchmarks of every data set, cell, method and map.

    Args:
        table: records of a study with the metrics "pointing" or "localization".
        seed: of the folds in which the thresholded boxes choose alpha.

    Returns:
        A row for each data set, cell, method and map, with the columns that name them, then

        - ``trials``, ``pointing`` and ``pointing_difficult``: the pointing game, the mean over classes of the share of
          hits, over all trials and over the difficult ones. Images without a trial are left out; a map that points
          nowhere is a miss.
        - ``images``, ``max_box_acc`` and ``max_box_acc_v2``: over the images with a box of an object.
        - ``error_value``, ``error_energy``, ``error_mean``: the share of images that are wrong at an alpha that was
          chosen on other images, in five folds; with fewer images than folds NaN.

        What a study did not measure is NaN.
    """
    import pandas as pd

    seed = check_seed(seed)
    pointing: dict[tuple[Any, ...], list[tuple[bool, str, bool]]] = {}
    curves: dict[tuple[Any, ...], dict[str, list[list[float]]]] = {}
    for record in _records(table):
        group = tuple(record[name] for name in GROUP_COLUMNS)
        for score in record["scores"]:
            if score["metric"] == "pointing_hit" and record["object_class"]:
                trial = (score["value"] == 1, record["object_class"], bool(record["object_difficult"]))
                pointing.setdefault((*group, score["method"], score["map"]), []).append(trial)
        for curve in record.get("box_curves") or ():
            by_kind = curves.setdefault((*group, curve["method"], curve["map"]), {})
            by_kind.setdefault(curve["kind"], []).append(curve["values"])
    names = (*GROUP_COLUMNS, "method", "map")
    rows = [
        dict(zip(names, group, strict=True)) | _pointing(pointing.get(group)) | _boxes(curves.get(group), seed)
        for group in dict.fromkeys((*pointing, *curves))
    ]
    return pd.DataFrame(rows)


def _records(table: pa.Table) -> Iterable[dict[str, Any]]:
    columns = [*GROUP_COLUMNS, "object_class", "object_difficult", "scores"]
    columns += ["box_curves"] if "box_curves" in table.schema.names else []
    for batch in table.select(columns).to_batches(max_chunksize=1000):
        yield from batch.to_pylist()


def _pointing(trials: list[tuple[bool, str, bool]] | None) -> dict[str, float]:
    if not trials:
        return {"trials": 0, "pointing": math.nan, "pointing_difficult": math.nan}
    hits, classes, difficult = zip(*trials, strict=True)
    numbers = {name: number for number, name in enumerate(sorted(set(classes)))}
    result = PointingResult(
        points=torch.full((len(trials), 2), math.nan, dtype=torch.float64),
        hits=torch.tensor(hits),
        categories=torch.tensor([numbers[name] for name in classes]),
        difficult=torch.tensor(difficult),
        reasons=(None,) * len(trials),
    )
    return {
        "trials": len(trials),
        "pointing": result.accuracy,
        "pointing_difficult": result.difficult_accuracy,
    }


def _boxes(curves: Mapping[str, list[list[float]]] | None, seed: int) -> dict[str, float]:
    errors = {f"error_{thresholding}": math.nan for thresholding in THRESHOLDINGS}
    if not curves:
        return {"images": 0, "max_box_acc": math.nan, "max_box_acc_v2": math.nan, **errors}
    largest, best = (torch.tensor(curves[kind], dtype=torch.float64) for kind in ("iou_largest", "iou_best"))
    accuracy = MaxBoxAcc(largest, best, (None,) * len(largest))
    if len(largest) >= FOLDS:
        for thresholding in THRESHOLDINGS:
            if not all(curves[thresholding]):  # a map with negative values
                continue
            iou = torch.tensor(curves[thresholding], dtype=torch.float64)
            boxes = ThresholdedBoxes(
                thresholding=thresholding,
                alphas=ALPHAS[thresholding],
                boxes=torch.full((*iou.shape, 4), math.nan, dtype=torch.float64),
                iou=iou,
                correct=iou >= CORRECT_IOU,
                reasons=(None,) * len(iou),
            )
            errors[f"error_{thresholding}"] = cross_validated(boxes, folds=FOLDS, seed=seed).error
    return {"images": len(largest), "max_box_acc": accuracy.v1, "max_box_acc_v2": accuracy.v2, **errors}
