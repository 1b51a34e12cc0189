"""Overlapping windows against CVXPY's solvers in one run, compile and set-up included, at equal certified gaps.

Run with ``python -m benchmarks.ratios``. There are two problems of chelsea: 7x7 at stride 4, 3x224x224, gap 1e-4,
against Clarabel; and 7x7 at stride 1, 3x64x64, gap 1e-3, against the faster of SCS and Clarabel. Times are medians of
five. Clarabel at stride 1 takes minutes; it is tried once and stopped after twice the time of SCS. With
``--record`` the script replaces benchmarks/results/ratios.json.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import solvers
from benchmarks.machine import machine
from benchmarks.real_problems import linear_problem, pin_threads
from benchmarks.script_options import script_parser, write_record

REPEATS = 5


def timed(problem: solvers.LinearProblem, method: str, gap: float, limit: float = 600.0) -> tuple[float, float]:
    """Seconds of one solve and the gap that it certified."""
    # Iterations, where there are any, are in float32. All certificates are in float64.
    settings = solvers.Settings(eps_rel=gap, max_iter=200_000, time_limit=limit, dtype=torch.float32)
    began = time.perf_counter()
    result = solvers.solve(problem, method, settings)
    return time.perf_counter() - began, float(result.rel_gap[0])


def compare(title: str, problem: solvers.LinearProblem, gap: float, rival: str, once: str | None) -> dict[str, Any]:
    """A row of the table: medians of ``dual`` and ``rival``, which take turns, and one bounded run of a third method.

    Args:
        title: what the table calls the problem.
        problem: the problem.
        gap: the certified relative gap that is asked for.
        rival: the name of the other method.
        once: the name of a method that runs once, for at most twice the rival's time; ``None`` for no such method.
    """
    timed(problem, "dual", 0.5)  # compiles
    runs = [(timed(problem, "dual", gap), timed(problem, rival, gap)) for _ in range(REPEATS)]
    ours, theirs = (statistics.median(run[k][0] for run in runs) for k in (0, 1))
    row: dict[str, Any] = {
        "problem": title,
        "gap": gap,
        "dual_seconds": ours,
        "rival": rival,
        "rival_seconds": theirs,
        "dual_gap": max(run[0][1] for run in runs),
        "rival_gap": max(run[1][1] for run in runs),
    }
    if once is not None:
        seconds, reached = timed(problem, once, gap, limit=2 * theirs)
        row |= {"other": once, "other_seconds": seconds, "other_gap": reached, "other_limit": 2 * theirs}
        if reached <= gap:
            theirs = min(theirs, seconds)
    return row | {"ratio": theirs / ours}


def main(*, record: bool = False) -> dict[str, Any]:
    """Measure, print and write; return the record."""
    pin_threads()
    box = solvers.Box(0.0, 1.0)
    stride4 = [solvers.WindowSSIM(0.95, solvers.Window.uniform(7, stride=4)), box]
    stride1 = [solvers.WindowSSIM(0.95, solvers.Window.uniform(7)), box]
    rows = [
        compare("7x7 stride 4, 3x224x224", linear_problem("chelsea", stride4), 1e-4, "cvxpy:clarabel", None),
        compare(
            "7x7 stride 1, 3x64x64", linear_problem("chelsea", stride1, size=64), 1e-3, "cvxpy:scs", "cvxpy:clarabel"
        ),
    ]
    document = {
        "benchmark": "dual against CVXPY, threshold 0.95, luminance 1e-3, box, chelsea's gradient",
        "repeats": REPEATS,
        "machine": machine(),
        "rows": rows,
    }
    table = Table(title=str(document["benchmark"]), title_justify="left")
    for heading in ("problem", "gap", "dual, s", "rival", "rival, s", "ratio", "tried once"):
        table.add_column(heading, justify="right")
    for row in rows:
        tried = ""
        if "other" in row:
            tried = f"{row['other']}: {row['other_seconds']:.0f} s, gap {row['other_gap']:.0e}"
        table.add_row(
            row["problem"],
            f"{row['gap']:g}",
            f"{row['dual_seconds']:.2f}",
            row["rival"],
            f"{row['rival_seconds']:.1f}",
            f"{row['ratio']:.0f}x",
            tried,
        )
    console = Console(width=120)
    console.print(table)
    console.print(document["machine"])
    write_record("ratios", document, record=record)
    return document


if __name__ == "__main__":
    main(record=script_parser(__doc__, records=True).parse_args().record)
