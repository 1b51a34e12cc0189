"""Two studies, or two states of one, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ssimpert.analysis.statistics.bootstrap import CONFIDENCE, RESAMPLES, bootstrap_interval
from ssimpert.errors import InputError, unknown_name
from ssimpert.study.changes import column_name, study_changes
from ssimpert.study.outputs.results import StudyResults
from ssimpert.study.outputs.table import with_attacks_named, with_columns_named
from ssimpert.study.outputs.values import unit_values, value_names

DEFAULT_VALUES = ("success", "margin_after", "l2_norm", "ssim")
TABLE_COLUMNS = ("model", "column", "value", "n", "first", "second", "difference", "low", "high")
_PAIR = ["model", "column", "identity", "repeat"]


@dataclass(frozen=True, eq=False)
class StudyComparison:
    """What two studies have in common.

    Attributes:
        table: a row for each column of both and each value: ``model``, ``column``, ``value``, ``n`` (images of both
            with a number), ``first``, ``second`` (the means), ``difference`` (second minus first), ``low``, ``high``.
            With ``n`` 0 the means are NaN, and the interval of a single image is NaN.
        only_first, only_second: the columns that one of them has.
        images: how many images both have, with equal pixels and annotation.
        changed_images: the names of the images that both have with other pixels or another annotation.
        changed_options: for each column of both whose records are decided otherwise, its name and the options in which
            the two differ, such as ``"formulation.steps"``. Their difference is that of these options, too.
        not_compared: what could not be compared, in words.
    """

    table: pd.DataFrame
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    images: int
    changed_images: tuple[str, ...]
    changed_options: tuple[tuple[str, tuple[str, ...]], ...] = ()
    not_compared: tuple[str, ...] = ()


def compare_studies(
    first: StudyResults,
    second: StudyResults,
    values: Sequence[str] = DEFAULT_VALUES,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> StudyComparison:
    """The differences between two studies, over the images that both have, with equal pixels and annotation.

    Columns are matched by their names: model, formulation, level, passes. An image is matched by its identity.

    Args:
        first, second: the results of two studies.
        values: see :func:`~ssimpert.study.outputs.values.unit_values`. A value that one study lacks is no error; it is
            among :attr:`StudyComparison.not_compared`.
        confidence: of the intervals.
        resamples: of the bootstrap over images.
        seed: of the bootstrap.

    Raises:
        InputError: a value that neither study has, or a study without records.
    """
    rows, not_compared = [], []
    for value in values:
        frames = _frames_of_both(first, second, value)
        if isinstance(frames, str):
            not_compared.append(frames)
            continue
        for key, group in _pairs(*frames).groupby(["model", "column"], sort=False):
            model, column = (str(name) for name in key)
            pairs = group.dropna(subset=["value", "value_second"])
            difference = _difference(pairs, confidence, resamples, seed)
            rows.append({"model": model, "column": column, "value": value} | difference)
            if pairs.empty:
                not_compared.append(f"{value} of {model}, {column}: no image has a number in both")
    names = [_column_names(results) for results in (first, second)]
    items = [_items(results) for results in (first, second)]
    changes = study_changes(first.cells, second.cells)
    return StudyComparison(
        table=pd.DataFrame(rows, columns=list(TABLE_COLUMNS)),
        only_first=tuple(name for name in names[0] if name not in names[1]),
        only_second=tuple(name for name in names[1] if name not in names[0]),
        images=len(set(items[0].values()) & set(items[1].values())),
        changed_images=tuple(name for name in items[0] if name in items[1] and items[0][name] != items[1][name]),
        changed_options=tuple((column_name(cell), options) for cell, options in changes.changed),
        not_compared=tuple(not_compared),
    )


def _frames_of_both(first: StudyResults, second: StudyResults, value: str) -> tuple[pd.DataFrame, pd.DataFrame] | str:
    """The value of both studies' units; where one study lacks the value, a line that says so."""
    found, faults = [], []
    for results in (first, second):
        if results.records.num_rows == 0:
            raise InputError(f"study {results.name!r} has no records yet")
        try:
            found.append(_named(unit_values(results, value).frame))
        except InputError:
            faults.append(results)
    if len(faults) == 2:
        raise unknown_name("value", value, {*value_names(first), *value_names(second)})
    if faults:
        return f"{value}: only {'B' if faults[0] is first else 'A'} has this value"
    return found[0], found[1]


def _pairs(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The units of the columns of both; a unit that one of them lacks has no value there."""
    # Two equal photos with equal annotation are one unit.
    kept = [frame[[*_PAIR, "value"]].drop_duplicates(_PAIR) for frame in (first, second)]
    merged = kept[0].merge(kept[1], on=_PAIR, how="outer", suffixes=("", "_second"))
    order = {key: place for place, key in enumerate(zip(first["model"], first["column"], strict=True))}
    of_second = set(zip(second["model"], second["column"], strict=True))
    place = [
        order.get(key, -1) if key in of_second else -1 for key in zip(merged["model"], merged["column"], strict=True)
    ]
    placed = merged.assign(place=place)
    return placed[placed["place"] >= 0].sort_values(["place", "identity", "repeat"], kind="stable")


def _difference(pairs: pd.DataFrame, confidence: float, resamples: int, seed: int) -> dict[str, float]:
    differences = (pairs["value_second"] - pairs["value"]).to_numpy()
    interval = bootstrap_interval(
        differences, clusters=pairs["identity"].tolist(), confidence=confidence, resamples=resamples, seed=seed
    )
    return {
        "n": pairs["identity"].nunique(),
        "first": pairs["value"].mean(),
        "second": pairs["value_second"].mean(),
        "difference": float(differences.mean()) if len(pairs) else math.nan,
        "low": interval.low,
        "high": interval.high,
    }


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    return with_columns_named(with_attacks_named(frame))


def _column_names(results: StudyResults) -> list[str]:
    frame = _named(unit_values(results, "success").frame)
    return list(dict.fromkeys(frame["model"] + ", " + frame["column"]))


def _items(results: StudyResults) -> dict[str, str]:
    distinct = results.records.select(["data", "item", "identity"]).group_by(["data", "item", "identity"]).aggregate([])
    columns = [distinct.column(name).to_pylist() for name in ("data", "item", "identity")]
    return {f"{data}/{item}": identity for data, item, identity in sorted(zip(*columns, strict=True))}
