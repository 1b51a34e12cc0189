"""``sequential_convex``: linearise, solve within the set around the original, go as far as the true margin rises.

With s the linear optimum over the set K and d_k the iterate, the step is to ``d_k + t (s - d_k)``: the optimum of the
linear model over the trust region ``d_k + t (K - d_k)``, which has the set's own shape and lies in it, K being convex.
Its size t is remembered from step to step, as trust regions are (Conn, Gould, Toint, "Trust-Region Methods", 2000).
Where K is not convex, its convex step around d_k stands for it, and what is tried is first brought back onto K.
"""

from __future__ import annotations

import torch
from torch import Tensor

import solvers
from ssimpert.linearization import Margin
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation.engines.loop import AscentState, Move, search, stop_where_unsolved
from ssimpert.perturbation.engines.oracle import Oracle

# Trust regions smaller than this share of the set are given up.
SMALLEST = 2.0**-9


def sequential_convex(model: Model, label: Tensor, margin: Margin, oracle: Oracle, original: Tensor) -> Move:
    """Towards the linear optimum, by the longest step tried that raises the true margin; an image stops where its
    trust region vanishes."""
    original = original.to(torch.float64)
    region = torch.ones(len(original), dtype=torch.float64, device=original.device)
    onto = oracle.holding(original)
    rounds = 0

    def move(state: AscentState, moving: Tensor, gradient: Tensor) -> tuple[solvers.SolveResult, Tensor]:
        nonlocal rounds
        rounds += 1
        here = state.images[moving] - original[moving]
        solution = oracle(gradient, original[moving], moving, around=here, round_number=rounds)
        towards = torch.as_tensor(solution.delta) - here
        unsolved = stop_where_unsolved(state, moving, solution)
        towards[unsolved] = 0
        length = search(model, state, label, margin, moving, towards, longest=region[moving], onto=onto)
        # Twice what served, or half of the shortest that did not.
        region[moving] = torch.where(length > 0, 2 * length, region[moving] / 32).clamp_max(1)
        state.stop(moving[(region[moving] < SMALLEST) & ~unsolved], "no step length tried raises the margin any more")
        return solution, length

    return move
