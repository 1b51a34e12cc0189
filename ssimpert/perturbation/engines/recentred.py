"""``recentred``: each step keeps to the set around the current iterate (Pochimireddy et al., arXiv 2106.12731).

Pochimireddy, Siripuram, Channappayya (arXiv 2106.12731, section III). Distances to the original image add up: for
GlobalSSIM, whose distance is a metric, to at most ``steps * distance``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import solvers
from ssimpert.linearization import Margin
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation.engines.loop import AscentState, Move, StepRule, advance, stop_where_unsolved


def recentred(
    model: Model,
    label: Tensor,
    margin: Margin,
    step_rule: StepRule,
    hold: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> Move:
    """A whole step to the linear optimum of the set around the iterate, whether the true margin rises or not.

    ``hold`` brings steps (K, C, H, W) from references (K, C, H, W) of the images (K,) onto a set that is not convex, as
    :meth:`~ssimpert.perturbation.engines.oracle.Oracle.hold` does; default: steps are taken as they are.
    """

    def move(state: AscentState, moving: Tensor, gradient: Tensor) -> tuple[solvers.SolveResult, Tensor]:
        reference = state.images[moving]
        solution = step_rule(gradient, reference, moving)
        solved = ~stop_where_unsolved(state, moving, solution)
        step = torch.as_tensor(solution.delta)
        if hold is not None:
            step = hold(step, reference, moving)
        moved = (reference + step).clamp(0, 1)
        if bool(solved.any()):
            advance(model, state, label, margin, moving[solved], moved[solved])
        return solution, solved.to(state.margin.dtype)

    return move
