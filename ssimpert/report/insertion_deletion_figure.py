"""Insertion and deletion curves, averaged over images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from solvers.validation import as_list
from ssimpert.analysis.comparison.result import Comparison
from ssimpert.analysis.faithfulness.curve import Kind, PixelCurve
from ssimpert.analysis.statistics.bootstrap import CONFIDENCE, Clusters, bootstrap_interval
from ssimpert.errors import InputError, unknown_name
from ssimpert.report.drawing import (
    Array,
    agg_figure,
    caption_lines,
    estimate,
    line_style,
    numbers,
    plain_axes,
    shortened,
)
from ssimpert.report.figure_style import Width, figure_style
from ssimpert.report.names import method_and_map
from ssimpert.validation import check_share

Curves = Mapping[str, Mapping[Kind, PixelCurve]]
"""The name of a map -> its insertion and deletion curves. All curves are of the same images."""

FIGURE_RESAMPLES = 2000
# In inches: the figure, and a panel with its axis and its title, with letters for a screen.
SCREEN_WIDTH, PANEL_HEIGHT = 13.0, 3.6
PANELS: tuple[tuple[Kind, str, str], ...] = (
    ("insertion", "Insertion: higher is better", "share of pixels inserted"),
    ("deletion", "Deletion: lower is better", "share of pixels deleted"),
)


def comparison_curves(comparison: Comparison) -> dict[str, dict[Kind, PixelCurve]]:
    """The curves of every map of a comparison, by the map's name in figures; empty without insertion and deletion."""
    return {
        method_and_map(name, kind): scores.curves
        for name, kinds in comparison.scores.items()
        for kind, scores in kinds.items()
        if scores.curves
    }


def insertion_deletion_figure(
    curves: Curves,
    *,
    controls: Collection[str] = (),
    bands: bool = True,
    clusters: Clusters | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = FIGURE_RESAMPLES,
    seed: int = 0,
    note: str | None = None,
    width: Width = None,
) -> Figure:
    """Mean probability along insertion and deletion, a line for each map, AUC with its interval in the legend.

    Images without a curve are left out. Where some are left out, the legend gives the number of the other images.

    Args:
        curves: see :data:`Curves`; :func:`comparison_curves` makes them from a comparison. The legend has their order.
        controls: the names in ``curves`` that are drawn dashed.
        bands: whether to draw bands (default True). With more than half a dozen maps, bands hide one another.
        clusters: a label for each image; images with the same label are resampled together. Default: each image alone.
        confidence, resamples, seed: of the percentile bootstrap over images, for the AUC and for the bands. The bands
            are pointwise: the mean at each step has its own interval. A single image has no bands.
        note: a sentence below the figure, such as under which conditions the perturbation was made
            (:func:`ssimpert.report.conditions.conditions`).
        width: ``"column"`` or ``"page"`` of a paper, or inches; default 13 inches, for a screen.

    Returns:
        A matplotlib figure on an Agg canvas.

    Raises:
        InputError: there are no curves, a map lacks one of its two curves, numbers of images differ, or a control is
            unknown.
    """
    confidence = check_share("confidence", confidence)
    clusters = None if clusters is None else as_list(clusters)
    count = _check(curves, controls, clusters)
    style = figure_style(width, SCREEN_WIDTH)
    down, across = (2, 1) if style.is_narrow else (1, 2)
    # Panel, labels and title of the axes, and a legend with a line for each map.
    panel_height = (PANEL_HEIGHT + 0.235 * (len(curves) + 1)) * style.scale
    figure = agg_figure((style.width, down * panel_height + 0.4))
    panels: Any = figure.subplots(down, across, sharey=True)
    for axes, (kind, title, label) in zip(panels, PANELS, strict=True):
        for index, (name, pair) in enumerate(curves.items()):
            _line(
                axes,
                name,
                pair[kind],
                line_style(index, control=name in controls, style=style),
                bands=bands,
                clusters=clusters,
                bootstrap_options={"confidence": confidence, "resamples": resamples, "seed": seed},
            )
        axes.set_title(title, fontsize=style.title, fontweight="bold")
        axes.set_xlabel(label, fontsize=style.text)
        axes.set_xlim(0, 1)
        plain_axes(axes, style)
        axes.legend(
            title=f"AUC [{100 * confidence:g}% interval]" if count > 1 else "AUC",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.17),
            fontsize=style.small,
            title_fontsize=style.small,
            frameon=False,
            handlelength=3.2,
        )
    for axes in panels if style.is_narrow else panels[:1]:
        axes.set_ylabel("probability of the class", fontsize=style.text)
    panels[0].set_ylim(bottom=0)
    averaged = "one image" if count == 1 else f"mean over {count} images"
    band_note = f"; bands: pointwise {100 * confidence:g}% bootstrap intervals" if bands and count > 1 else ""
    if note is not None:
        figure.supxlabel(caption_lines(note, style.width - 0.5, style), fontsize=style.small, x=0.01, ha="left")
    heading = caption_lines(f"Lines: {averaged}{band_note}.", style.width - 0.5, style)
    figure.suptitle(heading, fontsize=style.small, x=0.01, ha="left")
    return figure


def _line(
    axes: Axes,
    name: str,
    curve: PixelCurve,
    style: dict[str, Any],
    *,
    bands: bool,
    clusters: Sequence[Any] | None,
    bootstrap_options: dict[str, Any],
) -> None:
    scores, auc, fractions = numbers(curve.scores), numbers(curve.auc), numbers(curve.fractions)
    has_curve = np.asarray(np.isfinite(scores).all(axis=1))
    labels = None if clusters is None else [label for label, has in zip(clusters, has_curve, strict=True) if has]
    count_note = "" if has_curve.all() else f", n = {int(has_curve.sum())}"
    if not has_curve.any():
        axes.plot([], [], label=f"{shortened(name, 50)}: no image has a curve", **style)
        return
    interval = bootstrap_interval(auc[has_curve], clusters=labels, **bootstrap_options)
    text = f"{shortened(name, 50)}: {estimate(float(auc[has_curve].mean()), interval.low, interval.high)}{count_note}"
    axes.plot(
        fractions, scores[has_curve].mean(axis=0), label=text, markevery=_marker_interval(len(fractions)), **style
    )
    if not bands:
        return
    bounds: Array = np.array(
        [
            [(step := bootstrap_interval(column, clusters=labels, **bootstrap_options)).low, step.high]
            for column in scores[has_curve].T
        ]
    )
    if np.isfinite(bounds).all():
        axes.fill_between(fractions, bounds[:, 0], bounds[:, 1], color=style["color"], alpha=0.12, linewidth=0)


def _marker_interval(points: int) -> int:
    """How many points lie between two markers, so that a line has about eight markers."""
    return max(1, points // 8)


def _check(curves: Curves, controls: Collection[str], clusters: Sequence[Any] | None) -> int:
    """Check the arguments; return the number of images."""
    if not curves:
        raise InputError("there are no curves to draw; compare with insertion_deletion=True")
    counts = set()
    for name, pair in curves.items():
        for kind, _, _ in PANELS:
            if kind not in pair:
                raise InputError(f"{name!r} has no {kind} curve; it has {', '.join(pair) or 'none'}")
            counts.add(len(pair[kind].scores))
    if len(counts) > 1:
        raise InputError(f"the curves must be of the same images, got {sorted(counts)} of them")
    (count,) = counts
    for name in controls:
        if name not in curves:
            raise unknown_name("control", name, curves)
    if clusters is not None and len(clusters) != count:
        raise InputError(f"clusters must hold a label for each of the {count} images, got {len(clusters)}")
    return count
