"""A figure of how the agreement changes with the level of the constraint set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from solvers.validation import as_list, shown
from ssimpert.analysis.map_agreement.metrics import AGREEMENT_METRICS
from ssimpert.analysis.statistics.bootstrap import CONFIDENCE, RESAMPLES
from ssimpert.analysis.statistics.summaries import summarize
from ssimpert.analysis.statistics.table import FAMILY_COLUMNS, split_hint
from ssimpert.errors import InputError, unknown_name
from ssimpert.escaping import figure_text
from ssimpert.report.drawing import (
    agg_figure,
    caption_lines,
    line_style,
    plain_axes,
    shortened,
)
from ssimpert.report.figure_style import Width, figure_style
from ssimpert.report.names import method_and_map, metric_name
from ssimpert.report.run_conditions import run_conditions
from ssimpert.validation import Names, check_share

if TYPE_CHECKING:
    import pandas as pd

MAX_LEGEND_ROWS = 6
# In inches, with letters for a screen.
LEAST_PANEL_WIDTH = 3.6
# Metrics on one scale, whose panels can be compared by eye.
CORRELATIONS = ("pearson", "spearman")


def agreement_against_level_figure(
    table: pd.DataFrame,
    *,
    level: str = "level",
    level_name: str | None = None,
    metrics: Names = ("pearson", "spearman"),
    maps: Names | None = None,
    controls: Names = (),
    cluster: str | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    width: Width = None,
) -> Figure:
    """Mean agreement with its bootstrap interval against the level: a panel for each metric, a line for each map.

    The points of one level stand a little beside each other, since their intervals would hide one another. A mean over
    no images leaves a gap in its line. Above the panels the figure names the sets, windows and steps of the table.

    Args:
        table: the per-image tables (:mod:`ssimpert.analysis.statistics.table`) of all levels together, with the level
            as a further column of finite numbers. Within a level, each image, method, map and metric occurs once.
        level: the name of that column. The column ``level`` of comparisons (the default) must be of one family of sets:
            a threshold of SSIM and a radius have no axis in common. For several families split the table, or give
            a column of your own that is the same measure for all, such as the mean SSIM.
        level_name: what the axis calls the level; default the table's ``level_unit``, or the column's name.
        metrics: which metrics, a panel for each.
        maps: which kinds of map; default all. Methods that make a single map (controls of the image alone) are always
            drawn.
        controls: the methods that are drawn dashed.
        cluster, confidence, resamples, seed: as in :func:`ssimpert.analysis.summarize`, for each level separately.
        width: ``"column"`` or ``"page"`` of a paper, or inches; default 6 inches for each metric, for a screen.

    Returns:
        A matplotlib figure on an Agg canvas.

    Raises:
        InputError: a column, metric, map or control does not exist, a level isn't a finite number, or levels are of
            several families.
    """
    confidence = check_share("confidence", confidence)
    unit = _unit_of_level(table, level)
    summary = _summaries(table, level, cluster, confidence, resamples, seed)
    metrics = _checked_names("metric", metrics, summary["metric"])
    controls = _checked_names("control", controls, summary["method"])
    chosen = _rows_of_maps(summary, maps)
    lines = list(dict.fromkeys(zip(chosen["method"], chosen["map"], strict=True)))
    levels = sorted(set(chosen[level]))

    style = figure_style(width, max(6.0 * len(metrics), 7.5))
    across = min(len(metrics), max(1, int(style.width / (LEAST_PANEL_WIDTH * style.scale))))
    down = math.ceil(len(metrics) / across)
    columns = 1 if len(lines) <= MAX_LEGEND_ROWS or across == 1 else 2
    height = (3.8 * down + 0.4 + 0.24 * math.ceil(len(lines) / columns)) * style.scale
    figure = agg_figure((style.width, height))
    panels: Any = figure.subplots(down, across, squeeze=False).ravel()
    for unused in panels[len(metrics) :]:
        unused.set_visible(False)
    for axes, metric in zip(panels, metrics, strict=False):
        rows = chosen[chosen["metric"] == metric]
        for index, (method, kind) in enumerate(lines):
            line = rows[(rows["method"] == method) & (rows["map"] == kind)].set_index(level).reindex(levels)
            drawn = line_style(index, control=method in controls, style=style)
            mean, low, high = (line[name].to_numpy(dtype=float) for name in ("mean", "low", "high"))
            positions = np.array(levels) + (index - (len(lines) - 1) / 2) * _offset(levels, len(lines))
            axes.plot(positions, mean, label=shortened(method_and_map(method, kind), 60), **drawn)
            axes.vlines(positions, low, high, color=drawn["color"], linewidth=0.75 * style.line)
        axes.set_title(metric_name(metric), fontsize=style.title, fontweight="bold")
        axes.set_xlabel(figure_text(unit) if level_name is None else level_name, fontsize=style.text)
        axes.set_ylabel(_direction(metric), fontsize=style.text)
        plain_axes(axes, style)
    _share_correlations(dict(zip(metrics, panels, strict=False)))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower left", fontsize=style.small, frameon=False, handlelength=3.6, ncols=columns
    )
    dashed = "Dashed: controls." if controls else ""
    images = table["image"].nunique()
    note = f"Means over {images} images with {100 * confidence:g}% bootstrap intervals, side by side at each level. "
    lines_above = [caption_lines(text, style.width - 0.5, style) for text in (note + dashed, run_conditions(table))]
    figure.suptitle("\n".join(filter(None, lines_above)), fontsize=style.small, x=0.01, ha="left")
    return figure


def _summaries(
    table: pd.DataFrame, level: str, cluster: str | None, confidence: float, resamples: int, seed: int
) -> pd.DataFrame:
    import pandas as pd

    if level not in table.columns:
        raise unknown_name("level column", level, [str(name) for name in table.columns])
    values = pd.to_numeric(table[level], errors="coerce")
    if len(table) == 0 or not np.isfinite(values).all():
        fault = "no rows" if len(table) == 0 else repr(table[level][~np.isfinite(values)].iloc[0])
        raise InputError(f"column {level!r} must hold finite numbers, got {fault}")
    parts = []
    for value, part in table.groupby(values, sort=True):
        summary = summarize(part, cluster=cluster, confidence=confidence, resamples=resamples, seed=seed)
        parts.append(summary.assign(**{level: value}))
    return pd.concat(parts, ignore_index=True)


def _unit_of_level(table: pd.DataFrame, level: str) -> str:
    """What the levels are.

    Raises:
        InputError: levels of several families of sets.
    """
    if level != "level" or "level_unit" not in table.columns:
        return level
    names = [name for name in FAMILY_COLUMNS if name in table.columns]
    families = table[names].fillna("").drop_duplicates()
    if "luminance" in names:  # a bound in numbers may grow with the level
        families = families.assign(luminance=families["luminance"].map(_kind_of_luminance)).drop_duplicates()
    units = list(families["level_unit"])
    if len(families) > 1 and any(units):  # without units the levels are the caller's own
        raise InputError(
            "levels of different families of sets have no axis in common"
            + split_hint(families)
            + ", and draw a figure of each part"
        )
    return (units[0] if units else "") or level


def _kind_of_luminance(luminance: object) -> str:
    text = str(luminance)
    return text if text in ("", "split", "preserve") else "a number"


def _rows_of_maps(summary: pd.DataFrame, maps: Names | None) -> pd.DataFrame:
    if maps is None:
        return summary
    chosen = _checked_names("map", maps, summary["map"])
    single = summary.groupby("method")["map"].transform("nunique") == 1
    return summary[summary["map"].isin(chosen) | single]


def _offset(levels: Sequence[float], lines: int) -> float:
    """The distance between the points of neighbouring lines: small, and never so large that levels overlap."""
    gaps = np.diff(levels)
    return 0.0 if len(gaps) == 0 else min(0.008 * float(gaps.sum()), 0.6 * float(gaps.min()) / lines)


def _share_correlations(panels: Mapping[str, Any]) -> None:
    """One range of the axis for both correlations."""
    chosen = [axes for metric, axes in panels.items() if metric in CORRELATIONS]
    if chosen:
        ranges = [axes.get_ylim() for axes in chosen]
        for axes in chosen:
            axes.set_ylim(min(low for low, _ in ranges), max(high for _, high in ranges))


def _direction(metric: str) -> str:
    if metric not in AGREEMENT_METRICS:
        return "mean"
    return f"mean ({'higher' if AGREEMENT_METRICS[metric].higher_is_better else 'lower'} is closer)"


def _checked_names(kind: str, names: Names, column: pd.Series) -> list[str]:
    chosen = as_list(names)
    if chosen is None or (not chosen and kind != "control"):
        raise InputError(f"{kind}s must be a list of names, at least one, got {shown(names)}")
    for name in chosen:
        if name not in set(column):
            raise unknown_name(kind, str(name), sorted(set(column)))
    return chosen
