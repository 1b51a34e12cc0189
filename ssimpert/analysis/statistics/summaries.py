"""Means over images with bootstrap intervals, and each method against each control on the same images.

Both functions take the per-image table of :mod:`ssimpert.analysis.statistics.table`. Both give a table with one row for
each group or comparison, which also has the seed and all settings. The order of the rows does not matter, and one group
does not influence another: every group is resampled by itself, from the same seed, over its images in a fixed order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from solvers.validation import as_list, shown
from ssimpert.analysis.map_agreement.metrics import AGREEMENT_METRICS
from ssimpert.analysis.statistics.bootstrap import CONFIDENCE, RESAMPLES, Interval, IntervalMethod, bootstrap_interval
from ssimpert.analysis.statistics.paired_tests import PERMUTATIONS, cohens_dz, holm, rank_biserial, sign_flip_test
from ssimpert.analysis.statistics.table import COLUMNS, check_table, run_values
from ssimpert.errors import InputError, unknown_name
from ssimpert.validation import Names

if TYPE_CHECKING:
    import pandas as pd

_GROUP = ["method", "map", "metric"]


def summarize(
    table: pd.DataFrame,
    *,
    by: str | Names = (),
    cluster: str | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    interval: IntervalMethod = "percentile",
    seed: int = 0,
) -> pd.DataFrame:
    """The mean of each method, map and metric over the images where it is defined.

    Args:
        table: the per-image table.
        by: the name of a column, or several names, that tell joined runs apart, such as ``"model"`` or
            ``("constraint", "level")``. Every part of the table with one value there is treated as a table of its own,
            and the result begins with these columns; a column of the result that has such a name already, ``seed``, is
            then called ``bootstrap_seed``. Default: the table is of one run.
        cluster: the name of a column; images with one value there belong together (composites of one object, say). The
            bootstrap then resamples whole clusters. Default ``None``: images are independent.
        confidence: of the interval, strictly between 0 and 1; default 0.95.
        resamples: of the bootstrap, 1 or more; default 10,000.
        interval: ``"percentile"`` (default) or ``"bca"``, see :func:`ssimpert.analysis.bootstrap_interval`.
        seed: of the bootstrap, an integer from 0; default 0.

    Returns:
        A table with the columns ``method``, ``map``, ``metric``; ``n`` (the images where the metric is defined),
        ``undefined`` (the images where it is NaN) and ``reasons`` with their counts, the most frequent first; ``mean``
        and ``median``; ``low`` and ``high``, the ends of the mean's interval; ``interval``, ``confidence``,
        ``resamples``, ``units`` (the images or clusters that are resampled) and ``seed``. Numbers over no images are
        NaN. At the end come those of :data:`~ssimpert.analysis.RUN_COLUMNS` in which all rows of the table agree, such
        as ``threshold``, ``window``, ``border`` and ``steps``.

    Raises:
        InputError: a table that :func:`~ssimpert.analysis.check_table` refuses, such as one of several runs that ``by``
            does not tell apart; an unknown column, a number out of range.
    """
    import pandas as pd

    columns = _checked_columns(table, by)
    if columns:
        return pd.concat(
            [
                _with_columns(
                    summarize(
                        part,
                        cluster=cluster,
                        confidence=confidence,
                        resamples=resamples,
                        interval=interval,
                        seed=seed,
                    ),
                    values,
                )
                for values, part in _parts(table, columns)
            ],
            ignore_index=True,
        )
    check_table(table)
    _check_cluster(table, cluster)
    rows = []
    for key, group in table.groupby(_GROUP, sort=False):
        ordered = _by_image(group)
        defined = ordered[ordered["value"].notna()]
        bounds = bootstrap_interval(
            defined["value"].to_numpy(),
            clusters=None if cluster is None else defined[cluster].tolist(),
            confidence=confidence,
            resamples=resamples,
            method=interval,
            seed=seed,
        )
        rows.append(
            {
                **dict(zip(_GROUP, cast("tuple[str, ...]", key), strict=True)),
                "n": len(defined),
                "undefined": len(ordered) - len(defined),
                "reasons": _counted(ordered["reason"][ordered["value"].isna()].tolist()),
                "mean": defined["value"].mean(),
                "median": defined["value"].median(),
                **_interval_columns(bounds),
            }
        )
    return pd.DataFrame(rows).assign(**run_values(table))


def paired_differences(
    table: pd.DataFrame,
    controls: Names,
    *,
    by: str | Names = (),
    methods: Names | None = None,
    cluster: str | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    interval: IntervalMethod = "percentile",
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """Each method against each control, image by image.

    A control that makes the same kind of map (an l2 ascent has an ``rms``, too) is compared map by map. A control that
    does not (``local_std``) is compared, by all its maps, with every map of the method.

    The family of Holm's correction is every comparison of the result that has a p-value, all metrics together, since
    whoever reads the table may pick any row; ``comparisons`` is their number. For a smaller family, which must be
    decided beforehand, pass a table of those methods, maps and metrics only.

    Args:
        table: the per-image table.
        controls: the names of the controls in column ``method``, at least one.
        by: as in :func:`summarize`. A part without these controls and methods is an error. Holm's correction is over
            the comparisons of all parts.
        methods: the names of the methods that are compared with the controls; default ``None``: all that are no
            controls.
        cluster: as in :func:`summarize`. The bootstrap and the permutation test then work on whole clusters.
        confidence: of the interval, strictly between 0 and 1; default 0.95.
        resamples: of the bootstrap, 1 or more; default 10,000.
        interval: ``"percentile"`` (default) or ``"bca"``.
        permutations: of :func:`ssimpert.analysis.sign_flip_test` where that test is not exact, 1 or more; default
            10,000.
        seed: of the bootstrap and the test, an integer from 0; default 0.

    Returns:
        A table with the columns ``method``, ``map``, ``control``, ``control_map``, ``metric``; ``better`` (``higher``
        or ``lower`` values mean closer maps; empty for a metric that is not of this package); ``n`` (the images where
        both are defined), ``undefined`` (the images where either is NaN), ``unpaired`` (the images that only one of
        them has); ``difference`` (the mean of method minus control, in the direction of the metric), ``median``,
        ``low``, ``high``; ``p_value`` of the two-sided sign-flip test and ``p_holm``; ``cohens_dz`` and
        ``rank_biserial``, over images; ``test``, ``permutations``, ``comparisons``, and the columns of the interval and
        of the run as in :func:`summarize`.

    Raises:
        InputError: a table that :func:`~ssimpert.analysis.check_table` refuses, an unknown name or column, a method
            that is a control, no metric in common, or a number out of range.
    """
    import pandas as pd

    columns = _checked_columns(table, by)
    if columns:
        parts = [
            _with_columns(
                paired_differences(
                    part,
                    controls,
                    methods=methods,
                    cluster=cluster,
                    confidence=confidence,
                    resamples=resamples,
                    interval=interval,
                    permutations=permutations,
                    seed=seed,
                ),
                values,
            )
            for values, part in _parts(table, columns)
        ]
        return _corrected(pd.concat(parts, ignore_index=True).drop(columns=["p_holm", "comparisons"]))
    check_table(table)
    _check_cluster(table, cluster)
    comparisons = _comparisons(table, controls, methods)
    groups = {cast("tuple[str, ...]", key): _by_image(group) for key, group in table.groupby(_GROUP, sort=False)}
    rows = []
    for compared in comparisons:
        pairs, undefined, unpaired = _paired(groups[compared.method_key], groups[compared.control_key])
        differences = (pairs["value"] - pairs["value_control"]).to_numpy()
        labels = None if cluster is None else pairs[cluster].tolist()
        bounds = bootstrap_interval(
            differences, clusters=labels, confidence=confidence, resamples=resamples, method=interval, seed=seed
        )
        test = sign_flip_test(differences, clusters=labels, permutations=permutations, seed=seed)
        rows.append(
            {
                "method": compared.method,
                "map": compared.map,
                "control": compared.control,
                "control_map": compared.control_map,
                "metric": compared.metric,
                "better": _better(compared.metric),
                "n": len(pairs),
                "undefined": undefined,
                "unpaired": unpaired,
                "difference": differences.mean() if len(pairs) else float("nan"),
                "median": pd.Series(differences, dtype="float64").median(),
                "p_value": test.p_value,
                "cohens_dz": cohens_dz(differences),
                "rank_biserial": rank_biserial(differences),
                "test": test.method,
                "permutations": test.permutations,
                **_interval_columns(bounds),
            }
        )
    return _corrected(pd.DataFrame(rows).assign(**run_values(table)))


def _corrected(result: pd.DataFrame) -> pd.DataFrame:
    """``result`` with Holm's correction over its rows, and their number."""
    result.insert(result.columns.get_loc("p_value") + 1, "p_holm", holm(result["p_value"].to_numpy()))
    result["comparisons"] = int(result["p_value"].notna().sum())
    return result


