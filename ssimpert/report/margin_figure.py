"""How much margin each level of a constraint set buys, as a plot."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ssimpert.errors import InputError
from ssimpert.report.figure import PERTURBATION_COLOUR, SMALL_SIZE, TEXT_SIZE


def margin_figure(
    levels: Sequence[float], margins: Sequence[float], *, unit: str = "level", least: float | None = None
) -> Figure:
    """The margins found at levels, 6 by 4 inches (600x400 pixels at 100 dpi).

    Args:
        levels: L, positive and rising; drawn on a logarithmic axis.
        margins: L, in logits; the decision has changed where they are positive. NaN leaves a gap.
        unit: what the level is, in words.
        least: the least level known to change the decision, a dashed line; none where it is None, NaN or 0.

    Returns:
        A matplotlib figure on an Agg canvas; pyplot's global state is neither used nor changed.

    Raises:
        InputError: levels that can't be drawn, or another number of margins.
    """
    if not levels or not all(a < b < math.inf for a, b in zip([0.0, *levels], levels, strict=False)):
        raise InputError(f"levels must be positive, finite and rise, got {list(levels)}")
    if len(margins) != len(levels):
        raise InputError(f"{len(levels)} levels need as many margins, got {len(margins)}")
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(levels, margins, color=PERTURBATION_COLOUR, marker="o", markersize=4)
    axes.axhline(0, color="black", linewidth=0.8)
    if least is not None and least > 0:
        axes.axvline(least, color="black", linewidth=1, linestyle=(0, (4, 3)), label=f"least level found: {least:.4g}")
        axes.legend(loc="best", fontsize=SMALL_SIZE, frameon=False)
    axes.set_xscale("log")
    axes.set_xlabel(unit, fontsize=TEXT_SIZE)
    axes.set_ylabel("margin (logits)", fontsize=TEXT_SIZE)
    axes.tick_params(which="both", labelsize=SMALL_SIZE)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
