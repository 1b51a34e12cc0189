"""The per-image table: one row for each image, method, map and metric.

Columns (long form, so that a value that is undefined has its own reason):

* ``image``: the image's identifier, a string or an integer;
* ``method``: the perturbation or control that made the map;
* ``map``: the kind of map (``rms``, ``ssim``, ``contribution``, ``local_std``, ...);
* ``metric``: the metric's name;
* ``value``: float64, NaN where undefined;
* ``reason``: why the value is NaN, ``""`` where it is a number;
* any further columns, such as the object that an image shares with others.

The first four together identify a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ssimpert.analysis.map_agreement.agreement import Agreement
from ssimpert.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

KEY = ("image", "method", "map", "metric")
COLUMNS = (*KEY, "value", "reason")


def agreement_table(
    found: Agreement,
    *,
    images: Sequence[str] | Sequence[int],
    method: str,
    kind: str,
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> pd.DataFrame:
    """The per-image table of one method's map; put several together with ``pandas.concat(..., ignore_index=True)``.

    Args:
        found: the agreement of B maps.
        images: B identifiers, all different.
        method: the method's name.
        kind: the kind of map, which becomes column ``map``.
        columns: further columns, B values each.
    """
    # Here and not above: importing pandas takes half a second, which `ssimpert --help` should not wait for.
    import pandas as pd

    count = len(images)
    if len(set(images)) != count:
        raise InputError(f"images must be all different, got {list(images)}")
    extra = dict(columns or {})
    for name, given in {**{metric: values.tolist() for metric, values in found.values.items()}, **extra}.items():
        if len(given) != count:
            raise InputError(f"{name!r} has {len(given)} values, but there are {count} images")
    for name in extra:
        if name in COLUMNS:
            raise InputError(f"column {name!r} is the table's own; taken: {', '.join(COLUMNS)}")
    metrics = list(found.values)
    values = np.stack([found.values[metric].cpu().numpy() for metric in metrics], axis=1)
    reasons = zip(*(found.reasons[metric] for metric in metrics), strict=True)
    table = {
        "image": [image for image in images for _ in metrics],
        "method": method,
        "map": kind,
        "metric": metrics * count,
        "value": values.ravel(),
        "reason": [reason for row in reasons for reason in row],
        **{name: [value for value in given for _ in metrics] for name, given in extra.items()},
    }
    return pd.DataFrame(table)


def check_table(table: pd.DataFrame) -> None:
    """Raise :class:`InputError` unless ``table`` is a per-image table with at least one row.

    Every column of the module's list is there, no key is missing or there twice, no value is infinite, and exactly
    the values that are NaN have a reason.
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
    again = table.duplicated(list(KEY))
    if again.any():
        row = table.loc[again.to_numpy()].iloc[0]
        raise InputError("the table has two rows for " + ", ".join(f"{name} {row[name]!r}" for name in KEY))
    undefined, stated = table["value"].isna(), table["reason"].fillna("") != ""
    infinite = np.isinf(table["value"])
    for wrong, what in (
        (infinite, "is infinite"),
        (undefined & ~stated, "is NaN without a reason"),
        (~undefined & stated, "has a reason to be NaN but isn't"),
    ):
        if wrong.any():
            raise InputError(f"the value in row {_first(wrong)} {what}")


def _first(rows: pd.Series) -> int:
    """Position of the first True."""
    return int(np.argmax(rows.to_numpy()))