def _checked_columns(table: pd.DataFrame, by: str | Names) -> list[str]:
    """The columns that split the table, checked."""
    columns = [by] if isinstance(by, str) else as_list(by)
    if columns is None:
        raise InputError(f"by must be the name of a column or a list of names, got {shown(by)}")
    for name in columns:
        if name not in table.columns or name in COLUMNS:
            own = [str(column) for column in table.columns if column not in COLUMNS]
            raise unknown_name("column to split the table by", str(name), own)
    return list(dict.fromkeys(columns))


def _parts(table: pd.DataFrame, columns: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """The table's parts with one value in each of ``columns``, in the order of their first rows, with these values."""
    if len(table) == 0:
        raise InputError("the table has no rows")
    return [
        (dict(zip(columns, cast("tuple[Any, ...]", key), strict=True)), part)
        for key, part in table.groupby(columns, sort=False, dropna=False)
    ]


def _with_columns(result: pd.DataFrame, values: dict[str, Any]) -> pd.DataFrame:
    """``result`` with columns of one value each in front of its own."""
    result = result.drop(columns=[name for name in run_values(result) if name in values])
    result = result.rename(columns={name: f"bootstrap_{name}" for name in values})
    for position, (name, value) in enumerate(values.items()):
        result.insert(position, name, value)
    return result


@dataclass(frozen=True)
class _Comparison:
    method: str
    map: str
    control: str
    control_map: str
    metric: str

    @property
    def method_key(self) -> tuple[str, ...]:
        return self.method, self.map, self.metric

    @property
    def control_key(self) -> tuple[str, ...]:
        return self.control, self.control_map, self.metric


def _comparisons(table: pd.DataFrame, controls: Names, methods: Names | None) -> list[_Comparison]:
    present = list(dict.fromkeys(table["method"]))
    controls = _checked_names("control", controls, present)
    if methods is None:
        methods = [name for name in present if name not in controls]
        if not methods:
            raise InputError(f"every method is a control: {', '.join(present)}; nothing is left to compare")
    methods = _checked_names("method", methods, present)
    given_twice = [name for name in methods if name in controls]
    if given_twice:
        raise InputError(f"{given_twice[0]!r} is given as a method and as a control")
    keys = [tuple(row) for row in table[_GROUP].drop_duplicates().itertuples(index=False)]
    maps = {name: list(dict.fromkeys(kind for method, kind, _ in keys if method == name)) for name in controls}
    comparisons = [
        _Comparison(method, kind, control, control_kind, metric)
        for method, kind, metric in keys
        if method in methods
        for control in dict.fromkeys(controls)
        for control_kind in ([kind] if kind in maps[control] else maps[control])
        if (control, control_kind, metric) in keys
    ]
    if not comparisons:
        raise InputError("no method shares a metric with a control")
    return comparisons


def _checked_names(role: str, names: Names, present: list[str]) -> list[str]:
    chosen = as_list(names)
    if not chosen:
        raise InputError(f"{role}s must be a list of names in column 'method', at least one, got {shown(names)}")
    for name in chosen:
        if name not in present:
            raise unknown_name(role, str(name), present)
    return chosen


def _paired(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, int, int]:
    """The images where both are defined, the number of images where either is NaN, and of images that only one has."""
    shared = first.merge(second[["image", "value"]], on="image", suffixes=("", "_control"))
    defined = shared[shared["value"].notna() & shared["value_control"].notna()]
    return defined, len(shared) - len(defined), len(first) + len(second) - 2 * len(shared)


def _by_image(group: pd.DataFrame) -> pd.DataFrame:
    return group.sort_values("image", key=lambda column: column.map(repr))


def _check_cluster(table: pd.DataFrame, cluster: str | None) -> None:
    if cluster is None:
        return
    if cluster not in table.columns:
        raise unknown_name("cluster column", cluster, [str(name) for name in table.columns])
    if table[cluster].isna().any():
        raise InputError(f"column {cluster!r} has missing values; every image needs a cluster")
    labels = table.groupby("image", sort=False)[cluster].nunique()
    if (labels > 1).any():
        raise InputError(f"image {labels.index[labels > 1][0]!r} lies in more than one cluster of {cluster!r}")


def _counted(reasons: list[str]) -> str:
    """``"CAM is constant (3); map is constant (1)"``."""
    counts = sorted(Counter(reasons).items(), key=lambda item: (-item[1], item[0]))
    return "; ".join(f"{reason} ({count})" for reason, count in counts)


def _better(metric: str) -> str:
    if metric not in AGREEMENT_METRICS:
        return ""
    return "higher" if AGREEMENT_METRICS[metric].higher_is_better else "lower"


def _interval_columns(bounds: Interval) -> dict[str, Any]:
    return {
        "low": bounds.low,
        "high": bounds.high,
        "interval": bounds.method,
        "confidence": bounds.confidence,
        "resamples": bounds.resamples,
        "units": bounds.units,
        "seed": bounds.seed,
    }
