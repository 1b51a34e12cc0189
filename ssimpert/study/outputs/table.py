"""A value pivoted by any columns of a study, with intervals, and columns tested against one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Literal, get_args

import pandas as pd

from ssimpert.analysis.statistics.bootstrap import CONFIDENCE, RESAMPLES, bootstrap_interval
from ssimpert.analysis.statistics.bootstrap_median import bootstrap_median_interval
from ssimpert.analysis.statistics.paired_tests import cohens_dz, holm, sign_flip_test
from ssimpert.errors import InputError, unknown_name
from ssimpert.study.outputs.number_text import name_text
from ssimpert.study.outputs.results import StudyResults
from ssimpert.study.outputs.values import check_columns, unit_values

COLUMN_OF_STUDY = ("model", "formulation", "attack", "level", "level_unit", "passes", "repeat")
"""What tells the columns of a study apart."""

DEFAULT_ROWS = ("formulation", "level_unit", "level")

Statistic = Literal["mean", "median"]


def pivot(
    results: StudyResults,
    value: str,
    *,
    rows: Sequence[str] = DEFAULT_ROWS,
    columns: Sequence[str] = ("model",),
    statistic: Statistic = "mean",
    cluster: str | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """The mean and the median of a value over the images of each group, one of them with a bootstrap interval.

    Args:
        results: of a study.
        value: see :func:`~ssimpert.study.outputs.values.unit_values`.
        rows, columns: names of columns of the records, such as ``formulation``, ``level``, ``model``, ``object``. Both
            together make the groups. An attack stands among the formulations, with its passes.
        statistic: which of them the interval is of, ``"mean"`` (default) or ``"median"``.
        cluster: the column whose values are resampled as wholes, such as ``object``; default: images are independent.
        confidence: of the interval.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        A row for each group that has units, in the study's order: the columns asked for, then ``n`` (the units with a
        number), ``undefined`` (those without), ``mean``, ``median``, ``low`` and ``high``. The interval of fewer than
        two images is NaN.

    Raises:
        InputError: an unknown value, column or statistic, a column asked for twice, or images without a cluster.
    """
    if statistic not in get_args(Statistic):
        raise unknown_name("statistic", str(statistic), get_args(Statistic))
    names = [*rows, *columns]
    if len(set(names)) < len(names):
        raise InputError(f"columns {', '.join(names)} must be all different")
    frame = with_attacks_named(unit_values(results, value).frame)
    check_columns(frame, names)
    check_cluster(frame, cluster)
    interval_of = bootstrap_interval if statistic == "mean" else bootstrap_median_interval
    found = []
    grouped = frame.groupby(names, sort=False, dropna=False) if names else [((), frame)]
    for key, group in grouped:
        defined = group[group["value"].notna()].sort_values("item", kind="stable")
        interval = interval_of(
            defined["value"].to_numpy(),
            # The repeats of one image, and one image under several columns, are not independent.
            clusters=(defined["data"] + "/" + defined["item"] if cluster is None else defined[cluster]).tolist(),
            confidence=confidence,
            resamples=resamples,
            seed=seed,
        )
        found.append(
            {
                **dict(zip(names, key if isinstance(key, tuple) else (key,), strict=True)),
                "n": len(defined),
                "undefined": len(group) - len(defined),
                "mean": defined["value"].mean() if len(defined) else math.nan,
                "median": defined["value"].median() if len(defined) else math.nan,
                "low": interval.low,
                "high": interval.high,
            }
        )
    return pd.DataFrame(found)


def paired_columns(
    results: StudyResults,
    value: str,
    *,
    baseline: str | None = None,
    cluster: str | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """The columns of a study against one another, image by image, within each model and repeat.

    Args:
        results: of a study.
        value: see :func:`~ssimpert.study.outputs.values.unit_values`.
        baseline: the name of a formulation or an attack, each of whose levels is compared with all other columns;
            default: all pairs of columns.
        cluster: the column whose values keep or lose their sign together; default: images are independent.
        confidence: of the interval.
        resamples: of the bootstrap.
        seed: of the bootstrap and the test.

    Returns:
        A row for each pair of columns: ``model``, ``first``, ``second``; ``n`` (pairs of one image and repeat where
        both are defined) and ``unpaired`` (pairs where one of them is not); ``difference`` (the mean of first minus
        second), ``low``, ``high``; ``p_value`` of the sign-flip test, ``p_holm`` over all rows, and ``cohens_dz``.

    Raises:
        InputError: an unknown value, column or baseline, or fewer than two columns.
    """
    frame = with_attacks_named(unit_values(results, value).frame)
    check_cluster(frame, cluster)
    frame = with_columns_named(frame)
    if baseline is not None and baseline not in set(frame["formulation"]):
        raise InputError(
            f"the baseline must be a formulation or an attack of the study, one of "
            f"{', '.join(dict.fromkeys(frame['formulation']))}, got {baseline!r}"
        )
    rows = []
    for model, part in frame.groupby("model", sort=False):
        named = dict(list(part.groupby("column", sort=False)))
        for first, second in _pairs(named, baseline):
            rows.append({"model": model, "first": first, "second": second} | _difference(
                named[first], named[second], cluster, confidence, resamples, seed
            ))  # fmt: skip
    if not rows:
        raise InputError("there are no two columns to compare; the study has one, or one for each model")
    table = pd.DataFrame(rows)
    table.insert(table.columns.get_loc("p_value") + 1, "p_holm", holm(table["p_value"].to_numpy()))
    return table


def with_attacks_named(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with the names of attacks, and their passes, among those of the formulations."""
    is_attack = frame["attack"] != ""
    passes = pd.to_numeric(frame["passes"]).fillna(0).astype("int64").astype(str)
    return frame.assign(formulation=frame["formulation"].mask(is_attack, frame["attack"] + " (" + passes + " passes)"))


