"""Balls of deep features on real photos: the time to a certified gap, for the ball alone, with a box, and with windows.

Run with ``python -m benchmarks.feature_balls [THREADS]`` (default 1; some ten minutes). The script prints each row when
it is measured. With ``--record`` it replaces benchmarks/results/feature_balls.json. The radius is a share of the
feature distance of the optimum without the feature ball. Seconds are those of the solve; the tracing of J is timed
separately.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from rich.console import Console

import solvers
import ssimpert
from benchmarks.machine import machine
from benchmarks.real_problems import classifier, linear_problem, pin_threads
from benchmarks.script_options import script_parser, write_record
from solvers.constraints import Constraint

WINDOWS = solvers.WindowSSIM(0.95, solvers.Window.uniform(7))
PIXELS = solvers.Box(0.0, 1.0)


@dataclass(frozen=True)
class Plan:
    """A group of rows: the sets beside the feature ball, the photos, and how each problem is posed and solved.

    Attributes:
        other_sets: the sets beside the feature ball.
        photos: names of samples.
        pixels: side of the central crop.
        shares: radii, as shares of the feature distance of the optimum without the feature ball.
        methods: names of methods.
        gap: the certified relative gap that is asked for.
        max_iterations: the largest number of iterations.
    """

    other_sets: list[Constraint]
    photos: tuple[str, ...]
    pixels: int = 224
    shares: tuple[float, ...] = (0.2,)
    methods: tuple[str, ...] = ("auto",)
    gap: float = 1e-3
    max_iterations: int = 2000


BOTH = ("ellipsoid", "admm")
PLANS = {
    "l2": Plan([solvers.LpBall(2, 1.0)], ("chelsea", "coffee", "camera", "rocket"), shares=(0.5, 0.2, 0.05)),
    "l2 and box": Plan([solvers.LpBall(2, 1.0), PIXELS], ("chelsea", "coffee", "rocket")),
    "large l2 and box": Plan([solvers.LpBall(2, 5.0), PIXELS], ("coffee", "rocket")),
    "l2 and box, small": Plan([solvers.LpBall(2, 1.0), PIXELS], ("chelsea", "coffee"), 64, methods=BOTH, gap=1e-2),
    "box": Plan([PIXELS], ("chelsea", "coffee"), 64, methods=BOTH, gap=1e-2),
    "windows and box": Plan([WINDOWS, PIXELS], ("chelsea", "rocket", "coffee", "astronaut"), 64, (0.5, 0.2), gap=1e-2),
}


def measure(plan: Plan, photo: str) -> Iterator[dict[str, Any]]:
    """A row for each share and method, on one photo."""
    problem = linear_problem(photo, [PIXELS], size=plan.pixels).to(dtype=torch.float32)
    x, g = problem.reference, problem.gradient
    began = time.perf_counter()
    jacobian = ssimpert.feature_jacobian(ssimpert.deep_features(classifier()), x)
    traced = time.perf_counter() - began
    free = torch.as_tensor(
        solvers.solve(solvers.LinearProblem(g, x, plan.other_sets), settings={"eps_rel": 1e-2}).delta
    )
    distance = float(jacobian.apply(free).norm())
    for share, method in product(plan.shares, plan.methods):
        posed = solvers.LinearProblem(g, x, [solvers.FeatureBall(share * distance, jacobian), *plan.other_sets])
        began = time.perf_counter()
        result = solvers.solve(posed, method, solvers.Settings(eps_rel=plan.gap, max_iter=plan.max_iterations))
        yield {
            "photo": photo,
            "pixels": plan.pixels,
            "share": share,
            "method": result.method,
            "iterations": result.iterations[0],
            "seconds": time.perf_counter() - began,
            "seconds_to_trace": traced,
            "gap_asked": plan.gap,
            "rel_gap": float(result.rel_gap[0]),
            "gain_kept": float((g * torch.as_tensor(result.delta)).sum() / (g * free).sum()),
        }


def main(threads: int = 1, *, record: bool = False) -> dict[str, Any]:
    """Measure, print and write all plans; return the record."""
    warnings.filterwarnings("ignore", message="Attempted to insert a get_attr Node")
    pin_threads(threads)
    console, rows = Console(width=160), list[dict[str, Any]]()
    for name, plan in PLANS.items():
        for photo in plan.photos:
            for row in measure(plan, photo):
                rows.append({"beside": name, **row})
                console.print({key: f"{v:.3g}" if isinstance(v, float) else v for key, v in rows[-1].items()})
    document = {
        "benchmark": "balls of deep features, efficientnet-lite0's default layers, real gradients, float32",
        "machine": machine(),
        "rows": rows,
    }
    write_record("feature_balls", document, record=record)
    return document


if __name__ == "__main__":
    parser = script_parser(__doc__, records=True)
    parser.add_argument("threads", type=int, nargs="?", default=1, help="CPU threads (default 1)")
    options = parser.parse_args()
    main(options.threads, record=options.record)
