"""``recentred``: each step keeps to the set around the current iterate::

    x_{k+1} = x_k + argmax over K(x_k) of g_k's

Pochimireddy, Siripuram, Channappayya (arXiv 2106.12731, section III). Distances to the original image add up: for
GlobalSSIM, whose distance is a metric, to at most ``steps * distance``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import solvers
from ssimpert.perturbation.engines.loop import AscentState, Move, StepRule, advance, stop_unsolved
from ssimpert.perturbation.goal import Goal


def recentred(
    goal: Goal, step_rule: StepRule, retract: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
) -> Move:
    """A whole step to the linear optimum of the set around the iterate, whether the true margin rises or not.

    ``retract`` brings steps (K, C, H, W) from references (K, C, H, W) of the images at indices (K,) onto a set that is
    not convex, as :meth:`~ssimpert.perturbation.engines.step_solver.StepSolver.retract` does. Default: steps are taken
    as they are.
    """

    def move(state: AscentState, active: Tensor, gradient: Tensor) -> tuple[solvers.SolveResult, Tensor]:
        reference = state.images[active]
        solution = step_rule(gradient, reference, active)
        solved = ~stop_unsolved(state, active, solution)
        step = torch.as_tensor(solution.delta)
        if retract is not None:
            step = retract(step, reference, active)
        images = (reference + step).clamp(0, 1)
        if bool(solved.any()):
            advance(goal, state, active[solved], images[solved])
        return solution, solved.to(state.margin.dtype)

    return move
