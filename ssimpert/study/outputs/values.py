"""What a table or a plot of a study is about: a column of the records, or a measure of a map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ssimpert.errors import InputError, unknown_name
from ssimpert.study.outputs.results import StudyResults, score_counts, unit_frame
from ssimpert.study.unit_scores import PERTURBATION

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

MEASURE = ("method", "map", "metric")
Measure = tuple[str, str, str]

NUMBERS = {
    "success": "share of images whose label changed",
    "margin_after": "margin (logits)",
    "margin_before": "margin of the clean image (logits)",
    "margin_gain": "margin gained (logits)",
    "l2_norm": "l2 norm",
    "linf_norm": "largest change",
    "ssim": "mean SSIM (Gaussian 11)",
    "one_minus_ssim": "1 - mean SSIM (Gaussian 11)",
    "min_window_ssim": "least window SSIM",
    "contrast_distance": "contrast distance",
    "violation": "violation of the set",
    "rel_gap": "certified relative gap",
    "steps": "steps",
    "shrink_share": "share kept by drawing back",
    "found_level": "least level found",
    "seconds": "seconds",
}
"""The columns of numbers, and what tables and plots call them."""


@dataclass(frozen=True, eq=False)
class UnitValues:
    """One number for each unit.

    Attributes:
        name: as asked for, such as ``"ssim"`` or ``"rms.pearson"``.
        title: in words, with the unit.
        frame: a row for each unit, with its columns and the column ``value``; NaN where undefined or infinite.
    """

    name: str
    title: str
    frame: pd.DataFrame


def unit_values(results: StudyResults, name: str) -> UnitValues:
    """The values that ``name`` stands for.

    Args:
        results: of a study.
        name: a column of :data:`NUMBERS`; or ``MAP.METRIC`` for a map of the perturbation, such as ``rms.pearson``; or
            ``METHOD.MAP.METRIC`` for any other map, such as ``l2 control.rms.pearson``. The method ``local std`` has
            one map, so that ``local std.pearson`` will do.

    Raises:
        InputError: there is no such column, method, map or metric, or the study has no records yet.
    """
    if results.records.num_rows == 0:
        raise InputError(f"study {results.name!r} has no records yet")
    units = unit_frame(results.records)
    if name in NUMBERS:
        return UnitValues(name, NUMBERS[name], _finite(units, units[name].astype("float64").to_numpy()))
    scores = results.records.column("scores").combine_chunks().flatten()
    measured = _measured(scores)
    names = {_score_name(*measure): measure for measure in measured}
    shorter = {_short(measure, measured): measure for measure in measured}
    measure = names.get(name) or shorter.get(name)
    if measure is None:
        raise unknown_name("value", name, [*NUMBERS, *names])
    is_chosen = _all_equal(scores, measure)
    unit = np.repeat(np.arange(len(units)), score_counts(results.records))[is_chosen]
    numbers = np.full(len(units), math.nan)
    numbers[unit] = scores.field("value").to_numpy(zero_copy_only=False)[is_chosen]
    method, kind, metric = measure
    title = f"{metric.replace('_', ' ')} of {kind}" + ("" if method == PERTURBATION else f" ({method})")
    return UnitValues(_score_name(*measure), title, _finite(units, numbers))


def value_names(results: StudyResults) -> list[str]:
    """All names that :func:`unit_values` takes for these results."""
    measured = _measured(results.records.column("scores").combine_chunks().flatten())
    return [*NUMBERS, *(_score_name(*measure) for measure in measured)]


def check_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Raise :class:`InputError` unless ``frame`` has all these columns."""
    for name in names:
        if name not in frame.columns or name == "value":
            raise unknown_name("column", name, [str(column) for column in frame.columns if column != "value"])


def _score_name(method: str, kind: str, metric: str) -> str:
    return f"{kind}.{metric}" if method == PERTURBATION else f"{method}.{kind}.{metric}"


def _short(measure: Measure, measured: Sequence[Measure]) -> str:
    """``METHOD.METRIC`` where the method has one map, else the whole name."""
    method, kind, metric = measure
    maps = {other_kind for other, other_kind, _ in measured if other == method}
    return f"{method}.{metric}" if method != PERTURBATION and len(maps) == 1 else _score_name(method, kind, metric)


def _measured(scores: pa.StructArray) -> list[Measure]:
    """The different measures, in the order of their first rows."""
    table = pa.table({name: scores.field(name).dictionary_encode() for name in MEASURE})
    counted = table.append_column("row", pa.array(np.arange(len(scores)))).group_by(list(MEASURE))
    first = counted.aggregate([("row", "min")]).sort_by("row_min")
    return list(zip(*(first.column(name).to_pylist() for name in MEASURE), strict=True))


def _all_equal(scores: pa.StructArray, measure: Measure) -> np.ndarray:
    """Which rows are of ``measure``, (rows,) bool."""
    equal = [
        np.asarray(pc.fill_null(pc.equal(scores.field(name), wanted), False))
        for name, wanted in zip(MEASURE, measure, strict=True)
    ]
    return np.logical_and.reduce(equal)


def _finite(units: pd.DataFrame, numbers: np.ndarray) -> pd.DataFrame:
    """``units`` with their values; an infinite number has no mean and is undefined."""
    return units.assign(value=np.where(np.isfinite(numbers), numbers, math.nan))
