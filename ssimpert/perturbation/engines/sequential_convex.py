"""``sequential_convex``: linearise, solve within the set around the original, go as far as the true margin rises::

    s       = argmax over K of g_k's
    d_{k+1} = d_k + t (s - d_k),   t the longest of a few lengths, at most t_k, that raises the true margin

``d_k + t (s - d_k)`` is the optimum of the linear model over the trust region ``d_k + t (K - d_k)``. The region has the
set's own shape, and lies in K where K is convex. Its size t_k is remembered from step to step, as trust regions are
(Conn, Gould, Toint, "Trust-Region Methods", 2000). Where K is not convex, its convex step around d_k replaces it, and
what is tried is first brought back onto K.
"""

from __future__ import annotations

import torch
from torch import Tensor

import solvers
from ssimpert.perturbation.engines.around_original import StepsAroundOriginal
from ssimpert.perturbation.engines.loop import AscentState, Move, line_search
from ssimpert.perturbation.engines.step_solver import StepSolver
from ssimpert.perturbation.goal import Goal

# An image stops where its trust region is smaller than this share of the set.
SMALLEST_TRUST_REGION = 2.0**-9
# The next region: so many times the length that served, or this share of the region in which no length served (half
# of the shortest length tried).
TRUST_REGION_GROWTH, TRUST_REGION_CUT = 2, 1 / 32


def sequential_convex(goal: Goal, solver: StepSolver, original: Tensor) -> Move:
    """The step towards the linear optimum; an image stops where its trust region vanishes."""
    steps = StepsAroundOriginal(solver, original)
    region = torch.ones(len(original), dtype=torch.float64, device=original.device)

    def move(state: AscentState, active: Tensor, gradient: Tensor) -> tuple[solvers.SolveResult, Tensor]:
        step = steps.towards_linear_optimum(state, active, gradient)
        length = line_search(goal, state, active, step.direction, longest=region[active], retract=steps.retract)
        next_region = torch.where(length > 0, TRUST_REGION_GROWTH * length, region[active] * TRUST_REGION_CUT)
        region[active] = next_region.clamp_max(1)
        vanished = (region[active] < SMALLEST_TRUST_REGION) & ~step.unsolved
        state.stop(active[vanished], "no step length tried raises the margin any more")
        return step.solution, length

    return move
