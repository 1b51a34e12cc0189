"""Paired differences against controls as a forest plot."""
# ruff: noqa: RUF001 - the minus sign is drawn

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssimpert.errors import InputError, unknown_name
from ssimpert.report.drawing import (
    LINE_COLOURS,
    agg_figure,
    caption_lines,
    decimal,
    estimate,
    shortened,
)
from ssimpert.report.figure_style import FigureStyle, Width, figure_style
from ssimpert.report.names import method_and_map, metric_name
from ssimpert.report.run_conditions import run_conditions
from ssimpert.validation import check_share

if TYPE_CHECKING:
    import pandas as pd

REQUIRED_COLUMNS = (
    "method",
    "map",
    "control",
    "control_map",
    "metric",
    "better",
    "n",
    "difference",
    "low",
    "high",
    "p_holm",
    "cohens_dz",
    "confidence",
)
# In inches: the figure's width, the height of a line, and the space above, below and between the metrics.
FIGURE_WIDTH, LINE_HEIGHT, SPACE_ABOVE, SPACE_BELOW, SPACE_BETWEEN = 12.5, 0.235, 0.6, 0.85, 0.75
# The height of a further line of the caption.
CAPTION_LINE_HEIGHT = 0.17
# In shares of the width: where the labels end, where the axes end, and where the columns of text begin.
LABELS_END, AXIS_END = 0.29, 0.63
COLUMN_STARTS = {"difference": 0.655, "p (Holm)": 0.845, "d_z": 0.92, "n": 0.97}
# In inches, with letters for a screen: the widths of the columns in narrower figures, and the gap before them.
COLUMN_WIDTHS = {"difference": 1.95, "p (Holm)": 0.85, "d_z": 0.6, "n": 0.35}
NARROW_COLUMN_WIDTHS = {"p (Holm)": 0.85}
COLUMN_GAP, MARGIN, INDENT = 0.2, 0.15, 0.16
POINT_COLOUR = LINE_COLOURS[1]


@dataclass(frozen=True)
class _Layout:
    """Where things stand, in shares of the figure's width, and how many letters labels may have."""

    style: FigureStyle
    labels_end: float
    axis_end: float
    columns: Mapping[str, float]
    heading_letters: int
    label_letters: int


def forest_plot(
    differences: pd.DataFrame, *, metrics: Sequence[str] | None = None, level: float = 0.05, width: Width = None
) -> Figure:
    """Each method's map against each control: mean difference, its interval, Holm's p-value and Cohen's d_z.

    Each metric has a block with its own axis, since metrics have different scales. A block shows the maps in bold, and
    below each map the controls that were subtracted from it. Below them the figure names the sets, windows and steps,
    where the table has them.

    Args:
        differences: the table that :func:`ssimpert.analysis.paired_differences` returned, or rows of it.
        metrics: which metrics, in this order; default: all, in the table's order.
        level: the significance level. A point is filled where the p-value by Holm's correction is below this level, and
            hollow elsewhere.
        width: ``"column"`` or ``"page"`` of a paper, or inches; default 12.5 inches, for a screen. At the width of a
            column only p-values stand beside the axis.

    Returns:
        A matplotlib figure on an Agg canvas.

    Raises:
        InputError: columns are missing, there are no rows, a metric is unknown, or ``level`` is outside (0, 1), or
            the width is out of range.
    """
    missing = [name for name in REQUIRED_COLUMNS if name not in differences.columns]
    if missing:
        raise InputError(f"the table lacks {', '.join(missing)}; forest_plot takes what paired_differences returns")
    level = check_share("level", level)
    present = list(dict.fromkeys(differences["metric"]))
    chosen = present if metrics is None else list(metrics)
    for metric in chosen:
        if metric not in present:
            raise unknown_name("metric", str(metric), present)
    if not chosen:
        raise InputError("there are no differences to draw; the table has no rows, or metrics is empty")

    blocks = [(metric, _lines(differences[differences["metric"] == metric])) for metric in chosen]
    layout = _layout(figure_style(width, FIGURE_WIDTH))
    style, scale = layout.style, layout.style.scale
    block_heights = [scale * LINE_HEIGHT * (len(lines) + 0.6) for _, lines in blocks]
    confidence = float(differences["confidence"].iloc[0])
    captions = [*_caption(confidence, level, layout.columns), run_conditions(differences)]
    folded = [caption_lines(text, style.width - 0.3, style) for text in captions if text]
    caption = "\n".join(folded).replace("d_z:", "$d_z$:")
    space_below = scale * (SPACE_BELOW + CAPTION_LINE_HEIGHT * (len(caption.splitlines()) - 2))
    height = scale * (SPACE_ABOVE + SPACE_BETWEEN * (len(blocks) - 1)) + sum(block_heights) + space_below
    figure = agg_figure((style.width, height), None)
    top = height - scale * SPACE_ABOVE
    for (metric, lines), block_height in zip(blocks, block_heights, strict=True):
        axis_width = layout.axis_end - layout.labels_end
        box = (layout.labels_end, (top - block_height) / height, axis_width, block_height / height)
        _block(figure.add_axes(box), metric, lines, level, layout)
        top -= block_height + scale * SPACE_BETWEEN
    figure.text(MARGIN / style.width, 0.08 / height, caption, fontsize=style.small, va="bottom")
    return figure


