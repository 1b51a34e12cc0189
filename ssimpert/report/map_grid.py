"""All maps of all images side by side."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ssimpert.analysis.comparison.result import Comparison
from ssimpert.errors import InputError, unknown_name
from ssimpert.escaping import figure_text
from ssimpert.report.drawing import (
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
from ssimpert.report.names import CAM_NAMES, map_name, metric_name
from ssimpert.validation import Integers, check_count, check_integers

# In inches: a panel's side, the gap between two panels, and the space for names, caption, a band's headings and a
# value.
PANEL_SIDE, PANEL_GAP = 1.75, 0.12
NAME_SPACE, CAPTION_SPACE, HEADING_SPACE, VALUE_SPACE = 0.42, 0.5, 0.82, 0.24
LINE_SPACE = 0.17
HEADING_LINES = 2
COLUMNS, COLUMNS_IF_NARROW = 7, 4
SCREEN_WIDTH = NAME_SPACE + COLUMNS * (PANEL_SIDE + PANEL_GAP)

Heading = tuple[str, str]


def map_grid(
    image: Tensor,
    comparison: Comparison,
    *,
    images: Integers | None = None,
    names: Sequence[str] | None = None,
    maps: Sequence[tuple[str, str]] | None = None,
    metric: str | None = "pearson",
    columns: int | None = None,
    note: str | None = None,
    width: Width = None,
) -> Figure:
    """A row for each image: the photo, the class activation map over the photo, then every map with the CAM's outline.

    Args:
        image: the clean images (B, C, H, W) in [0, 1], C = 1 or 3.
        comparison: what :func:`ssimpert.analysis.comparison.compare.compare` found for them.
        images: which images of the batch, in this order; default all.
        names: a name for each image of the *batch*; default: the images' numbers.
        maps: which maps, as (method, kind) of ``comparison.maps``, in this order; default all.
        metric: the agreement that is written below each map; ``None`` writes no agreement.
        columns: how many panels stand side by side, at least 2; default 7, and 4 at the width of a column. Further
            panels go into bands of rows below.
        note: a sentence for the caption, such as under which conditions the perturbation was made
            (:func:`ssimpert.report.conditions.conditions`).
        width: ``"column"`` or ``"page"`` of a paper, or inches; default 1.87 inches for each panel, for a screen.

    Returns:
        A matplotlib figure on an Agg canvas.

    Raises:
        InputError: an image, map or metric does not exist, a width is out of range, or images are neither grey nor RGB.
    """
    image_indices = _chosen_images(image, comparison, images, names)
    map_headings = _chosen_maps(comparison, maps, metric)
    cam_name = CAM_NAMES[comparison.cam_name]
    headings: list[Heading] = [("photo", ""), (cam_name, ""), *map_headings]
    if columns is None:
        columns = COLUMNS_IF_NARROW if figure_style(width, SCREEN_WIDTH).is_narrow else COLUMNS
    panels_in_row = min(check_count("columns", columns, minimum=2), len(headings))
    style = figure_style(width, NAME_SPACE + panels_in_row * (PANEL_SIDE + PANEL_GAP))
    bands = math.ceil(len(headings) / panels_in_row)
    name_space, gap, heading_space = (style.scale * space for space in (NAME_SPACE, PANEL_GAP, HEADING_SPACE))
    side = min(PANEL_SIDE, (style.width - name_space) / panels_in_row - gap)
    panel_height = side * image.shape[-2] / image.shape[-1]
    row_height = panel_height + (style.scale * VALUE_SPACE if metric is not None else gap)
    caption = "\n".join(
        caption_lines(text, style.width - name_space, style)
        for text in (*_caption(cam_name, metric), note)
        if text is not None
    )
    caption_height = style.scale * (CAPTION_SPACE + (caption.count("\n") - 1) * LINE_SPACE)
    height = bands * (heading_space + len(image_indices) * row_height) + caption_height
    figure = agg_figure((style.width, height), None)

    for panel, heading in enumerate(headings):
        band, column = divmod(panel, panels_in_row)
        left = name_space + column * (side + gap)
        top = height - band * (heading_space + len(image_indices) * row_height) - heading_space
        for row, index in enumerate(image_indices):
            bottom = top - row * row_height - panel_height
            axes = figure.add_axes((left / style.width, bottom / height, side / style.width, panel_height / height))
            text = _panel(axes, image, comparison, panel, heading, index, metric)
            axes.set_xlabel(text, fontsize=style.small, labelpad=2)
            if row == 0:
                _head(axes, heading, style, side)
            if column == 0:
                letters = style.letters(panel_height)
                axes.set_ylabel(shortened(_name(index, names), letters), fontsize=style.small)
    figure.text(name_space / style.width, 0.1 / height, caption, fontsize=style.small, va="bottom")
    return figure


def _panel(
    axes: Axes, image: Tensor, comparison: Comparison, panel: int, heading: Heading, index: int, metric: str | None
) -> str:
    """Draw the panel of one image; return what is written below it."""
    axes.set_xticks([])
    axes.set_yticks([])
    picture, cam = pixels(image[index]), numbers(comparison.cam[index])
    if panel == 0:
        axes.imshow(picture, interpolation="nearest")
    elif panel == 1:
        overlay(axes, picture, cam)
    else:
        method, kind = heading
        heat_map(axes, numbers(comparison.maps[method][kind][index]), cam)
        if metric is not None:
            return decimal(float(comparison.scores[method][kind].values[metric][index]))
    return ""


def _head(axes: Axes, heading: Heading, style: FigureStyle, side: float) -> None:
    """Write the method in bold, and below it the kind of map where the kind says more than the method."""
    method, kind = heading
    same = method.replace("_", " ").lower() == kind.replace("_", " ")
    first, second = (map_name(kind), "") if same else (method, map_name(kind) if kind else "")
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center", "va": "bottom"}
    offset = 4.0
    if second:
        lines = _wrapped(second, style.letters(side))
        axes.annotate("\n".join(lines), (0.5, 1), (0, offset), fontsize=style.small, **place)
        offset += 1.25 * style.small * len(lines)
    # Bold letters are wider.
    lines = _wrapped(first, int(0.85 * style.letters(side)))
    axes.annotate("\n".join(lines), (0.5, 1), (0, offset), fontsize=style.small, fontweight="bold", **place)


def _wrapped(text: str, letters: int) -> list[str]:
    return textwrap.wrap(figure_text(text), letters, max_lines=HEADING_LINES, placeholder=" …", break_on_hyphens=False)


def _caption(cam_name: str, metric: str | None) -> tuple[str, str | None]:
    text = f"Outline: the top 20% of {cam_name}. Each map runs from 0 (dark) to its own 99.9th percentile (bright)."
    return text, None if metric is None else f"Below each map: its {metric_name(metric)} with {cam_name}."


def _name(index: int, names: Sequence[str] | None) -> str:
    return f"image {index}" if names is None else names[index]


def _chosen_images(
    image: Tensor, comparison: Comparison, images: Integers | None, names: Sequence[str] | None
) -> list[int]:
    count = image.shape[0]
    check_drawable(image)
    if comparison.cam.shape != (count, *image.shape[-2:]):
        raise InputError(f"the comparison is of {tuple(comparison.cam.shape)} pixels, image is {tuple(image.shape)}")
    if names is not None and len(names) != count:
        raise InputError(f"names must be given for each of the {count} images of the batch, got {len(names)}")
    if images is None:
        return list(range(count))
    chosen = [check_image_index(index, count) for index in check_integers("images", images)]
    if not chosen:
        raise InputError("images must name at least one image, got none")
    return chosen


def _chosen_maps(
    comparison: Comparison, maps: Sequence[tuple[str, str]] | None, metric: str | None
) -> list[tuple[str, str]]:
    compared = [(method, kind) for method, kinds in comparison.maps.items() for kind in kinds]
    chosen = compared if maps is None else list(maps)
    for method_and_kind in chosen:
        if method_and_kind not in compared:
            raise InputError(
                f"map {method_and_kind!r} was not compared; compared were {', '.join(map(repr, compared))}"
            )
    if metric is not None:
        metrics = next(iter(next(iter(comparison.scores.values())).values())).values
        if metric not in metrics:
            raise unknown_name("metric", metric, metrics)
    return chosen
