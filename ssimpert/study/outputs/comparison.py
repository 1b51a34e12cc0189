"""Two studies, or two states of one, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ssimpert.analysis.statistics.bootstrap import CONFIDENCE, RESAMPLES, bootstrap_interval
from ssimpert.study.outputs.results import StudyResults
from ssimpert.study.outputs.table import column_text, with_attacks_named
from ssimpert.study.outputs.values import unit_values

DEFAULT_VALUES = ("success", "margin_after", "l2_norm", "ssim")


@dataclass(frozen=True, eq=False)
class StudyComparison:
    """What two studies have in common.

    Attributes:
        table: a row for each column of both and each value: ``model``, ``column``, ``value``, ``n`` (images of both
            with a number), ``first``, ``second`` (the means), ``difference`` (second minus first), ``low``, ``high``.
        only_first, only_second: the columns that one of them has.
        images: how many images both have, with equal pixels and annotation.
        changed_images: the names of the images that both have with other pixels or another annotation.
    """

    table: pd.DataFrame
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    images: int
    changed_images: tuple[str, ...]


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
        values: see :func:`~ssimpert.study.outputs.values.unit_values`.
        confidence: of the intervals.
        resamples: of the bootstrap over images.
        seed: of the bootstrap.

    Raises:
        InputError: an unknown value, or a study without records.
    """
    rows = []
    for value in values:
        frames = [_named(unit_values(results, value).frame) for results in (first, second)]
        both = frames[0].merge(frames[1], on=["column", "model", "identity", "repeat"], suffixes=("", "_second"))
        for (model, column), group in both.groupby(["model", "column"], sort=False):
            pairs = group.dropna(subset=["value", "value_second"]).sort_values("identity", kind="stable")
            differences = (pairs["value_second"] - pairs["value"]).to_numpy()
            interval = bootstrap_interval(
                differences,
                clusters=pairs["identity"].tolist(),
                confidence=confidence,
                resamples=resamples,
                seed=seed,
            )
            rows.append(
                {
                    "model": model,
                    "column": column,
                    "value": value,
                    "n": len(pairs),
                    "first": pairs["value"].mean(),
                    "second": pairs["value_second"].mean(),
                    "difference": float(differences.mean()) if len(pairs) else math.nan,
                    "low": interval.low,
                    "high": interval.high,
                }
            )
    names = [_column_names(results) for results in (first, second)]
    items = [_items(results) for results in (first, second)]
    return StudyComparison(
        table=pd.DataFrame(
            rows, columns=["model", "column", "value", "n", "first", "second", "difference", "low", "high"]
        ),
        only_first=tuple(name for name in names[0] if name not in names[1]),
        only_second=tuple(name for name in names[1] if name not in names[0]),
        images=len(set(items[0].values()) & set(items[1].values())),
        changed_images=tuple(name for name in items[0] if name in items[1] and items[0][name] != items[1][name]),
    )


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    named = with_attacks_named(frame)
    return named.assign(column=[column_text(row) for row in named.to_dict("records")])


def _column_names(results: StudyResults) -> list[str]:
    frame = _named(unit_values(results, "success").frame)
    return list(dict.fromkeys(frame["model"] + ", " + frame["column"]))


def _items(results: StudyResults) -> dict[str, str]:
    columns = [results.records.column(name).to_pylist() for name in ("data", "item", "identity")]
    return {f"{data}/{item}": identity for data, item, identity in zip(*columns, strict=True)}
