"""Balls of deep features on real photos: how long to a certified gap, alone, with a box, and beside windows.

Run with ``python -m benchmarks.feature_balls [THREADS]`` (default 1; some ten minutes). Prints a row as it is measured and
writes benchmarks/results/feature_balls.json. The radius is a share of the feature distance of the optimum without the
feature ball. Seconds are those of the solve; tracing J is timed by itself.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

import solvers
import ssimpert
from benchmarks.machine import machine
from benchmarks.real_problems import classifier, linear_problem, pin_threads
from solvers.constraints import Constraint

RECORD = Path(__file__).parent / "results" / "feature_balls.json"
WINDOWS = solvers.WindowSSIM(0.95, solvers.Window.uniform(7))
PIXELS = solvers.Box(0.0, 1.0)

# Name, photos, pixels a side, other sets, shares, methods, gap, most iterations.
PLAN: list[tuple[str, tuple[str, ...], int, list[Constraint], tuple[float, ...], tuple[str, ...], float, int]] = [
    ("l2", ("chelsea", "coffee", "camera", "rocket"), 224, [solvers.LpBall(2, 1.0)], (0.5, 0.2, 0.05), ("auto",), 1e-3, 2000),
    ("l2 and box", ("chelsea", "coffee", "rocket"), 224, [solvers.LpBall(2, 1.0), PIXELS], (0.2,), ("auto",), 1e-3, 2000),
    ("large l2 and box", ("coffee", "rocket"), 224, [solvers.LpBall(2, 5.0), PIXELS], (0.2,), ("auto",), 1e-3, 2000),
    ("l2 and box, small", ("chelsea", "coffee"), 64, [solvers.LpBall(2, 1.0), PIXELS], (0.2,), ("ellipsoid", "admm"), 1e-2, 1500),
    ("box", ("chelsea", "coffee"), 64, [PIXELS], (0.2,), ("ellipsoid", "admm"), 1e-2, 1500),
    ("windows and box", ("chelsea", "rocket", "coffee", "astronaut"), 64, [WINDOWS, PIXELS], (0.5, 0.2), ("auto",), 1e-2, 1000),
]  # fmt: skip


def measure(
    photo: str, size: int, others: list[Constraint], shares: tuple[float, ...], methods: tuple[str, ...], gap: float, most: int
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each share and method."""
    problem = linear_problem(photo, [PIXELS], size=size).to(dtype=torch.float32)
    x, g = problem.reference, problem.gradient
    began = time.perf_counter()
    jacobian = ssimpert.feature_jacobian(ssimpert.deep_features(classifier()), x)
    traced = time.perf_counter() - began
    free = torch.as_tensor(solvers.solve(solvers.LinearProblem(g, x, others), settings={"eps_rel": 1e-2}).delta)
    distance: Tensor = jacobian.apply(free).norm()
    rows = []
    for share in shares:
        ball = solvers.FeatureBall(share * float(distance), jacobian)
        posed = solvers.LinearProblem(g, x, [ball, *others])
        for method in methods:
            began = time.perf_counter()
            result = solvers.solve(posed, method, solvers.Settings(eps_rel=gap, max_iter=most))
            rows.append(
                {
                    "photo": photo,
                    "pixels": size,
                    "share": share,
                    "method": result.method,
                    "iterations": result.iterations[0],
                    "seconds": time.perf_counter() - began,
                    "seconds_to_trace": traced,
                    "gap_asked": gap,
                    "rel_gap": float(result.rel_gap[0]),
                    "gain_kept": float((g * torch.as_tensor(result.delta)).sum() / (g * free).sum()),
                }
            )
    return rows


def main(threads: int = 1) -> dict[str, Any]:
    """Measure, print, write."""
    warnings.filterwarnings("ignore", message="Attempted to insert a get_attr Node")
    pin_threads(threads)
    console, rows = Console(width=160), list[dict[str, Any]]()
    for name, photos, size, others, shares, methods, gap, most in PLAN:
        for photo in photos:
            for row in measure(photo, size, others, shares, methods, gap, most):
                rows.append({"beside": name, **row})
                console.print({key: f"{v:.3g}" if isinstance(v, float) else v for key, v in rows[-1].items()})
    record = {
        "benchmark": "balls of deep features, efficientnet-lite0's default layers, real gradients, float32",
        "machine": machine(),
        "rows": rows,
    }
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:2]))
