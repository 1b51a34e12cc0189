"""The plots of one photo: its margin over steps and levels, and how the solver converged."""

from __future__ import annotations

import math
from typing import Any

from ssimpert.report.html.numbers_in_words import counted, number, set_and_steps
from ssimpert.report.html.photo_words import NOT_RECORDED, conditions_of
from ssimpert.report.html.result_folder import StoredPhoto
from ssimpert.report.html.solver_plot import solver_plot
from ssimpert.report.html.view import Line, Plot


def plots_of(stored: StoredPhoto) -> tuple[Plot, ...]:
    record, history = stored.record, stored.record.get("history") or []
    words = conditions_of(record)
    curve = stored.curve()
    found = (_margin_plot(record["result"], history, words), _level_plot(curve), solver_plot(history, words))
    return tuple(plot for plot in found if plot is not None)


def _margin_plot(result: dict[str, Any], history: list[dict[str, Any]], conditions: str) -> Plot | None:
    """The margin after each step. Several runs of steps, as of a search for a level, follow one another with gaps."""
    if not history:
        return None
    points: list[tuple[float, float]] = [(0.0, _plotted(result["margin_before"]))]
    starts: list[float] = []
    before = 0
    for count, row in enumerate(history, start=1):
        if row["step"] <= before:
            points.append((count - 0.5, math.nan))
            starts.append(count - 0.5)
        points.append((float(count), _plotted(row["margin"])))
        before = row["step"]
    runs = " Dotted lines: the steps begin anew, as at another level." if starts else ""
    return Plot(
        title="Margin over steps",
        x_label="step",
        y_label="margin (logits)",
        lines=(Line("margin", tuple(points)),),
        caption=(
            f"The goal is reached where the margin is above 0. Step 0 is the photo.{runs} {set_and_steps(conditions)}"
        ),
        alt=(
            f"Margin over {counted(len(history), 'step')}, from {number(result['margin_before'])} to "
            f"{number(history[-1]['margin'], 'logits')}"
        ),
        marks=tuple(starts),
    )


def _level_plot(curve: dict[str, Any] | None) -> Plot | None:
    rows = curve.get("curve") if curve is not None else None
    if curve is None or not rows:
        return None
    points = tuple((float(row["level"]), _plotted(row["margin"])) for row in rows)
    least = curve.get("least_level")
    marks = (float(least),) if isinstance(least, (int, float)) and least > 0 else ()
    return Plot(
        title="Margin over levels",
        x_label=str(curve.get("level_unit", "level")),
        y_label="margin (logits)",
        lines=(Line("margin", points),),
        caption=(
            "The goal is reached where the margin is above 0. Dotted line: the least level found. "
            f"{set_and_steps(str(curve.get('conditions') or NOT_RECORDED))}"
        ),
        alt=f"Margin at {len(points)} levels from {number(points[0][0])} to {number(points[-1][0])}",
        log_x=True,
        marks=marks,
    )


def _plotted(value: float | None) -> float:
    return math.nan if value is None else float(value)
