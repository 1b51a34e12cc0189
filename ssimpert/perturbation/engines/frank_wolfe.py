"""``frank_wolfe``: conditional gradients with the solver as oracle, steps of ``2/(k + 2)``.

Frank and Wolfe (1956); for non-convex objectives Lacoste-Julien (arXiv 1607.00345), whose stationarity gap
``<grad, s - d>`` every result reports. Steps don't look at the margin, so it may fall: the best iterate is returned.
"""

from __future__ import annotations

import torch
from torch import Tensor

import solvers
from ssimpert.linearization import Margin
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation.engines.loop import AscentState, Move, advance, stop_where_unsolved
from ssimpert.perturbation.engines.oracle import Oracle


def frank_wolfe(model: Model, label: Tensor, margin: Margin, oracle: Oracle, original: Tensor) -> Move:
    """The k-th step, k = 0, 1, ..., goes ``2/(k + 2)`` of the way to the linear optimum; the first the whole."""
    original = original.to(torch.float64)
    onto = oracle.holding(original)
    rounds = 0

    def move(state: AscentState, moving: Tensor, gradient: Tensor) -> tuple[solvers.SolveResult, Tensor]:
        nonlocal rounds
        rounds += 1
        here = state.images[moving] - original[moving]
        solution = oracle(gradient, original[moving], moving, around=here, round_number=rounds)
        solved = ~stop_where_unsolved(state, moving, solution)
        length = 2.0 / (rounds + 1) * solved.to(state.margin.dtype)
        towards = torch.as_tensor(solution.delta) - here
        moved = onto((state.images[moving] + length[:, None, None, None] * towards).clamp(0, 1), moving)
        if bool(solved.any()):
            advance(model, state, label, margin, moving[solved], moved[solved])
        return solution, length

    return move
