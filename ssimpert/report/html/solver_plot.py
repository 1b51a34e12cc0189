"""The solver's objective and its certified bound against time, of one photo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ssimpert.report.html.numbers_in_words import counted, set_and_steps
from ssimpert.report.html.view import Line, Plot


def solver_plot(history: Sequence[Mapping[str, Any]], conditions: str) -> Plot | None:
    """Objective and bound at each check of the solver, step after step on one axis of time.

    Args:
        history: the rows of a record; a row has ``checks`` where the solver's checks were recorded.
        conditions: the set and the steps, in words.

    Returns:
        The plot; None where no step has two checks, as with a closed form.
    """
    objective: list[tuple[float, float]] = []
    bound: list[tuple[float, float]] = []
    ends: list[float] = []
    longest, started = 0, 0.0
    for row in history:
        checks = row.get("checks") or {}
        seconds = [value for value in checks.get("seconds", ()) if value is not None]
        if not seconds:
            continue
        longest = max(longest, len(seconds))
        for line, key in ((objective, "objective"), (bound, "bound")):
            values = [math.nan if value is None else float(value) for value in checks[key]]
            line += [(started + time, value) for time, value in zip(seconds, values, strict=False)]
            line.append((started + seconds[-1], math.nan))  # a gap between two steps
        started += seconds[-1]
        ends.append(started)
    if longest < 2:
        return None
    return Plot(
        title="Convergence of the solver",
        x_label="time of the solver, steps one after the other (s)",
        y_label="objective of each step's problem",
        lines=(Line("objective", tuple(objective)), Line("certified bound", tuple(bound), dashed=True)),
        caption=(
            "The best objective so far and the certified bound, at each check. A step that maximises the linearised "
            "margin (in logits) has its bound above; a projection, which minimises half the squared distance (of the "
            "pixel range), has its bound below. Where the lines meet, the step's problem is solved. Dotted lines: ends "
            f"of steps. {set_and_steps(conditions)}"
        ),
        alt=f"Objective and certified bound against time over {counted(len(ends), 'step')} and {started:.3g} seconds",
        marks=tuple(ends[:-1]),
    )
