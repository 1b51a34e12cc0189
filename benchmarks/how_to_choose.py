"""The figures of docs/how-to-choose.md: each kind of problem with every method that takes it.

Run with `python -m benchmarks.how_to_choose`; some minutes. The script prints a Markdown table. With `--record` it
replaces benchmarks/results/how_to_choose.json. There is one photo and one thread. Times are the median of 3 runs where
a run takes under 5 s.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import solvers
from benchmarks.machine import machine
from benchmarks.real_problems import linear_problem, pin_threads
from benchmarks.script_options import script_parser, write_record
from solvers.constraints import Constraint

PHOTO = "chelsea"
BOX = solvers.Box(0.0, 1.0)
# The name, the side in pixels, the constraint sets, and the gap that the iterative methods are asked for.
CASES: list[tuple[str, int, list[Constraint], float]] = [
    ("l2 ball and box", 224, [solvers.LpBall(2, 1.0), BOX], 1e-6),
    ("global SSIM and box", 224, [solvers.GlobalSSIM(0.05), BOX], 1e-6),
    ("tiles 8x8 and box", 64, [solvers.WindowSSIM(0.95, solvers.Window.uniform(8, stride=8)), BOX], 1e-6),
    ("tiles 8x8 and box", 224, [solvers.WindowSSIM(0.95, solvers.Window.uniform(8, stride=8)), BOX], 1e-6),
    ("7x7, stride 4, and box", 64, [solvers.WindowSSIM(0.95, solvers.Window.uniform(7, stride=4)), BOX], 1e-4),
    ("7x7, stride 4, and box", 224, [solvers.WindowSSIM(0.95, solvers.Window.uniform(7, stride=4)), BOX], 1e-2),
    ("7x7, stride 1, and box", 24, [solvers.WindowSSIM(0.95, solvers.Window.uniform(7)), BOX], 1e-2),
    ("7x7, stride 1, and box", 48, [solvers.WindowSSIM(0.95, solvers.Window.uniform(7)), BOX], 1e-2),
    ("Gaussian 11x11, stride 1, and box", 24, [solvers.WindowSSIM(0.95, solvers.Window.gaussian()), BOX], 1e-2),
]


def run(problem: solvers.LinearProblem, method: str, gap: float) -> dict[str, Any]:
    """Median seconds, certified gap and status of one method."""
    settings = solvers.Settings(eps_rel=gap, max_iter=20000, time_limit=150)
    seconds: list[float] = []
    while not seconds or (len(seconds) < 3 and max(seconds) < 5):
        began = time.perf_counter()
        result = solvers.solve(problem, method=method, settings=settings)
        seconds.append(time.perf_counter() - began)
    return {
        "method": method,
        "seconds": statistics.median(seconds),
        "gap": float(result.rel_gap[0]),
        "status": result.status[0].value,
    }


def main(*, record: bool = False) -> None:
    """Measure, print and write."""
    pin_threads()
    rows = []
    for name, size, sets, gap in CASES:
        problem = linear_problem(PHOTO, sets, size)
        for info in solvers.methods():
            if info.refusal(problem) is None and info.unavailable() is None:
                try:
                    rows.append({"problem": name, "pixels": size, **run(problem, info.name, gap)})
                except solvers.MethodError as refusal:
                    rows.append({"problem": name, "pixels": size, "method": info.name, "refused": str(refusal)})
                print(rows[-1], flush=True)
    print("\n| problem | size | method | time | certified gap |\n|---|---|---|---|---|")
    for row in rows:
        size = f"3x{row['pixels']}x{row['pixels']}"
        if "refused" in row:
            print(f"| {row['problem']} | {size} | `{row['method']}` | refused: too large | |")
        else:
            note = "" if row["status"] == "optimal" else f" ({row['status']})"
            cells = (row["problem"], size, f"`{row['method']}`", f"{row['seconds']:.3g} s", f"{row['gap']:.0e}{note}")
            print(f"| {' | '.join(cells)} |")
    write_record("how_to_choose", {"photo": PHOTO, "machine": machine(), "rows": rows}, record=record)


if __name__ == "__main__":
    main(record=script_parser(__doc__, records=True).parse_args().record)
