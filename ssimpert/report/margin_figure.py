"""A plot of the margin that each level of a constraint set allows."""

from __future__ import annotations

import math
from itertools import pairwise

from matplotlib.figure import Figure

from solvers.validation import as_real, shown
from ssimpert.errors import InputError
from ssimpert.report.drawing import agg_figure, caption_lines, plain_axes
from ssimpert.report.figure import PERTURBATION_COLOUR
from ssimpert.report.figure_style import Width, figure_style
from ssimpert.validation import Numbers, check_numbers

SCREEN_WIDTH, HEIGHT_SHARE = 8.0, 0.6


def margin_figure(
    levels: Numbers,
    margins: Numbers,
    *,
    unit: str = "level",
    least: float | None = None,
    note: str | None = None,
    width: Width = None,
) -> Figure:
    """The margins that were found at several levels.

    Args:
        levels: L levels, positive and rising, on a logarithmic axis.
        margins: L margins in logits; the decision has changed where a margin is positive. NaN leaves a gap.
        unit: what the level is, in words, for the axis.
        note: a sentence below the figure, such as which set and which windows the levels are of.
        width: ``"column"`` or ``"page"`` of a paper, or inches; default 8 inches, for a screen.
        least: the least level known to change the decision, drawn as a dashed line; no line for None, NaN or 0.

    Returns:
        A matplotlib figure on an Agg canvas; pyplot's global state is neither used nor changed.

    Raises:
        InputError: the levels or the width can't be drawn, or there are not as many margins as levels.
    """
    levels, margins = check_numbers("levels", levels), check_numbers("margins", margins)
    level_found = None if least is None else as_real(least)
    if least is not None and level_found is None:
        raise InputError(f"least must be a number or None, got {shown(least)}")
    if not levels or not all(a < b < math.inf for a, b in pairwise((0.0, *levels))):
        raise InputError(f"levels must be positive, finite and rise, got {list(levels)}")
    if len(margins) != len(levels):
        raise InputError(f"{len(levels)} levels need as many margins, got {len(margins)}")
    style = figure_style(width, SCREEN_WIDTH)
    figure = agg_figure((style.width, max(2.3, HEIGHT_SHARE * style.width)))
    axes = figure.subplots()
    axes.plot(levels, margins, color=PERTURBATION_COLOUR, marker="o", markersize=style.marker, linewidth=style.line)
    axes.axhline(0, color="black", linewidth=0.8)
    if level_found is not None and level_found > 0:
        label = f"least level found: {level_found:.4g}"
        axes.axvline(level_found, color="black", linewidth=1, linestyle=(0, (4, 3)), label=label)
        axes.legend(loc="best", fontsize=style.small, frameon=False)
    axes.set_xscale("log")
    axes.set_xlabel(unit, fontsize=style.text)
    if note is not None:
        figure.supxlabel(caption_lines(note, style.width - 0.4, style), fontsize=style.small, x=0.02, ha="left")
    axes.set_ylabel("margin (logits)", fontsize=style.text)
    plain_axes(axes, style)
    return figure
