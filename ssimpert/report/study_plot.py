"""Figures of studies: a value against the level of each family, or against a distance that all families have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssimpert.analysis.statistics.bootstrap import CONFIDENCE
from ssimpert.report.drawing import (
    agg_figure,
    caption_lines,
    line_style,
    plain_axes,
    shortened,
)
from ssimpert.report.figure_style import Width, figure_style
from ssimpert.study.outputs.curves import LEVEL, Curve, curves, with_families
from ssimpert.study.outputs.results import StudyResults
from ssimpert.study.outputs.values import unit_values

PANEL_WIDTH, PANEL_HEIGHT = 3.6, 2.9
LEAST_PANEL_WIDTH = 2.3
MAX_PANELS_A_ROW = 3


def study_figure(
    results: StudyResults,
    value: str,
    *,
    against: str = LEVEL,
    confidence: float = CONFIDENCE,
    width: Width = None,
    seed: int = 0,
) -> Figure:
    """A value with its bootstrap intervals against the level, or against a common distance.

    Against the level, every family of sets has a panel, since a level belongs to its family. Against a common distance
    all families share one panel for each model; between levels a curve is interpolated, and it ends at its last level.

    Args:
        results: of a study.
        value: such as ``"rms.pearson"``; see :func:`ssimpert.study.outputs.values.unit_values`.
        against: ``"level"``, or a value that all families share, such as ``"one_minus_ssim"``.
        confidence: of the intervals.
        width: ``"column"`` or ``"page"`` of a paper, or inches, at least 3; default: 3.6 inches for each of up to three
            panels in a row, for a screen.
        seed: of the bootstrap.

    Returns:
        A matplotlib figure on an Agg canvas. Lines differ in colour, marker and dashes.

    Raises:
        InputError: an unknown value, no family with a number, or a width out of range.
    """
    figure_style(width, PANEL_WIDTH)  # a width that is out of range is refused before any curve is made
    found = curves(results, value, against=against, confidence=confidence, seed=seed)
    title = unit_values(results, value).title
    lines = list(dict.fromkeys(_line(curve, against) for curve in found))
    panels = list(dict.fromkeys(_panel(curve, against) for curve in found))
    style = figure_style(width, max(PANEL_WIDTH * min(len(panels), MAX_PANELS_A_ROW), 4.5))
    across = min(len(panels), MAX_PANELS_A_ROW, max(1, int(style.width // LEAST_PANEL_WIDTH)))
    down = math.ceil(len(panels) / across)
    figure = agg_figure((style.width, PANEL_HEIGHT * down + (0.25 * len(lines) + 0.7) * style.scale))
    axes: Any = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for panel, one in zip(panels, axes, strict=False):
        inside = [curve for curve in found if _panel(curve, against) == panel]
        for curve in inside:
            _draw(
                one,
                curve,
                line_style(lines.index(_line(curve, against)), control=False, style=style),
                _line(curve, against),
            )
        one.set_title(shortened(panel, 44), fontsize=style.title - style.scale)
        one.set_xlabel(
            shortened(inside[0].unit or "level", 40) if against == LEVEL else unit_values(results, against).title,
            fontsize=style.text,
        )
        plain_axes(one, style)
    for one in axes[len(panels) :]:
        one.set_visible(False)
    for row in range(down):
        axes[row * across].set_ylabel(shortened(title, 48), fontsize=style.text)
    handles: dict[str, Any] = {}
    for one in axes[: len(panels)]:
        handles |= dict(zip(*reversed(one.get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower left",
        fontsize=style.small,
        frameon=False,
        handlelength=3.6,
    )
    figure.suptitle(
        caption_lines(_note(results, value, found, confidence), style.width, style),
        fontsize=style.small,
        x=0.01,
        ha="left",
    )
    return figure


def _draw(axes: Axes, curve: Curve, style: dict[str, Any], label: str) -> None:
    colour = style["color"]
    axes.plot(curve.at, curve.mean, label=shortened(label, 60), **style)
    axes.vlines(curve.at, curve.low, curve.high, color=colour, linewidth=1.2)
    if len(curve.grid):
        known = np.isfinite(curve.grid_low)
        axes.fill_between(curve.grid[known], curve.grid_low[known], curve.grid_high[known], color=colour, alpha=0.15)


def _line(curve: Curve, against: str) -> str:
    return curve.model if against == LEVEL else curve.family


def _panel(curve: Curve, against: str) -> str:
    return curve.family if against == LEVEL else curve.model


def _note(results: StudyResults, value: str, found: Sequence[Curve], confidence: float) -> str:
    counts = sorted({curve.images for curve in found})
    images = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    families = dict.fromkeys(with_families(unit_values(results, value).frame)["family"])
    missing = [name for name in families if name not in {curve.family for curve in found}]
    most_left_out = max(curve.left_out for curve in found)
    notes = (
        results.first_line() if results.counts.is_partial else "",
        f"{results.name}: means over {images} images, {100 * confidence:g}% bootstrap intervals",
        "A single image has no interval" if counts[0] < 2 else "",
        f"Up to {most_left_out} images without a number at every level of a curve left out" if most_left_out else "",
        f"Not drawn, for want of levels or numbers: {', '.join(missing)}" if missing else "",
    )
    return ". ".join(filter(None, notes)) + "."
