"""``tiles``: the exact solver for SSIM windows that do not overlap.

Without overlap the problem falls apart into one small problem a tile: a ball, an interval on the mean, pixel bounds.
:mod:`solvers.constraints.ssim_windows.single_window_solver` solves all of them at once, in closed form where no pixel
bound is active and by a root search in one multiplier elsewhere. The page docs/methods/tiles.md has the mathematics.
"""

from __future__ import annotations

from functools import partial

import torch

from solvers import clock
from solvers.constraints.ssim_windows.single_window_solver import solve_groups
from solvers.constraints.ssim_windows.tiles import from_tiles, tile_groups
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.constraints.window_ssim import BoundWindowSSIM, WindowSSIM
from solvers.methods.refusals import unless_single
from solvers.methods.time_plan import TimePlan
from solvers.problem import LinearProblem, Problem, ProjectionProblem, elementwise_bounds
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult, Status
from solvers.settings import Settings


@register_method(
    "tiles",
    problems=(LinearProblem, ProjectionProblem),
    required={"WindowSSIM"},
    optional={"Box", "Support"},
    windows="tiles",
    exact=True,
    accepts=partial(unless_single, kind=WindowSSIM),
)
def tiles(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Exact, windows that don't overlap: closed form, or a root search where the box is active; all tiles at once."""
    # Bind the sets, in float64.
    plan = TimePlan(problem, settings)
    exact = problem.to(dtype=torch.float64)
    position = exact.find(WindowSSIM)[0]
    sets = [constraint.bind(exact.reference) for constraint in exact.constraints]
    bound = sets[position]
    assert isinstance(bound, BoundWindowSSIM)
    lower, upper = elementwise_bounds(exact, sets)
    linear = isinstance(exact, LinearProblem)
    plan.setup_done()
    # Cut into tiles, solve them, put them back. Pixels in no window are fixed by the bounds.
    groups = tile_groups(bound, bound.window_balls, exact.vector, lower, upper, linear=linear)
    with clock.deadline(plan.deadline - plan.final_cost):
        solution = solve_groups(groups, linear=linear)
    delta = from_tiles(bound, solution.delta)
    # The tiles' multipliers are the dual.
    lattice = bound.radius.shape
    block = WindowDual(
        ball=solution.ball.reshape(lattice),
        point=delta - bound.ball_center * bound.reference,
        mean=solution.mean.reshape(lattice),
    )
    return MethodOutput(
        delta=delta,
        dual=tuple(block if k == position else None for k in range(len(sets))),
        status=(Status.OPTIMAL if solution.complete else Status.TIME_LIMIT,) * problem.batch,
        iterations=(1,) * problem.batch,
        setup_time=plan.setup_time,
    )
