"""Time limits: how long a call of ``solve`` takes, method by method, whose limit ends before the method would.

Run with ``python -m benchmarks.time_limits`` (``--large`` for 3x1024x1024, some ten minutes). Prints the table. With
``--record`` the script replaces its part of benchmarks/results/time_limits.json. One thread. On a machine that others
use, compare the overrun with the processor's seconds: a plan can't foresee that the next second is worth less.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import solvers
from benchmarks.machine import machine
from benchmarks.real_problems import linear_problem, pin_threads
from benchmarks.script_options import RECORDS, script_parser, write_record

PHOTO = "astronaut"
# A method at a limit may take this much longer: a share of the limit, and seconds.
ALLOWED_SHARE, ALLOWED_SECONDS = 1.3, 0.2
SIDES = {False: (256, (0.5, 2.0, 8.0)), True: (1024, (10.0, 40.0))}
LARGE_METHODS = ("dual", "admm", "mean_tiles", "mean_windows", "product_tiles", "tiles", "closed_form")


def sets_of(method: str, side: int) -> list[solvers.Constraint]:
    """The sets of the problem that the method is tried on."""
    tiles, dense = solvers.Window.uniform(8, stride=8), solvers.Window.uniform(7)
    sets: dict[str, solvers.Constraint] = {
        "closed_form": solvers.GlobalSSIM(0.1),
        "ellipsoid": solvers.FeatureBall(5.0, gradients_of_pixels(side)),
        "frank_wolfe": solvers.WindowSSIM(0.95, tiles),
        "mean_tiles": solvers.MeanSSIM(0.95, tiles),
        "mean_windows": solvers.MeanSSIM(0.95, dense),
        "product_tiles": solvers.ProductSSIM(0.95, tiles),
        "tiles": solvers.WindowSSIM(0.95, tiles),
    }
    return [sets.get(method, solvers.WindowSSIM(0.95, dense)), solvers.Box()]


def gradients_of_pixels(side: int) -> solvers.LinearOperator:
    """Weighted averages of 8x8 pixels, as features."""
    weight = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def forward(images: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(images, weight.to(images), stride=8).flatten(1)

    def adjoint(features: Tensor) -> Tensor:
        maps = features.reshape(-1, 16, side // 8, side // 8)
        return torch.nn.functional.conv_transpose2d(maps, weight.to(features), stride=8)

    return solvers.LinearOperator(forward, adjoint)


def problem_of(method: str, side: int) -> solvers.Problem:
    """A photo enlarged to ``side`` pixels with a gradient that is enlarged alike."""
    small = linear_problem(PHOTO, sets_of("dual", 224))
    x, g = (
        torch.nn.functional.interpolate(value.float(), size=(side, side), mode="bilinear").clamp(low, high)
        for value, low, high in ((small.reference, 0, 1), (small.gradient, -torch.inf, torch.inf))
    )
    # The finest scale, which enlarging smooths away.
    g = g * (1 + torch.randn(g.shape, generator=torch.Generator().manual_seed(0)))
    sets = sets_of(method, side)
    if method == "energy_step":
        sets[0] = solvers.MeanSSIM(0.95, solvers.Window.uniform(7)).step(x, torch.zeros_like(x))
    if method == "frank_wolfe":
        return solvers.ProjectionProblem(0.1 * g / g.std(), x, sets)
    return solvers.LinearProblem(g, x, sets)


def measure(method: str, side: int, limit: float) -> dict[str, Any]:
    """One solve to a tolerance that no method reaches, within ``limit`` seconds."""
    problem = problem_of(method, side)
    settings = solvers.Settings(eps_rel=1e-12, max_iter=10**6, time_limit=limit, dtype=torch.float32)
    began, worked = time.perf_counter(), time.process_time()
    result = solvers.solve(problem, method, settings)
    seconds, processor_seconds = time.perf_counter() - began, time.process_time() - worked
    return {
        "method": method,
        "side": side,
        "limit": limit,
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "status": result.status[0].value,
        "iterations": result.iterations[0],
        "rel_gap": float(result.rel_gap[0]),
        "setup_time": result.setup_time,
        "load": os.getloadavg()[0],
    }


def main(large: bool = False, report: Callable[[str], None] = print, *, record: bool = False) -> dict[str, Any]:
    """Measure, print and write; return the record."""
    pin_threads()
    side, limits = SIDES[large]
    names = LARGE_METHODS if large else tuple(info.name for info in solvers.methods() if "cvxpy" not in info.name)
    rows = []
    for method in names:
        solvers.solve(problem_of(method, 64), method, solvers.Settings(max_iter=2))  # compiles
        for limit in limits:
            rows.append(measure(method, side, limit))
            report(f"{method} {limit:g}: {rows[-1]['seconds']:.2f} s")
    if not large:
        # Conic solvers take windows at stride 1 on small images only.
        for method in ("cvxpy:clarabel", "cvxpy:scs"):
            solvers.solve(problem_of(method, 16), method)  # imports CVXPY
            rows += [measure(method, 48, limit) for limit in limits]
    table = Table(title=f"3x{side}x{side} (CVXPY 48x48), {PHOTO} enlarged, eps_rel 1e-12", title_justify="left")
    for heading in ("method", "limit", "seconds", "processor s", "in bounds", "status", "iterations", "rel_gap"):
        table.add_column(heading, justify="right")
    for row in rows:
        in_bounds = row["seconds"] <= ALLOWED_SHARE * row["limit"] + ALLOWED_SECONDS
        table.add_row(
            row["method"], f"{row['limit']:g}", f"{row['seconds']:.2f}", f"{row['processor_seconds']:.2f}",
            "yes" if in_bounds else "no", row["status"], str(row["iterations"]), f"{row['rel_gap']:.1e}",
        )  # fmt: skip
    console = Console(width=120)
    console.print(table)
    committed = RECORDS / "time_limits.json"
    document = json.loads(committed.read_text(encoding="utf-8")) if committed.is_file() else {}
    document |= {"machine": machine(), "large" if large else "small": rows}
    console.print(document["machine"])
    write_record("time_limits", document, record=record)
    return document


if __name__ == "__main__":
    parser = script_parser(__doc__, records=True)
    parser.add_argument("--large", action="store_true", help="3x1024x1024, some ten minutes")
    options = parser.parse_args()
    main(options.large, record=options.record)