def _lines(rows: pd.DataFrame) -> list[tuple[str, dict[str, Any] | None]]:
    """The label and the row of each line. The line that names a map has no row."""
    lines: list[tuple[str, dict[str, Any] | None]] = []
    for (method, kind), group in rows.groupby(["method", "map"], sort=False):
        lines.append((method_and_map(method, kind), None))
        for row in group.to_dict("records"):
            control = (
                row["control"] if row["control_map"] == kind else method_and_map(row["control"], row["control_map"])
            )
            lines.append((f"− {control}", {str(name): value for name, value in row.items()}))
    return lines


def _block(
    axes: Axes, metric: str, lines: list[tuple[str, dict[str, Any] | None]], level: float, layout: _Layout
) -> None:
    transform = axes.get_yaxis_transform()  # x in shares of the axes, y in lines
    start, width = axes.get_position().x0, axes.get_position().width
    style, margin = layout.style, MARGIN / layout.style.width

    def write(x: float, line: float, text: str, **more: Any) -> None:
        """Write ``text`` at ``x``, in shares of the figure's width, on a line."""
        options: dict[str, Any] = {"fontsize": style.small, "va": "center", "clip_on": False} | more
        axes.text((x - start) / width, line, text, None, transform=transform, **options)

    better = {row["better"] for _, row in lines if row is not None}
    direction = f" ({better.pop()} is closer)" if better in ({"higher"}, {"lower"}) else ""
    write(margin, -1.45, metric_name(metric) + direction, fontsize=style.title, fontweight="bold")
    for name, start_of_column in layout.columns.items():
        write(start_of_column, -1.35, "$d_z$" if name == "d_z" else name, fontsize=style.text)
    for line, (label, row) in enumerate(lines):
        if row is None:
            # This line has no point, so its text may reach into the axes.
            backing = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
            write(margin, line, shortened(label, layout.heading_letters), fontweight="bold", zorder=3, bbox=backing)
            continue
        write(margin + INDENT / layout.style.width * style.scale, line, shortened(label, layout.label_letters))
        _point(axes, line, row, level, style)
        cells = {
            "difference": estimate(float(row["difference"]), float(row["low"]), float(row["high"])),
            "p (Holm)": _p_value(float(row["p_holm"])),
            "d_z": decimal(float(row["cohens_dz"])),
            "n": str(int(row["n"])),
        }
        for name, start_of_column in layout.columns.items():
            write(start_of_column, line, cells[name])
    axes.axvline(0, color="black", linewidth=0.8, zorder=0)
    axes.set_ylim(len(lines) - 0.4, -0.8)
    axes.set_yticks([])
    axes.tick_params(axis="x", labelsize=style.small)
    axes.locator_params(axis="x", nbins=4 if style.is_narrow else 6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.margins(x=0.06)


def _point(axes: Axes, line: int, row: dict[str, Any], level: float, style: FigureStyle) -> None:
    difference, low, high = (float(row[name]) for name in ("difference", "low", "high"))
    if math.isnan(difference):
        return
    if not math.isnan(low) and not math.isnan(high):
        axes.plot([low, high], [line, line], color=POINT_COLOUR, linewidth=style.line, solid_capstyle="butt", zorder=1)
    significant = float(row["p_holm"]) < level  # NaN is not significant
    face = POINT_COLOUR if significant else "white"
    axes.plot(
        [difference], [line], "o", color=POINT_COLOUR, markerfacecolor=face, markersize=1.3 * style.marker, zorder=2
    )


def _p_value(value: float) -> str:
    if math.isnan(value):
        return "n/a"
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _caption(confidence: float, level: float, columns: Collection[str]) -> tuple[str, str]:
    points = (
        f"Points: mean over images of the map in bold minus the control below it; bars: {100 * confidence:g}% "
        "bootstrap intervals."
    )
    filled = f"Filled: p < {level:g} after Holm's correction over all comparisons of the table."
    effect = " d_z: Cohen's effect size of paired differences; n: images." if "d_z" in columns else ""
    return points, filled + effect


def _layout(style: FigureStyle) -> _Layout:
    """The columns that the width has room for. At the width of a screen they are at their usual places."""
    if style.width >= FIGURE_WIDTH:
        return _Layout(style, LABELS_END, AXIS_END, COLUMN_STARTS, heading_letters=60, label_letters=40)
    inches = NARROW_COLUMN_WIDTHS if style.is_narrow else COLUMN_WIDTHS
    right, starts = style.width - MARGIN, {}
    for name, column in reversed(inches.items()):
        right -= column * style.scale
        starts[name] = right / style.width
    labels_end = (0.46 if style.is_narrow else LABELS_END) * style.width
    return _Layout(
        style,
        labels_end / style.width,
        (right - COLUMN_GAP * style.scale) / style.width,
        dict(reversed(starts.items())),
        heading_letters=style.letters(right - MARGIN),
        label_letters=style.letters(labels_end - MARGIN - INDENT),
    )
