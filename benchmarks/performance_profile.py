"""Performance profiles (Dolan, More, Math. Program. 2002): how often a method is within a factor of the fastest one.

Run with ``python -m benchmarks.performance_profile``. The script measures the time of several methods to a certified
gap of 1e-3 on small real problems. With ``--record`` it replaces docs/images/performance-profile.png and
benchmarks/results/performance_profile.json.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import solvers
from benchmarks.machine import machine
from benchmarks.real_problems import linear_problem, pin_threads
from benchmarks.script_options import ROOT, output_path, script_parser, write_record

GAP = 1e-3
LIMIT = 30.0
METHODS = ("dual", "admm", "pdhg", "cvxpy:clarabel", "cvxpy:scs")
PHOTOS = ("chelsea", "coffee", "camera", "rocket", "astronaut")
WINDOWS = {
    "uniform 7, stride 1": solvers.Window.uniform(7),
    "uniform 7, stride 4": solvers.Window.uniform(7, stride=4),
    "Gaussian 11, stride 1": solvers.Window.gaussian(1.5, 11),
}
# So many different pairs of a style and a marker: the numbers have no common divisor.
LINE_STYLES: tuple[Any, ...] = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
IMAGE = ROOT / "docs" / "images" / "performance-profile.png"


def performance_profile(times: Mapping[str, Sequence[float]], factors: Sequence[float]) -> dict[str, list[float]]:
    """For each solver the share of problems that it solves within ``factor`` times the fastest solver's time.

    A problem that no solver solves counts against every solver.

    Args:
        times: for each solver its seconds on each problem, in the same order; infinity for a failure.
        factors: the factors, at least 1.
    """
    counts = {len(values) for values in times.values()}
    if len(counts) != 1:
        raise ValueError(f"every solver needs a time for every problem, got {sorted(counts)} of them")
    fastest = [min(values) for values in zip(*times.values(), strict=True)]
    return {
        name: [
            sum(value <= factor * best for value, best in zip(values, fastest, strict=True) if math.isfinite(value))
            / len(values)
            for factor in factors
        ]
        for name, values in times.items()
    }


def seconds_to_gap(problem: solvers.LinearProblem, method: str) -> float:
    """Wall time of one solve to GAP, with compilation; infinite where GAP is not certified within LIMIT seconds."""
    settings = solvers.Settings(eps_rel=GAP, max_iter=100_000, time_limit=LIMIT)
    began = time.perf_counter()
    result = solvers.solve(problem, method, settings)
    seconds = time.perf_counter() - began
    return seconds if result.all_optimal else math.inf


def plot(times: Mapping[str, Sequence[float]], target: Path) -> None:
    """Draw the curves, a step line for each solver, into an image file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    factors = [10 ** (k / 50) for k in range(151)]
    figure, axes = plt.subplots(figsize=(6, 3.6))
    # Line styles and markers tell the methods apart without colour.
    for k, (name, shares) in enumerate(performance_profile(times, factors).items()):
        axes.step(
            factors,
            shares,
            where="post",
            label=name,
            linestyle=LINE_STYLES[k % len(LINE_STYLES)],
            marker=MARKERS[k % len(MARKERS)],
            markevery=(3 * k, 20),
            markersize=5,
            markerfacecolor="white",
        )
    axes.set(
        xscale="log",
        xlabel="time over the fastest method's",
        ylabel=f"share of problems at gap {GAP:g}",
        ylim=(-0.02, 1.02),
    )
    axes.legend(loc="center right", fontsize=8)
    figure.tight_layout()
    figure.savefig(target, dpi=120)
    plt.close(figure)


def main(*, record: bool = False) -> None:
    """Measure, print, draw and write."""
    pin_threads()
    cases = [(photo, name) for name in WINDOWS for photo in PHOTOS]
    times: dict[str, list[float]] = {method: [] for method in METHODS}
    for photo, name in cases:
        sets = [solvers.WindowSSIM(0.95, WINDOWS[name]), solvers.Box(0.0, 1.0)]
        problem = linear_problem(photo, sets, size=32)
        for method in METHODS:
            times[method].append(seconds_to_gap(problem, method))
        print(photo, name, {method: round(values[-1], 2) for method, values in times.items()}, flush=True)
    plot(times, output_path(IMAGE, record=record))
    document = {
        "benchmark": "seconds to a certified gap of 1e-3, 3x32x32, threshold 0.95, luminance 1e-3, box, real gradients",
        "limit_seconds": LIMIT,
        "machine": machine(),
        "problems": [f"{photo}, {name}" for photo, name in cases],
        "seconds": {name: [v if math.isfinite(v) else None for v in values] for name, values in times.items()},
    }
    write_record("performance_profile", document, record=record)


if __name__ == "__main__":
    main(record=script_parser(__doc__, records=True).parse_args().record)
