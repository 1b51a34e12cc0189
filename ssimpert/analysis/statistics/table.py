"""The per-image table: one row for each image, method, map and metric.

The table is long, so that each undefined value has a reason of its own. Its columns are:

* ``image``: the identifier of the image, a string or an integer;
* ``method``: the perturbation or the control that made the map;
* ``map``: the kind of map (``rms``, ``ssim``, ``contribution``, ``local_std``, ...);
* ``metric``: the name of the metric;
* ``value``: float64, NaN where undefined;
* ``reason``: why the value is NaN, ``""`` where it is a number;
* any further columns, such as the object that several images share.

The first four columns together identify a row.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    and exactly the values that are NaN have a reason.
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
        raise InputError("the table has two rows for " + ", ".join(f"{name} {row[name]!r}" for name in KEY))
    undefined, has_reason = table["value"].isna(), table["reason"].fillna("") != ""
    infinite = np.isinf(table["value"])
    for is_wrong, fault in (
        (infinite, "is infinite"),
        (undefined & ~has_reason, "is NaN without a reason"),
        (~undefined & has_reason, "has a reason to be NaN but isn't"),
    ):
        if is_wrong.any():
            raise InputError(f"the value in row {_first(is_wrong)} {fault}")


def _first(rows: pd.Series) -> int:
    """The position of the first True."""
    return int(np.argmax(rows.to_numpy()))
