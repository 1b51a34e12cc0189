"""The per-image table: one row for each image, method, map and metric.

The table is long, so that each undefined value has a reason of its own. Its columns are:

* ``image``: the identifier of the image, a string or an integer;
* ``method``: the perturbation or the control that made the map;
* ``map``: the kind of map (``rms``, ``ssim``, ``contribution``, ``local_std``, ...);
* ``metric``: the name of the metric;
* ``value``: float64, NaN where undefined;
* ``reason``: why the value is NaN, ``""`` where it is a number;
* any further columns, such as the object that several images share.

The first four columns together identify a row of one run. The table of a comparison also has the columns
:data:`RUN_COLUMNS`, which say which run a row is of. ``pandas.concat`` joins the tables of several runs, and these
columns tell them apart: see ``by`` of :func:`ssimpert.analysis.summarize`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from solvers.validation import as_list, shown
from ssimpert.analysis.map_agreement.agreement import Agreement
from ssimpert.analysis.statistics.bootstrap import Clusters
from ssimpert.errors import InputError
from ssimpert.validation import Integers, Names

if TYPE_CHECKING:
    import pandas as pd

KEY = ("image", "method", "map", "metric")
COLUMNS = (*KEY, "value", "reason")

RUN_COLUMNS = (
    "model",
    "constraint",
    "level",
    "level_unit",
    "threshold",
    "window",
    "border",
    "luminance",
    "layers",
    "engine",
    "steps",
    "seed",
)
"""The columns that say which run a row is of; the rows of a run's controls have the values of their run.

