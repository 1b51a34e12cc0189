"""One figure for one image: the perturbation, where the classifier looks, and how far the two agree."""
# ruff: noqa: RUF001 - the minus and multiplication signs and the sigma are drawn

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

import solvers
from ssimpert.analysis.comparison.maps import GRADIENT_MAGNITUDE, LOCAL_STD
from ssimpert.analysis.comparison.result import AgreementRow, Comparison
from ssimpert.analysis.map_agreement.agreement import TOP_SHARE
from ssimpert.atomic_files import write_atomically
from ssimpert.display_scales import amplification
from ssimpert.errors import InputError
from ssimpert.escaping import figure_text
from ssimpert.perturbation.results import PerturbResult
from ssimpert.report.conditions import conditions
from ssimpert.report.drawing import (
    MINUS,
    Array,
    agg_figure,
    caption_lines,
    check_drawable,
    check_image_index,
    decimal,
    heat_map,
    numbers,
    overlay,
    pixels,
    shortened,
)
from ssimpert.report.figure_style import FigureStyle, Width, figure_style
from ssimpert.report.names import CAM_NAMES, map_name
from ssimpert.validation import check_positive

FORMATS = (".png", ".svg", ".pdf")
# In inches: the width on a screen, and the heights of the pictures and of the bars with the caption.
SCREEN_WIDTH, SCREEN_HEIGHTS = 12.0, (9.07, 3.33)
# Dark, middle and light, which differ in every kind of colour vision, and in grey.
PERTURBATION_COLOUR, CONTROL_COLOUR, IMAGE_COLOUR = "#31446b", "#8a8779", "#d2bb4e"
Metric = Literal["pearson", "spearman", "top20_iou"]
METRICS: tuple[tuple[Metric, str], ...] = (
    ("pearson", "Pearson correlation"),
    ("spearman", "Spearman correlation"),
    ("top20_iou", "IoU of the top 20% of pixels"),
)


