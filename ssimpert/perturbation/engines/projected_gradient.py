"""``projected_gradient``: a gradient step, then the nearest point of the set, by a certified projection::

    p       = P_K(d_k + tau g_k/|g_k|)
    d_{k+1} = d_k + t (p - d_k),   t the longest of a few lengths that raises the true margin

Madry et al. (ICLR 2018) for balls with closed forms; here K is any set that the solvers project onto. tau, in pixels'
l2 norm, is each image's own: it grows where t = 1 served, and shrinks with t otherwise. The segment from d_k to p lies
in K where K is convex. Where K is not, its convex step around d_k replaces it, and what is tried is first brought back
onto K.
"""

from __future__ import annotations

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import norm, per_image
from ssimpert.perturbation.engines.around_original import StepsAroundOriginal
from ssimpert.perturbation.engines.loop import AscentState, Move, line_search
from ssimpert.perturbation.engines.step_solver import StepSolver
from ssimpert.perturbation.goal import Goal

# tau after the first step, and the tau at which an image stops, as shares of the first step's norm.
FIRST_TAU, SMALLEST_TAU = 0.5, 2.0**-9
# tau is multiplied by TAU_GROWTH after a whole step, by t after a shorter one, and by no less than TAU_CUT.
TAU_GROWTH, TAU_CUT = 1.5, 0.25


def projected_gradient(goal: Goal, solver: StepSolver, original: Tensor) -> Move:
    """The first step goes to the linear optimum, whose norm sets the scale of tau. The other steps project."""
    steps = StepsAroundOriginal(solver, original)
    first_norm = torch.zeros(len(original), dtype=torch.float64, device=original.device)
    tau = torch.zeros_like(first_norm)

    def move(state: AscentState, active: Tensor, gradient: Tensor) -> tuple[solvers.SolveResult, Tensor]:
        if steps.rounds == 0:
            step = steps.towards_linear_optimum(state, active, gradient)
            first_norm[active] = norm(torch.as_tensor(step.solution.delta))
            tau[active] = FIRST_TAU * first_norm[active]
        else:
            ascent = gradient * per_image(tau[active] / norm(gradient))
            step = steps.towards_projection(state, active, ascent)
        length = line_search(goal, state, active, step.direction, retract=steps.retract)
        if steps.rounds > 1:
            tau[active] *= torch.where(length == 1, TAU_GROWTH, length.clamp_min(TAU_CUT))
        exhausted = (tau[active] < SMALLEST_TAU * first_norm[active]) & ~step.unsolved
        state.stop(active[exhausted], "no step, however short, raises the margin any more")
        return step.solution, length

    return move
