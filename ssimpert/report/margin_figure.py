"""A plot of the margin that each level of a constraint set allows."""

from __future__ import annotations

import math
from itertools import pairwise

from matplotlib.figure import Figure

from solvers.validation import as_real, shown
from ssimpert.errors import InputError
from ssimpert.report.drawing import SMALL_SIZE, TEXT_SIZE, agg_figure, caption_lines
from ssimpert.report.figure import PERTURBATION_COLOUR
from ssimpert.validation import Numbers, check_numbers


def margin_figure(
    levels: Numbers, margins: Numbers, *, unit: str = "level", least: float | None = None, note: str | None = None
) -> Figure:
    """The margins that were found at several levels, 6 by 4 inches (600x400 pixels at 100 dpi).

    Args:
        levels: L levels, positive and rising, on a logarithmic axis.
        margins: L margins in logits; the decision has changed where a margin is positive. NaN leaves a gap.
        unit: what the level is, in words, for the axis.
        note: a sentence below the figure, such as which set and which windows the levels are of.
        least: the least level known to change the decision, drawn as a dashed line; no line for None, NaN or 0.

    Returns:
        A matplotlib figure on an Agg canvas; pyplot's global state is neither used nor changed.

    Raises:
        InputError: the levels can't be drawn, or there are not as many margins as levels.
    """
    levels, margins = check_numbers("levels", levels), check_numbers("margins", margins)
    level_found = None if least is None else as_real(least)
    if least is not None and level_found is None:
        raise InputError(f"least must be a number or None, got {shown(least)}")
    if not levels or not all(a < b < math.inf for a, b in pairwise((0.0, *levels))):
        raise InputError(f"levels must be positive, finite and rise, got {list(levels)}")
    if len(margins) != len(levels):
        raise InputError(f"{len(levels)} levels need as many margins, got {len(margins)}")
    figure = agg_figure((6, 4))
    axes = figure.subplots()
    axes.plot(levels, margins, color=PERTURBATION_COLOUR, marker="o", markersize=4)
    axes.axhline(0, color="black", linewidth=0.8)
    if level_found is not None and level_found > 0:
        label = f"least level found: {level_found:.4g}"
        axes.axvline(level_found, color="black", linewidth=1, linestyle=(0, (4, 3)), label=label)
        axes.legend(loc="best", fontsize=SMALL_SIZE, frameon=False)
    axes.set_xscale("log")
    axes.set_xlabel(unit, fontsize=TEXT_SIZE)
    if note is not None:
        figure.supxlabel(caption_lines(note, 5.6), fontsize=SMALL_SIZE, x=0.02, ha="left")
    axes.set_ylabel("margin (logits)", fontsize=TEXT_SIZE)
    axes.tick_params(which="both", labelsize=SMALL_SIZE)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