def with_columns_named(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame``, whose attacks are named, with the column ``column``: the study's column in words."""
    names = ["formulation", "level_unit", "level"]
    distinct = frame[names].drop_duplicates()
    texts = [_column_text(*row) for row in distinct.itertuples(index=False)]
    named = frame.merge(distinct.assign(column=texts), on=names, how="left")
    return named.set_index(frame.index)


def _column_text(formulation: str, unit: str, level: float) -> str:
    """The formulation, and its level where it has one."""
    text = name_text(level)
    return ", ".join(filter(None, [formulation, f"{unit} {text}".strip() if text else ""]))


def check_cluster(frame: pd.DataFrame, cluster: str | None) -> None:
    """Raise :class:`InputError` unless every unit has a label in the column ``cluster``; ``None`` is no column."""
    if cluster is None:
        return
    check_columns(frame, [cluster])
    is_missing = frame[cluster].isna() | (frame[cluster].astype(str) == "")
    if is_missing.any():
        first = frame.loc[is_missing].iloc[0]
        raise InputError(
            f"{first['data']}/{first['item']} has no {cluster!r}, as {int(is_missing.sum())} of {len(frame)} units; "
            "every image needs a cluster"
        )


def _pairs(named: dict[str, pd.DataFrame], baseline: str | None) -> list[tuple[str, str]]:
    if baseline is None:
        return list(combinations(named, 2))
    of_baseline = [column for column, group in named.items() if group["formulation"].iloc[0] == baseline]
    return [(column, other) for other in of_baseline for column in named if column not in of_baseline]


def _difference(
    first: pd.DataFrame, second: pd.DataFrame, cluster: str | None, confidence: float, resamples: int, seed: int
) -> dict[str, float]:
    keys = ["data", "item", "repeat"]
    kept = [*keys, "value"] if cluster is None else [*dict.fromkeys([*keys, cluster]), "value"]
    both = first[kept].merge(second[[*keys, "value"]], on=keys, how="outer", suffixes=("", "_other"))
    pairs = both.dropna(subset=["value", "value_other"]).sort_values(keys, kind="stable")
    differences = (pairs["value"] - pairs["value_other"]).to_numpy()
    labels = (pairs["data"] + "/" + pairs["item"] if cluster is None else pairs[cluster]).tolist()
    interval = bootstrap_interval(differences, clusters=labels, confidence=confidence, resamples=resamples, seed=seed)
    return {
        "n": len(pairs),
        "unpaired": len(both) - len(pairs),
        "difference": float(differences.mean()) if len(pairs) else math.nan,
        "low": interval.low,
        "high": interval.high,
        "p_value": sign_flip_test(differences, clusters=labels, seed=seed).p_value,
        "cohens_dz": cohens_dz(differences),
    }
