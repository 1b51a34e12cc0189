"""Insertion and deletion curves, averaged over images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssimpert.analysis.comparison.result import Comparison
from ssimpert.analysis.faithfulness.curve import Kind, PixelCurve
from ssimpert.analysis.statistics.bootstrap import CONFIDENCE, bootstrap_interval
from ssimpert.errors import InputError, unknown_name
from ssimpert.report.drawing import (
    SMALL_SIZE,
    TEXT_SIZE,
    TITLE_SIZE,
    Array,
    agg_figure,
    estimate,
    line_style,
    numbers,
    plain_axes,
    shortened,
)
from ssimpert.report.names import method_and_map

Curves = Mapping[str, Mapping[Kind, PixelCurve]]
"""A map's name -> its insertion and its deletion, over the same images for all."""

RESAMPLES = 2000
PANELS: tuple[tuple[Kind, str, str], ...] = (
    ("insertion", "Insertion: higher is better", "share of pixels inserted"),
    ("deletion", "Deletion: lower is better", "share of pixels deleted"),
)


def comparison_curves(comparison: Comparison) -> dict[str, dict[Kind, PixelCurve]]:
    """The curves of every map of a comparison that ran insertion and deletion, by the names that figures use."""
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
    clusters: Sequence[Any] | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Figure:
    """Mean probability along insertion and deletion, a line for each map, AUC with its interval in the legend.

    Args:
        curves: see :data:`Curves`; :func:`comparison_curves` makes them of a comparison. The legend keeps their order.
        controls: names in ``curves`` that are drawn dashed.
        bands: whether to draw the bands; beyond half a dozen maps they hide one another.
        clusters: a label for each image; images that share one are resampled together.
        confidence, resamples, seed: of the bootstrap over images (percentile), for the AUC and for the bands. The bands
            are pointwise: each step's mean has its own interval. From a single image there are none.

    Images without a curve are left out; where there are any, the legend gives the number of images that remain.

    Raises:
        InputError: no curves, a map without both, different numbers of images, an unknown control.
    """
    count = _check(curves, controls, clusters)
    figure = agg_figure((13, 4.0 + 0.235 * len(curves)))
    panels: Any = figure.subplots(1, 2, sharey=True)
    for axes, (kind, title, label) in zip(panels, PANELS, strict=True):
        for place, (name, both) in enumerate(curves.items()):
            _line(
                axes,
                name,
                both[kind],
                line_style(place, control=name in controls),
                bands=bands,
                clusters=clusters,
                options={"confidence": confidence, "resamples": resamples, "seed": seed},
            )
        axes.set_title(title, fontsize=TITLE_SIZE, fontweight="bold")
        axes.set_xlabel(label, fontsize=TEXT_SIZE)
        axes.set_xlim(0, 1)
        plain_axes(axes)
        axes.legend(
            title=f"AUC [{100 * confidence:g}% interval]" if count > 1 else "AUC",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.17),
            fontsize=SMALL_SIZE,
            title_fontsize=SMALL_SIZE,
            frameon=False,
            handlelength=3.2,
        )
    panels[0].set_ylabel("probability of the class", fontsize=TEXT_SIZE)
    panels[0].set_ylim(bottom=0)
    over = "one image" if count == 1 else f"mean over {count} images"
    drawn = f"; bands: pointwise {100 * confidence:g}% bootstrap intervals" if bands and count > 1 else ""
    figure.suptitle(f"Lines: {over}{drawn}.", fontsize=SMALL_SIZE, x=0.01, ha="left")
    return figure


def _line(
    axes: Axes,
    name: str,
    curve: PixelCurve,
    style: dict[str, Any],
    *,
    bands: bool,
    clusters: Sequence[Any] | None,
    options: dict[str, Any],
) -> None:
    scores, auc, fractions = numbers(curve.scores), numbers(curve.auc), numbers(curve.fractions)
    sound = np.asarray(np.isfinite(scores).all(axis=1))
    kept = None if clusters is None else [label for label, good in zip(clusters, sound, strict=True) if good]
    missing = "" if sound.all() else f", n = {int(sound.sum())}"
    if not sound.any():
        axes.plot([], [], label=f"{shortened(name, 50)}: no image has a curve", **style)
        return
    interval = bootstrap_interval(auc[sound], clusters=kept, **options)
    text = f"{shortened(name, 50)}: {estimate(float(auc[sound].mean()), interval.low, interval.high)}{missing}"
    axes.plot(fractions, scores[sound].mean(axis=0), label=text, markevery=_every(len(fractions)), **style)
    if not bands:
        return
    bounds: Array = np.array(
        [[(b := bootstrap_interval(step, clusters=kept, **options)).low, b.high] for step in scores[sound].T]
    )
    if np.isfinite(bounds).all():
        axes.fill_between(fractions, bounds[:, 0], bounds[:, 1], color=style["color"], alpha=0.12, linewidth=0)


def _every(points: int) -> int:
    """About eight markers a line."""
    return max(1, points // 8)


def _check(curves: Curves, controls: Collection[str], clusters: Sequence[Any] | None) -> int:
    """The number of images."""
    if not curves:
        raise InputError("there are no curves to draw; compare with insertion_deletion=True")
    counts = set()
    for name, both in curves.items():
        for kind, _, _ in PANELS:
            if kind not in both:
                raise InputError(f"{name!r} has no {kind} curve; it has {', '.join(both) or 'none'}")
            counts.add(len(both[kind].scores))
    if len(counts) > 1:
        raise InputError(f"the curves must be of the same images, got {sorted(counts)} of them")
    (count,) = counts
    for name in controls:
        if name not in curves:
            raise unknown_name("control", name, curves)
    if clusters is not None and len(clusters) != count:
        raise InputError(f"clusters must hold a label for each of the {count} images, got {len(clusters)}")
    return count
