"""What a table or a plot of a study is about: a column of the records, or a measure of a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from ssimpert.errors import InputError, unknown_name
from ssimpert.study.outputs.results import StudyResults, score_frame, unit_frame
from ssimpert.study.unit_scores import PERTURBATION

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        frame: a row for each unit, with its columns and the column ``value``; NaN where undefined.
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
        return UnitValues(name, NUMBERS[name], units.assign(value=units[name].astype("float64")))
    scores = score_frame_with_unit(results)
    measured = scores[["method", "map", "metric"]].drop_duplicates()
    known = [_score_name(*row) for row in measured.itertuples(index=False)]
    if name not in known:
        shorter = {_short(known_name, measured): known_name for known_name in known}
        if name not in shorter:
            raise unknown_name("value", name, [*NUMBERS, *known])
        name = shorter[name]
    chosen = scores[[_score_name(*row) == name for row in scores[["method", "map", "metric"]].itertuples(index=False)]]
    values = chosen.set_index("unit")["value"].reindex(range(len(units)))
    method, kind, metric = chosen.iloc[0][["method", "map", "metric"]]
    title = f"{metric.replace('_', ' ')} of {kind}" + ("" if method == PERTURBATION else f" ({method})")
    return UnitValues(name, title, units.assign(value=values.to_numpy()))


def score_frame_with_unit(results: StudyResults) -> pd.DataFrame:
    """:func:`score_frame` with the number of the unit that each row is of."""
    frame = score_frame(results.records)
    lengths = results.records.column("scores").combine_chunks().value_lengths().fill_null(0).to_numpy()
    return frame.assign(unit=pd.Series(range(len(lengths))).repeat(lengths).to_numpy())


def value_names(results: StudyResults) -> list[str]:
    """All names that :func:`unit_values` takes for these results."""
    measured = score_frame(results.records)[["method", "map", "metric"]].drop_duplicates()
    return [*NUMBERS, *(_score_name(*row) for row in measured.itertuples(index=False))]


def check_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Raise :class:`InputError` unless ``frame`` has all these columns."""
    for name in names:
        if name not in frame.columns or name == "value":
            raise unknown_name("column", name, [str(column) for column in frame.columns if column != "value"])


def _score_name(method: str, kind: str, metric: str) -> str:
    return f"{kind}.{metric}" if method == PERTURBATION else f"{method}.{kind}.{metric}"


def _short(name: str, measured: pd.DataFrame) -> str:
    """``METHOD.METRIC`` where the method has one map."""
    parts = name.split(".")
    if len(parts) == 3 and measured[measured["method"] == parts[0]]["map"].nunique() == 1:
        return f"{parts[0]}.{parts[2]}"
    return name
