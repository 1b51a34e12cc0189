"""The benchmarks of localisation over records, computed by hand on a few trials."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from ssimpert.study import Study
from ssimpert.study.object_benchmarks import localization_benchmarks
from ssimpert.study.schema import record_schema

STUDY = Study(
    "test",
    data={"kind": "composites", "n": 9},
    models={"name": "a"},
    formulations={"name": "l2", "constraint": "l2"},
    analysis={"metrics": ["pointing", "localization"]},
)


def record(item: int, hit: float, class_name: str, difficult: bool, curves: dict[str, list[float]]) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(record_schema(STUDY).names)
    row |= {"key": str(item), "data": "d", "model": "a", "formulation": "l2", "level": 0.5, "repeat": 0}
    row |= {"object_class": class_name, "object_difficult": difficult}
    row["scores"] = [{"method": "perturbation", "map": "rms", "metric": "pointing_hit", "value": hit}]
    row["box_curves"] = [
        {"method": "perturbation", "map": "rms", "kind": kind, "values": values} for kind, values in curves.items()
    ]
    return row


def curves(largest: dict[int, float], best: dict[int, float], value: list[float]) -> dict[str, list[float]]:
    return {
        "iou_largest": [largest.get(threshold, 0.0) for threshold in range(255)],
        "iou_best": [best.get(threshold, 0.0) for threshold in range(255)],
        "value": [*value, *[0.0] * (20 - len(value))],
        "energy": [0.6] * 20,
        "mean": [0.4] * 21,
    }


def table(records: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(records, schema=record_schema(STUDY))


def test_the_benchmarks_are_those_computed_by_hand() -> None:
    made = table([
        record(0, 1, "cat", True, curves({10: 0.5, 20: 0.6}, {10: 0.7}, [0.5, 0.1])),
        record(1, 0, "cat", False, curves({10: 0.4, 20: 0.5}, {10: 0.5}, [0.5, 0.1])),
        record(2, 1, "cat", False, curves({10: 0.5}, {10: 0.3, 30: 0.9}, [0.4, 0.5])),
        record(3, 1, "dog", True, curves({10: math.nan}, {10: math.nan}, [0.6, 0.4])),
        # A map that points nowhere is a miss.
        record(4, math.nan, "dog", True, curves({}, {30: 0.5}, [0.6, 0.4])),
        # No trial: the decision is none of the image's classes.
        record(5, math.nan, "", False, {}),
    ])  # fmt: skip
    (row,) = localization_benchmarks(made).to_dict("records")
    assert (row["data"], row["formulation"], row["method"], row["map"]) == ("d", "l2", "perturbation", "rms")
    assert row["trials"] == 5
    assert row["pointing"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert row["pointing_difficult"] == pytest.approx((1 + 1 / 2) / 2)
    assert row["images"] == 5
    # Largest contour, IoU .5: two of five images at threshold 10 (items 0 and 2), two at 20 (items 0 and 1).
    assert row["max_box_acc"] == pytest.approx(2 / 5)
    # Best contour: .3 is reached by 0, 1, 2 at threshold 10; .5 by two at 10 (and two at 30); .7 by one.
    assert row["max_box_acc_v2"] == pytest.approx((3 / 5 + 2 / 5 + 1 / 5) / 3)
    # Five folds of one image: each is judged at the alpha that is best for the other four. Alpha 0 is right for four of
    # the five, alpha .05 for image 2 alone: only image 2 is wrong.
    assert row["error_value"] == pytest.approx(1 / 5)
    assert (row["error_energy"], row["error_mean"]) == (0, 1)


def test_few_images_and_missing_metrics_are_nan() -> None:
    (row,) = localization_benchmarks(table([record(0, 1, "cat", False, curves({3: 1.0}, {3: 1.0}, [1.0]))])).to_dict(
        "records"
    )
    assert (row["pointing"], row["max_box_acc"], row["max_box_acc_v2"]) == (1, 1, 1)
    assert math.isnan(row["pointing_difficult"])
    assert math.isnan(row["error_value"])
    (row,) = localization_benchmarks(table([record(0, 1, "cat", False, {})])).to_dict("records")
    assert (row["images"], row["trials"]) == (0, 1)
    assert math.isnan(row["max_box_acc"])
    assert localization_benchmarks(table([record(0, 1, "", False, {})])).empty
