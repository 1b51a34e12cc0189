"""``frank_wolfe``: conditional gradients, whose linear optima the solvers find::

    s       = argmax over K of g_k's
    d_{k+1} = d_k + 2/(k + 2) (s - d_k),   k = 0, 1, ...

Frank and Wolfe (1956); for objectives that are not convex Lacoste-Julien (arXiv 1607.00345), whose stationarity gap
``<grad, s - d>`` every result reports. The step lengths do not depend on the margin, so the margin may fall. The best
iterate is returned.
"""

from __future__ import annotations

from torch import Tensor

import solvers
from solvers.batch_algebra import per_image
from ssimpert.perturbation.engines.around_original import StepsAroundOriginal
from ssimpert.perturbation.engines.loop import AscentState, Move, advance
from ssimpert.perturbation.engines.step_solver import StepSolver
from ssimpert.perturbation.goal import Goal


def frank_wolfe(goal: Goal, solver: StepSolver, original: Tensor) -> Move:
    """The step number k goes ``2/(k + 2)`` of the way to the linear optimum; the first step goes the whole way."""
    steps = StepsAroundOriginal(solver, original)

    def move(state: AscentState, active: Tensor, gradient: Tensor) -> tuple[solvers.SolveResult, Tensor]:
        step = steps.towards_linear_optimum(state, active, gradient)
        solved = ~step.unsolved
        length = 2.0 / (steps.rounds + 1) * solved.to(state.margin.dtype)
        images = (state.images[active] + per_image(length) * step.direction).clamp(0, 1)
        images = steps.retract(images, active)
        if bool(solved.any()):
            advance(goal, state, active[solved], images[solved])
        return step.solution, length

    return move