``model``, ``constraint`` and ``engine`` are names. ``level`` is what the perturbation was allowed (``1 - threshold``,
the distance, the radius, or the weight ``gamma``), and ``level_unit`` says which of these. ``threshold``, ``window``,
``border`` and ``luminance`` are of a set with windows, ``layers`` of a feature distance. ``steps`` is how many were
allowed, of ``minimal_budget`` at each level. ``seed`` is the comparison's. Text is empty, and a number is NaN, where a
formulation has no such thing.
"""

# What makes two sets members of one family, whose levels can be compared. A level may differ from image to image.
FAMILY_COLUMNS = ("constraint", "level_unit", "window", "border", "luminance", "layers")
# Within one method's images these never differ in one run.
_ONE_RUN_COLUMNS = ("model", *FAMILY_COLUMNS, "engine")
# How many values of a column an error names.
_SHOWN_VALUES = 4


def agreement_table(
    measured: Agreement,
    *,
    images: Names | Integers,
    method: str,
    kind: str,
    columns: Mapping[str, Clusters] | None = None,
) -> pd.DataFrame:
    """The per-image table of one method's map. ``pandas.concat(..., ignore_index=True)`` puts several tables together.

    Args:
        measured: the agreement of B maps.
        images: B identifiers, all different.
        method: the name of the method.
        kind: the kind of map, which becomes the column ``map``.
        columns: further columns by name, B values each; default ``None``.

    Raises:
        InputError: identifiers that are not all different, a column of another length, or one of the table's own names.
    """
    # Imported here: pandas takes half a second, and `ssimpert --help` should not wait for that.
    import pandas as pd

    # Identifiers of an array or a tensor become Python's: tensors are all different keys, whatever they hold.
    identifiers = as_list(images)
    if identifiers is None:
        raise InputError(f"images must be a list of identifiers, got {shown(images)}")
    count = len(identifiers)
    if len(set(identifiers)) != count:
        raise InputError(f"images must be all different, got {identifiers}")
    extra = {name: as_list(column) for name, column in (columns or {}).items()}
    for name, column in {**{metric: values.tolist() for metric, values in measured.values.items()}, **extra}.items():
        if column is None:
            raise InputError(f"column {name!r} must be a list of {count} values, got {shown((columns or {})[name])}")
        if len(column) != count:
            raise InputError(f"{name!r} has {len(column)} values, but there are {count} images")
    for name in extra:
        if name in COLUMNS:
            raise InputError(f"column {name!r} is the table's own; taken: {', '.join(COLUMNS)}")
    metrics = list(measured.values)
    values = np.stack([measured.values[metric].cpu().numpy() for metric in metrics], axis=1)
    reasons = zip(*(measured.reasons[metric] for metric in metrics), strict=True)
    table = {
        "image": [image for image in identifiers for _ in metrics],
        "method": method,
        "map": kind,
        "metric": metrics * count,
        "value": values.ravel(),
        "reason": [reason for row in reasons for reason in row],
        **{name: [value for value in column or () for _ in metrics] for name, column in extra.items()},
    }
    return pd.DataFrame(table)


def check_table(table: pd.DataFrame) -> None:
    """Raise :class:`InputError` unless ``table`` is a per-image table with at least one row.

    A per-image table has every column of the list above. No key is missing, no key occurs twice, no value is infinite,
    and exactly the values that are NaN have a reason. The rows of one method are of one run; where they are of several,
    the error names the columns of :data:`RUN_COLUMNS` to split the table by.
    """
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise InputError(f"the table lacks {', '.join(missing)}; a per-image table has {', '.join(COLUMNS)}")
    if len(table) == 0:
        raise InputError("the table has no rows")
    if table["value"].dtype != np.float64:
        raise InputError(f"column 'value' must be float64, got {table['value'].dtype}")
    for name in KEY:
        if table[name].isna().any():
            raise InputError(f"column {name!r} has a missing value in row {_first(table[name].isna())}")
    is_duplicate = table.duplicated(list(KEY))
    if is_duplicate.any():
        row = table.loc[is_duplicate.to_numpy()].iloc[0]
        twins = table[(table[list(KEY)] == row[list(KEY)]).all(axis=1)]
        raise InputError(
            "the table has two rows for " + ", ".join(f"{name} {row[name]!r}" for name in KEY) + split_hint(twins)
        )
    _check_one_run(table)
    undefined, has_reason = table["value"].isna(), table["reason"].fillna("") != ""
    infinite = np.isinf(table["value"])
    for is_wrong, fault in (
        (infinite, "is infinite"),
        (undefined & ~has_reason, "is NaN without a reason"),
        (~undefined & has_reason, "has a reason to be NaN but isn't"),
    ):
        if is_wrong.any():
            raise InputError(f"the value in row {_first(is_wrong)} {fault}")


def run_columns_of(table: pd.DataFrame) -> list[str]:
    """The columns of :data:`RUN_COLUMNS` that ``table`` has."""
    return [name for name in RUN_COLUMNS if name in table.columns]


def run_values(table: pd.DataFrame, without: Collection[str] = ()) -> dict[str, object]:
    """The one value that ``table`` has in each of its :data:`RUN_COLUMNS`; none where it has several.

    Args:
        table: any table with some of these columns.
        without: columns to leave out. The seed is left out always: tables of statistics have one of their own.
    """
    names = [name for name in run_columns_of(table) if name != "seed" and name not in without]
    return {name: table[name].iloc[0] for name in names if table[name].nunique(dropna=False) == 1}


def split_hint(rows: pd.DataFrame) -> str:
    """By which column to split a table, of which ``rows`` are rows that do not belong together; empty if by none."""
    differing = [name for name in run_columns_of(rows) if rows[name].nunique(dropna=False) > 1]
    if not differing:
        return ""
    shown_columns = "; ".join(f"{name!r} ({_values(rows[name])})" for name in differing)
    return f"; they differ in column {shown_columns}: split the table by {differing[0]!r}"


def _check_one_run(table: pd.DataFrame) -> None:
    """Raise :class:`InputError` where one method's rows are of runs that no mean should mix."""
    names = [name for name in _ONE_RUN_COLUMNS if name in table.columns]
    if not names:
        return
    group = [name for name in KEY if name != "image"]
    # Missing text counts as empty: files of comma-separated values do not tell one from the other.
    distinct = table[[*group, *names]].fillna(dict.fromkeys(names, "")).drop_duplicates()
    mixed = distinct.duplicated(group)
    if mixed.any():
        row = distinct.loc[mixed.to_numpy()].iloc[0]
        rows = distinct[(distinct[group] == row[group]).all(axis=1)]
        raise InputError(
            "the table mixes several runs in " + ", ".join(f"{name} {row[name]!r}" for name in group) + split_hint(rows)
        )


def _values(column: pd.Series) -> str:
    values = [str(value) for value in column.unique()]
    more = f" and {len(values) - _SHOWN_VALUES} more" if len(values) > _SHOWN_VALUES else ""
    return ", ".join(values[:_SHOWN_VALUES]) + more


def _first(rows: pd.Series) -> int:
    """The position of the first True."""
    return int(np.argmax(rows.to_numpy()))