def comparison_figure(
    image: Tensor,
    result: PerturbResult,
    comparison: Comparison,
    index: int = 0,
    labels: Sequence[str] | None = None,
    *,
    width: Width = None,
) -> Figure:
    """The figure of one image of a comparison, on a screen 12 inches wide (1200 pixels at 100 dpi).

    The first row shows the photo, the perturbed photo, and the amplified perturbation d (grey means no change). The
    second row shows the class activation map over the photo, the 1 - SSIM map and the rms map. The outline of the class
    activation map's highest 20% is drawn on all three. The bars below show how far other maps agree with the class
    activation map: the maps of the perturbation and of its control, the gradient's magnitude, and the local deviation.

    Args:
        image: the clean images (B, C, H, W) in [0, 1], C = 1 or 3.
        result: the perturbation of ``image``.
        comparison: what :func:`ssimpert.analysis.comparison.compare.compare` found for them.
        index: which image of the batch, from 0.
        labels: class names; ``None`` shows class numbers.
        width: ``"column"`` or ``"page"`` of a paper, or inches; default 12 inches. At the width of a column the
            pictures stand in two columns, and the bars show the Pearson correlation alone.

    Returns:
        A matplotlib figure on an Agg canvas; pyplot's global state is neither used nor changed.

    Raises:
        InputError: there is no such image in the batch, a width is out of range, or images are neither grey nor RGB.
    """
    index = check_image_index(index, image.shape[0])
    check_drawable(image)
    clean, perturbed = pixels(image[index]), pixels(result.adversarial[index])
    maps = comparison.maps[comparison.perturbation]
    cam = numbers(comparison.cam[index])

    style = figure_style(width, SCREEN_WIDTH)
    across = 2 if style.is_narrow else 3
    metrics = METRICS[:1] if style.is_narrow else METRICS
    drawn = _drawn(comparison)
    rows = [row for row in comparison.records if row["image"] == index and row["perturbation"] in drawn]
    pad = 0.08 * style.scale
    engine = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, hspace=0.0, wspace=0.02, rect=(0.004, 0.004, 0.992, 0.988))
    heights = SCREEN_HEIGHTS if width is None else _heights(style, across, image.shape[-2] / image.shape[-1], len(rows))
    figure = agg_figure((style.width, sum(heights)), engine)
    subfigures: Any = figure.subfigures(2, 1, height_ratios=heights)
    pictures, agreements = subfigures
    panels = pictures.subplots(6 // across, across, height_ratios=(1.0, 1.1) if across == 3 else None).ravel()

    before = _class_name(int(result.label_before[index]), labels)
    after = _class_name(int(result.label_after[index]), labels)
    margins = float(result.margin_before[index]), float(result.margin_after[index])
    factor = amplification(perturbed - clean)
    _picture(panels[0], clean, f"Photo: {before}", f"margin {_signed(margins[0])}", style)
    _picture(panels[1], perturbed, f"Perturbed: {after}", f"margin {_signed(margins[1])}", style)
    _picture(
        panels[2],
        np.clip(0.5 + factor * (perturbed - clean), 0, 1),
        f"Perturbation d, amplified ×{factor:g}",
        f"l2 norm {np.linalg.norm(numbers(result.delta[index])):.3g},  {_distance(result, index)}",
        style,
    )
    cam_name = CAM_NAMES[comparison.cam_name]
    explained = _class_name(int(comparison.cam_target[index]), labels)
    _overlay(panels[3], clean, cam, f"{cam_name}: {explained}", figure_text(f"layer {comparison.cam_layer}"), style)
    _map(
        panels[4],
        numbers(maps["ssim"][index]),
        cam,
        "1 − SSIM map",
        f"mean SSIM {_index(result.ssim[index])},  least window {_index(result.min_window_ssim[index])}",
        style,
    )
    rms_map = numbers(maps["rms"][index])
    _map(panels[5], rms_map, cam, "rms of d, smoothed", "σ = 2 px,  in units of the pixel range", style)

    widths = [0.62 if across == 3 else 0.8, *[1.0] * len(metrics)]
    bars = agreements.subplots(1, 1 + len(metrics), sharey=True, width_ratios=widths)
    _agreement_panels(bars, metrics, rows, comparison, style)
    agreements.suptitle(f"Agreement with {cam_name}", fontsize=style.title, fontweight="bold", x=0.012, ha="left")
    caption = _caption(rows, cam_name, result, metrics)
    lines = "\n".join(caption_lines(text, style.width - 0.5, style) for text in caption)
    agreements.supxlabel(lines, fontsize=style.small, x=0.012, ha="left")
    return figure


def save_figure(figure: Figure, path: str | Path, *, dpi: float = 100) -> None:
    """Write ``figure`` as .png, .svg or .pdf, as the ending of ``path`` says.

    ``dpi`` is for .png. The default 100 makes :func:`comparison_figure` 1200 pixels wide. No date and no random
    identifier is written. Files of equal figures differ at most in the last digits of their layout, since matplotlib's
    constraint solver is not deterministic to rounding. The file appears whole or not at all.

    Raises:
        InputError: another ending, a ``dpi`` that is not positive, or the file can't be written.
    """
    dpi = check_positive("dpi", dpi)
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise InputError(f"figure {str(path)!r} must end in {', '.join(FORMATS)}")
    metadata: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(ending, {})
    content = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "ssimpert", "pdf.fonttype": 42}):
        figure.savefig(content, format=ending[1:], dpi=dpi, metadata=metadata)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise InputError(f"can't write figure {str(path)!r}: {error.strerror or error}") from error


def _drawn(comparison: Comparison) -> tuple[str, ...]:
    """The methods that get bars. :func:`ssimpert.report.map_grid` shows longer lists of methods."""
    control = () if comparison.control is None else (comparison.control.name,)
    return (comparison.perturbation, *control, GRADIENT_MAGNITUDE, LOCAL_STD)


def _distance(result: PerturbResult, index: int) -> str:
    """d2 and, for a ball of d2 around the current image, what d2 may add up to: the radius times the steps taken."""
    distance = f"{float(result.contrast_distance[index]):.3g}"
    if not (result.settings.get("recentred") and isinstance(result.constraint, solvers.GlobalSSIM)):
        return f"contrast distance {distance}"
    steps = int(result.steps[index])
    return f"d2 {distance} (≤ {steps}×{result.constraint.distance:g})"


def _caption(
    rows: list[AgreementRow], cam_name: str, result: PerturbResult, metrics: Sequence[tuple[Metric, str]]
) -> list[str]:
    texts = [
        f"{result.name}: {conditions(result)}.",
        f"Margin: difference of logits, positive once the goal is reached. Outline: the top 20% of {cam_name}.",
        "Dashed: the overlap expected of unrelated maps." if len(metrics) > 1 else "",
    ]
    if any(math.isnan(row[metric]) for row in rows for metric, _ in metrics):
        texts[2] += f" n/a: {cam_name} or the map is constant."
    return [text for text in texts if text]


