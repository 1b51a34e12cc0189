"""``tiles``: the exact solver for SSIM windows that do not overlap."""

from __future__ import annotations

import time

import torch

from solvers.constraints.ssim_windows.single_window_solver import solve_groups
from solvers.constraints.ssim_windows.tiles import from_tiles, tile_groups
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.constraints.window_ssim import BoundWindowSSIM, WindowSSIM
from solvers.problem import LinearProblem, Problem, ProjectionProblem, elementwise_bounds
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult, Status
from solvers.settings import Settings


def _single_tiling(problem: Problem) -> str | None:
    if len(problem.find(WindowSSIM)) != 1:
        return f"takes one WindowSSIM, got {len(problem.find(WindowSSIM))}"
    return None


@register_method(
    "tiles",
    problems=(LinearProblem, ProjectionProblem),
    required={"WindowSSIM"},
    optional={"Box", "Support"},
    windows="tiles",
    exact=True,
    accepts=_single_tiling,
)
def tiles(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Exact, windows that don't overlap: closed form, or a root search where the box is active; all tiles at once."""
    started = time.perf_counter()
    exact = problem.to(dtype=torch.float64)
    position = exact.find(WindowSSIM)[0]
    sets = [constraint.bind(exact.reference) for constraint in exact.constraints]
    bound = sets[position]
    assert isinstance(bound, BoundWindowSSIM)
    lower, upper = elementwise_bounds(exact, sets)
    linear = isinstance(exact, LinearProblem)
    setup_time = time.perf_counter() - started
    groups = tile_groups(bound, bound.window_balls, exact.vector, lower, upper, linear=linear)
    solution = solve_groups(groups, linear=linear)
    delta = from_tiles(bound, solution.delta)
    # Pixels in no window (border "valid" cuts no tiles) are fixed by the bounds.
    lattice = bound.radius.shape
    block = WindowDual(
        ball=solution.ball.reshape(lattice),
        point=delta - bound.ball_center * bound.reference,
        mean=solution.mean.reshape(lattice),
    )
    return MethodOutput(
        delta=delta,
        dual=tuple(block if k == position else None for k in range(len(sets))),
        status=(Status.OPTIMAL,) * problem.batch,
        iterations=(1,) * problem.batch,
        setup_time=setup_time,
    )
