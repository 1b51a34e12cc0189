"""Overlapping windows at 3x224x224: seconds to a certified gap of 1e-2 and of 1e-3, photo by photo, method ``auto``.

Run with ``python -m benchmarks.overlap`` (``--full`` for all windows, borders and luminances, some ten minutes). The
script prints the table. With ``--record`` it replaces benchmarks/results/overlap.json. It uses one thread. Set-up is
part of every time.
"""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import solvers
from benchmarks.machine import machine, memory_megabytes
from benchmarks.real_problems import linear_problem, pin_threads
from benchmarks.script_options import script_parser, write_record

PHOTOS = ("chelsea", "camera", "rocket", "coffee", "astronaut")
GAPS = (1e-2, 1e-3)
LIMIT = 120.0
# Prints by how many MB one solve at 3x224x224 raises the peak of the resident size (Linux only).
MEMORY_PROBE = """
import re, torch, solvers
from benchmarks.real_problems import linear_problem, pin_threads
from benchmarks.script_options import script_parser, write_record
pin_threads()
sets = [solvers.WindowSSIM(0.95, solvers.Window.gaussian(1.5, 11)), solvers.Box()]
problem = linear_problem("astronaut", sets).to(dtype=torch.float32)
solvers.solve(linear_problem("astronaut", sets, size=64), "dual", {"max_iter": 5})
open("/proc/self/clear_refs", "w").write("5")
kilobytes = lambda name: int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read()).group(1))
before = kilobytes("VmRSS")
solvers.solve(problem, "dual", {"max_iter": 50})
print((kilobytes("VmHWM") - before) / 1024)
"""


def window_of(name: str, border: str) -> solvers.Window:
    """The window called ``uniform 7`` or ``Gaussian 11``, at stride 1."""
    if name == "uniform 7":
        return solvers.Window.uniform(7, border=border)  # type: ignore[arg-type]
    return solvers.Window.gaussian(1.5, 11, border=border)  # type: ignore[arg-type]


def measure(photo: str, window: str, border: str, luminance: float | str) -> dict[str, Any]:
    """One solve to the smallest gap. The solve's history tells when each gap was certified."""
    sets = [
        solvers.WindowSSIM(0.95, window_of(window, border), luminance=luminance),  # type: ignore[arg-type]
        solvers.Box(0.0, 1.0),
    ]
    problem = linear_problem(photo, sets).to(dtype=torch.float32)
    began = time.perf_counter()
    result = solvers.solve(problem, settings=solvers.Settings(eps_rel=GAPS[-1], max_iter=100_000, time_limit=LIMIT))
    seconds = time.perf_counter() - began
    reached = {
        f"seconds_to_{gap:g}": next((row.time for row in result.history if row.rel_gap[0] <= gap), None) for gap in GAPS
    }
    return {
        "photo": photo,
        "window": window,
        "border": border,
        "luminance": luminance,
        "method": result.method,
        **reached,
        "seconds": seconds,
        "iterations": result.iterations[0],
        "rel_gap": float(result.rel_gap[0]),
    }


def main(full: bool = False, *, record: bool = False) -> dict[str, Any]:
    """Measure, print and write; return the record."""
    pin_threads()
    borders, luminances = (("full", "valid"), (1e-3, "split")) if full else (("full",), (1e-3,))
    sets = [solvers.WindowSSIM(0.95, solvers.Window.uniform(7)), solvers.Box()]
    small = linear_problem("chelsea", sets, size=64).to(dtype=torch.float32)
    solvers.solve(small, "dual", {"max_iter": 5})  # compiles the window products
    rows = [
        measure(photo, window, border, luminance)
        for window, border, luminance in product(("uniform 7", "Gaussian 11"), borders, luminances)
        for photo in PHOTOS
    ]
    document = {
        "benchmark": "auto on windows at stride 1, threshold 0.95, box, 3x224x224, real gradients, float32 iterations",
        "machine": machine(),
        "memory_megabytes": memory_megabytes(MEMORY_PROBE),
        "rows": rows,
    }
    table = Table(title=str(document["benchmark"]), title_justify="left")
    for heading in ("photo", "window", "border", "luminance", "s to 1e-2", "s to 1e-3", "iterations", "method"):
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [row["photo"], row["window"], row["border"], str(row["luminance"])]
        cells += ["-" if row[f"seconds_to_{gap:g}"] is None else f"{row[f'seconds_to_{gap:g}']:.1f}" for gap in GAPS]
        table.add_row(*cells, str(row["iterations"]), row["method"])
    console = Console(width=120)
    console.print(table)
    console.print(f"memory of one solve: {document['memory_megabytes']:.0f} MB;", document["machine"])
    write_record("overlap", document, record=record)
    return document


if __name__ == "__main__":
    parser = script_parser(__doc__, records=True)
    parser.add_argument("--full", action="store_true", help="all windows, borders and luminances, some ten minutes")
    options = parser.parse_args()
    main(options.full, record=options.record)
