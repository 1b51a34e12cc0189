"""How a solve converged: the certified objective, its bound, and the gap between the two, against time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from solvers import History
from solvers.validation import as_integer, shown
from ssimpert.errors import InputError
from ssimpert.report.drawing import agg_figure, caption_lines, line_style, plain_axes, shortened
from ssimpert.report.figure_style import FigureStyle, Width, figure_style

SCREEN_WIDTH, PANEL_HEIGHT = 11.0, 3.7


def convergence_figure(
    histories: Mapping[str, History], *, image: int = 0, note: str | None = None, width: Width = None
) -> Figure:
    """Objective, bound and relative gap of one image at each check, against seconds, a line for each solve.

    The left panel has the best certified objective so far (solid) and the bound (dashed); where the two meet, the
    problem is solved. The right panel has the relative gap. Time is from the call of :func:`solvers.solve` on, set-up
    included, on a logarithmic axis that both panels share, so that solves of one problem can be compared by eye.

    Args:
        histories: the name of each solve, such as its method, and its :attr:`solvers.SolveResult.history`. All solves
            are of the same problem.
        image: which image of the batch, from 0.
        note: a sentence above the panels, such as what the problem is.
        width: ``"column"`` or ``"page"`` of a paper, or inches; default 11 inches, for a screen.

    Returns:
        A matplotlib figure on an Agg canvas.

    Raises:
        InputError: no history, a history without a check or without the image, or a width out of range.
    """
    style = figure_style(width, SCREEN_WIDTH)
    rows = {name: _rows(name, history, image) for name, history in _checked(histories).items()}
    down, across = (2, 1) if style.is_narrow else (1, 2)
    height = (PANEL_HEIGHT * down + 0.24 * len(rows) + 0.5) * style.scale
    figure = agg_figure((style.width, height))
    values, gaps = figure.subplots(down, across, sharex=True)
    for index, (name, table) in enumerate(rows.items()):
        _draw(values, gaps, shortened(name, 50), table, line_style(index, control=False, style=style))
    values.set_ylabel("objective and bound", fontsize=style.text)
    gaps.set_ylabel("relative gap", fontsize=style.text)
    for axes in (values, gaps):
        _time_axis(axes, style)
    if all(gap > 0 for table in rows.values() for gap in table["rel_gap"]):
        gaps.set_yscale("log")
    else:
        gaps.set_yscale("symlog", linthresh=1e-9)
    handles, labels = gaps.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", fontsize=style.small, frameon=False, handlelength=3.6)
    heading = "Left" if across == 2 else "Above"
    text = f"{heading}: the best certified objective so far (solid) and the bound (dashed). Image {image}."
    # A text below the panels would lie over the legend.
    lines = "\n".join(caption_lines(words, style.width - 0.4, style) for words in (note, text) if words)
    figure.suptitle(lines, fontsize=style.small, x=0.01, ha="left")
    return figure


def _checked(histories: Mapping[str, History]) -> Mapping[str, History]:
    if not isinstance(histories, Mapping) or not histories:
        raise InputError(f"histories must be a dictionary of at least one history by name, got {shown(histories)}")
    return histories


def _rows(name: str, history: History, image: int) -> dict[str, np.ndarray[Any, Any]]:
    """The checks of one image, as arrays."""
    if not isinstance(history, History) or not history:
        raise InputError(
            f"{name!r} has no check to draw; closed forms have none, and neither has a result of select or concatenate"
        )
    number, count = as_integer(image), len(history[0].objective)
    if number is None or not 0 <= number < count:
        raise InputError(f"image {shown(image)} is not in {name!r}, which has images 0 to {count - 1}")
    return {
        "time": np.array([row.time for row in history]),
        "objective": np.array([row.objective[number] for row in history]),
        "bound": np.array([row.bound[number] for row in history]),
        "rel_gap": np.array([row.rel_gap[number] for row in history]),
    }


def _draw(
    values: Axes, gaps: Axes, name: str, table: Mapping[str, np.ndarray[Any, Any]], style: dict[str, Any]
) -> None:
    solid = style | {"markevery": max(1, len(table["time"]) // 8)}
    values.plot(table["time"], table["objective"], **solid)
    values.plot(table["time"], table["bound"], **(solid | {"linestyle": (0, (4, 2))}))
    gaps.plot(table["time"], table["rel_gap"], label=name, **solid)


def _time_axis(axes: Axes, style: FigureStyle) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("time (s)", fontsize=style.text)
    axes.tick_params(labelbottom=True)
    plain_axes(axes, style)