def _heights(style: FigureStyle, across: int, aspect: float, bars: int) -> tuple[float, float]:
    """In inches: the pictures with their titles and scales, and below them a line for each bar and the caption."""
    texts = 1.35 if style.is_narrow else 1.1
    picture = 0.8 * aspect * style.width / across + texts * style.scale
    caption = 2.4 if style.is_narrow else 1.6
    return (6 // across) * picture, style.scale * (caption + 0.18 * (bars + 4))


def _picture(axes: Axes, pixels: Array, title: str, detail: str, style: FigureStyle) -> None:
    axes.imshow(pixels, interpolation="nearest")
    _decorate(axes, title, detail, style)


def _overlay(axes: Axes, picture: Array, cam: Array, title: str, detail: str, style: FigureStyle) -> None:
    heat = overlay(axes, picture, cam)
    _decorate(axes, title, detail, style)
    _scale(axes, heat, style)


def _map(axes: Axes, values: Array, cam: Array, title: str, detail: str, style: FigureStyle) -> None:
    heat = heat_map(axes, values, cam)
    _decorate(axes, title, detail, style)
    _scale(axes, heat, style)


def _decorate(axes: Axes, title: str, detail: str, style: FigureStyle) -> None:
    if style.is_narrow:
        room = style.letters(0.42 * style.width)
        title, detail = ("\n".join(textwrap.wrap(text, room)) for text in (title, detail))
    above = (1.2 * (detail.count("\n") + 1) + 0.8) * style.text
    axes.set_title(title, fontsize=style.title, fontweight="bold", pad=above)
    axes.text(0.5, 1.015, detail, transform=axes.transAxes, ha="center", va="bottom", fontsize=style.text)
    axes.set_xticks([])
    axes.set_yticks([])


def _scale(axes: Axes, heat: Any, style: FigureStyle) -> None:
    bar = axes.figure.colorbar(heat, ax=axes, location="bottom", fraction=0.05, pad=0.03, aspect=30)
    bar.ax.tick_params(labelsize=style.small)
    bar.ax.locator_params(nbins=2 if style.is_narrow else 4)
    bar.outline.set_visible(False)


def _agreement_panels(
    panels: Any,
    metrics: Sequence[tuple[Metric, str]],
    rows: list[AgreementRow],
    comparison: Comparison,
    style: FigureStyle,
) -> None:
    """Draw bars in groups, one for each perturbation: names in the first panel, then a panel for each metric."""
    names = [comparison.perturbation, *([] if comparison.control is None else [comparison.control.name])]
    colours = dict(zip(names, (PERTURBATION_COLOUR, CONTROL_COLOUR), strict=False))
    groups = [(name, [row for row in rows if row["perturbation"] == name]) for name in names]
    image_alone = [row for row in rows if row["perturbation"] not in names]
    groups.append(("no perturbation", image_alone))

    table, *metric_panels = panels
    table.set_axis_off()
    positions: list[tuple[float, AgreementRow]] = []
    position = 0.0
    for name, members in groups:
        # A group's name may reach into the next panel, since its line has no bars.
        table.text(0, position, shortened(name, 60), va="center", fontsize=style.text, fontweight="bold")
        for row in members:
            position += 1
            table.text(0.1, position, map_name(row["map"]), va="center", fontsize=style.text)
            positions.append((position, row))
        position += 1.3
    table.set_ylim(position - 0.6, -0.6)

    # The two correlations share an axis, so that their bars can be compared.
    correlations = [row[metric] for row in rows for metric in ("pearson", "spearman") if not math.isnan(row[metric])]
    lowest = min(-0.25, *(math.floor(4 * value) / 4 for value in correlations), 0)
    for axes, (metric, title) in zip(metric_panels, metrics, strict=True):
        low = 0.0 if metric == "top20_iou" else lowest
        for row_position, row in positions:
            _bar(axes, row_position, row[metric], colours.get(row["perturbation"], IMAGE_COLOUR), style)
        if metric == "top20_iou":
            chance = TOP_SHARE / (2 - TOP_SHARE)
            axes.axvline(chance, color="black", linewidth=1, linestyle=(0, (4, 3)))
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlim(low, 1.15)
        axes.set_xticks([tick for tick in (-1, -0.5, 0, 0.5, 1) if tick >= low])
        axes.set_title(title, fontsize=style.title)
        axes.tick_params(axis="x", labelsize=style.small)
        axes.tick_params(axis="y", length=0, labelleft=False)
        axes.spines[["top", "right", "left"]].set_visible(False)


def _bar(axes: Axes, position: float, value: float, colour: str, style: FigureStyle) -> None:
    if math.isnan(value):
        text, end = "n/a", 0.0
    else:
        axes.barh(position, value, height=0.75, color=colour)
        text, end = decimal(value), max(value, 0.0)
    backing = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    axes.text(end + 0.025, position, text, va="center", fontsize=style.small, bbox=backing)


def _class_name(index: int, labels: Sequence[str] | None) -> str:
    if labels is None:
        return f"class {index}"
    return shortened(str(labels[index]).split(",")[0], 26)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", MINUS)


def _index(value: Tensor) -> str:
    return f"{float(value):.4f}"
