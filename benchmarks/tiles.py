"""`tiles` against CVXPY with Clarabel on the same problems in one run, with set-up, at a certified gap of 1e-6.

Run with `python -m benchmarks.tiles`, or `make bench`. The script prints the table. With `--record` it
replaces benchmarks/results/tiles.json.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from rich.console import Console
from rich.table import Table

import solvers
from benchmarks.machine import machine, memory_megabytes
from benchmarks.real_problems import linear_problem, pin_threads
from benchmarks.script_options import script_parser, write_record

REPEATS = 5
GAP = 1e-6
PHOTOS = ("chelsea", "coffee", "astronaut")
SETS = [solvers.WindowSSIM(0.95, solvers.Window.uniform(8, stride=8), luminance="split"), solvers.Box(0.0, 1.0)]
# Prints by how many MB one solve at 3x224x224 raises the peak of the resident size. Linux only: writing 5 to clear_refs
# resets the recorded peak to the present size.
MEMORY_PROBE = """
import re, torch, solvers
from benchmarks.tiles import SETS
torch.set_num_threads(1)
x = torch.rand(1, 3, 224, 224, dtype=torch.float64) * 0.2
problem = solvers.LinearProblem(torch.randn_like(x), x, SETS)
small = solvers.LinearProblem(problem.gradient[..., :64, :64], x[..., :64, :64], SETS)
solvers.solve(small, method="tiles")
open("/proc/self/clear_refs", "w").write("5")
kilobytes = lambda name: int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read()).group(1))
before = kilobytes("VmRSS")
solvers.solve(problem, method="tiles")
print((kilobytes("VmHWM") - before) / 1024)
"""


def timed(problem: solvers.LinearProblem, method: str) -> tuple[float, float]:
    """Seconds of one solve, with compilation, and its certified gap."""
    began = time.perf_counter()
    result = solvers.solve(problem, method=method, settings=solvers.Settings(eps_rel=GAP))
    seconds = time.perf_counter() - began
    return seconds, float(result.rel_gap[0])


def measure(photo: str) -> dict[str, Any]:
    """Medians of both methods on one photo; the methods take turns."""
    problem = linear_problem(photo, SETS)
    timed(problem, "tiles")  # the first use builds the window operator
    runs = [(timed(problem, "tiles"), timed(problem, "cvxpy:clarabel")) for _ in range(REPEATS)]
    ours, theirs = ([run[k][0] for run in runs] for k in (0, 1))
    return {
        "photo": photo,
        "tiles_seconds": statistics.median(ours),
        "clarabel_seconds": statistics.median(theirs),
        "ratio": statistics.median(theirs) / statistics.median(ours),
        "tiles_gap": max(run[0][1] for run in runs),
        "clarabel_gap": max(run[1][1] for run in runs),
    }


def main(*, record: bool = False) -> None:
    """Measure, print and write."""
    pin_threads()
    rows = [measure(photo) for photo in PHOTOS]
    document = {
        "benchmark": "tiles 8x8, box, split luminance, 3x224x224, real gradients",
        "gap": GAP,
        "repeats": REPEATS,
        "machine": machine(),
        "memory_megabytes": memory_megabytes(MEMORY_PROBE),
        "rows": rows,
    }
    table = Table(title=str(document["benchmark"]), title_justify="left")
    for heading in ("photo", "tiles, s", "CVXPY + Clarabel, s", "ratio", "gap of tiles", "gap of Clarabel"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["photo"],
            f"{row['tiles_seconds']:.3f}",
            f"{row['clarabel_seconds']:.2f}",
            f"{row['ratio']:.0f}x",
            f"{row['tiles_gap']:.0e}",
            f"{row['clarabel_gap']:.0e}",
        )
    console = Console(width=120)
    console.print(table)
    console.print(f"memory of one solve: {document['memory_megabytes']:.0f} MB;", document["machine"])
    write_record("tiles", document, record=record)


if __name__ == "__main__":
    main(record=script_parser(__doc__, records=True).parse_args().record)
