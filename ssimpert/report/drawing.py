"""What all figures share: canvas, type sizes, colours, how a picture and a map are drawn, and which images can be."""

from __future__ import annotations

import math
import textwrap
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from solvers.validation import as_integer, shown
from ssimpert.analysis.map_agreement.metrics import TOP_SHARE
from ssimpert.display_scales import COLOUR_MAP, TOP_PERCENTILE
from ssimpert.errors import InputError
from ssimpert.escaping import figure_text, printable
from ssimpert.report.figure_style import FigureStyle

Array = NDArray[np.float64]

MINUS = "\u2212"
NOTEBOOK_DPI = 80
SCREEN = FigureStyle(12.0)
# Okabe and Ito's colours differ in every kind of colour vision. Printed in grey, the markers and dashes differ.
LINE_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SOLID, DASHED = ("-", "-.", (0, (3, 1, 1, 1, 1, 1))), ((0, (5, 2)), (0, (1, 1.5)), (0, (8, 3)))


class NotebookFigure(Figure):
    """A figure that a notebook shows where it is the last value of a cell, with or without pyplot."""

    def _repr_png_(self) -> bytes:
        content = BytesIO()
        self.savefig(content, format="png", dpi=NOTEBOOK_DPI)
        return content.getvalue()


def agg_figure(size: tuple[float, float], layout: Any = "constrained") -> Figure:
    """An empty figure of ``size`` in inches on an Agg canvas. pyplot's global state is neither used nor changed."""
    figure = NotebookFigure(figsize=size, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def line_style(index: int, *, control: bool, style: FigureStyle = SCREEN) -> dict[str, Any]:
    """Colour, marker and dashes of line number ``index``. The lines of controls are broken."""
    colour, turn = index % len(LINE_COLOURS), index // len(LINE_COLOURS)
    dashes = DASHED if control else SOLID
    return {
        "color": LINE_COLOURS[colour],
        "marker": MARKERS[(colour + turn) % len(MARKERS)],
        "linestyle": dashes[turn % len(dashes)],
        "markersize": style.marker,
        "linewidth": style.line,
    }


def plain_axes(axes: Axes, style: FigureStyle = SCREEN) -> None:
    """Left and bottom spines only, small tick labels, a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=style.small)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def check_drawable(image: Tensor) -> None:
    """Raise :class:`InputError` unless ``image`` (B, C, H, W) is grey (C = 1) or RGB (C = 3)."""
    if image.shape[1] not in (1, 3):
        raise InputError(f"only grey and RGB images can be drawn, got {image.shape[1]} channels")


def check_image_index(index: int, count: int) -> int:
    """``index`` as an int; :class:`InputError` unless it is an integer from 0 to ``count`` - 1."""
    number = as_integer(index)
    if number is None or not 0 <= number < count:
        raise InputError(f"image {shown(index)} is not in the batch; it has images 0 to {count - 1}")
    return number


def pixels(image: Tensor) -> Array:
    """An image (C, H, W) in [0, 1] as an array (H, W, 3); a grey channel is repeated."""
    values = np.clip(numbers(image).transpose(1, 2, 0), 0, 1)
    return np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values


def numbers(tensor: Tensor) -> Array:
    """A tensor of any device as a float64 array."""
    array: Array = tensor.detach().double().cpu().numpy()
    return array


def overlay(axes: Axes, picture: Array, cam: Array) -> Any:
    """Draw a CAM in [0, 1], with its outline, over the photo (H, W, 3) in grey; return matplotlib's coloured image."""
    grey = picture @ np.array([0.2126, 0.7152, 0.0722])
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    heat = axes.imshow(cam, cmap=COLOUR_MAP, vmin=0, vmax=1, alpha=0.6, interpolation="nearest")
    outline(axes, cam)
    return heat


def heat_map(axes: Axes, values: Array, cam: Array) -> Any:
    """Draw a map (H, W) from 0 to its 99.9th percentile, with the CAM's outline; return matplotlib's coloured image.

    The percentile keeps a single extreme pixel from darkening all others.
    """
    top = float(np.nanpercentile(values, TOP_PERCENTILE)) if np.isfinite(values).any() else 0.0
    heat = axes.imshow(values, cmap=COLOUR_MAP, vmin=0, vmax=top if top > 0 else 1.0, interpolation="nearest")
    outline(axes, cam)
    return heat


def outline(axes: Axes, cam: Array) -> None:
    """Draw the outline of the highest 20% of ``cam``, or nothing where ``cam`` is constant or has a NaN."""
    if not np.isfinite(cam).all() or cam.max() == cam.min():
        return
    level = float(np.quantile(cam, 1 - TOP_SHARE))
    if cam.min() < level < cam.max():
        axes.contour(cam, levels=[level], colors=["black"], linewidths=2.4)
        axes.contour(cam, levels=[level], colors=["white"], linewidths=1.2)


def shortened(text: str, length: int) -> str:
    """The name ``text``, or its beginning and an ellipsis where it is longer than ``length``.

    The name is escaped for matplotlib (:func:`ssimpert.escaping.figure_text`).
    """
    name = printable(text)
    return figure_text(name if len(name) <= length else name[: length - 1].rstrip() + "…")


def caption_lines(text: str, width: float, style: FigureStyle = SCREEN) -> str:
    """``text``, folded to lines that fit ``width`` inches in small type."""
    return "\n".join(textwrap.wrap(figure_text(text), max(20, style.letters(width))))


def decimal(value: float, digits: int = 2) -> str:
    """``value`` with a typographic minus sign, without a sign where it rounds to zero; ``n/a`` for NaN."""
    if math.isnan(value):
        return "n/a"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def estimate(mean: float, low: float, high: float, digits: int = 3) -> str:
    """``0.431 [0.402, 0.467]``; without the interval where the interval is NaN, as it is for a single image."""
    if math.isnan(low) or math.isnan(high):
        return decimal(mean, digits)
    return f"{decimal(mean, digits)} [{decimal(low, digits)}, {decimal(high, digits)}]"
