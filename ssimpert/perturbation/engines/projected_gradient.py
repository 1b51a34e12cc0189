"""``projected_gradient``: a gradient step, then the nearest point of the set, by a certified projection.

Madry et al. (ICLR 2018) for balls with closed forms; here any set that the solvers project onto. The step along the
unit gradient has length tau, in pixels' l2 norm, adapted per image: the projected point and shorter steps towards it
are tried against the true margin, and tau follows what served. The segment lies in the set, where that is convex; of
another, the convex step around the iterate stands for it, and what is tried is first brought back onto the set.
"""

from __future__ import annotations

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import norm, per_image
from ssimpert.linearization import Margin
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation.engines.loop import AscentState, Move, search, stop_where_unsolved
from ssimpert.perturbation.engines.oracle import Oracle

# tau after the first step, as a share of that step's norm; given up below SMALLEST of it.
FIRST, SMALLEST = 0.5, 2.0**-9


def projected_gradient(model: Model, label: Tensor, margin: Margin, oracle: Oracle, original: Tensor) -> Move:
    """The first step goes to the linear optimum, whose norm sets the scale of tau; the others project."""
    original = original.to(torch.float64)
    scale = torch.zeros(len(original), dtype=torch.float64, device=original.device)
    tau = torch.zeros_like(scale)
    onto = oracle.holding(original)
    rounds = 0

    def move(state: AscentState, moving: Tensor, gradient: Tensor) -> tuple[solvers.SolveResult, Tensor]:
        nonlocal rounds
        rounds += 1
        here = state.images[moving] - original[moving]
        if rounds == 1:
            solution = oracle(gradient, original[moving], moving, around=here, round_number=rounds)
            scale[moving] = norm(torch.as_tensor(solution.delta))
            tau[moving] = FIRST * scale[moving]
        else:
            point = here + gradient * per_image(tau[moving] / norm(gradient))
            solution = oracle.nearest(point, original[moving], moving, around=here, round_number=rounds)
        towards = torch.as_tensor(solution.delta) - here
        unsolved = stop_where_unsolved(state, moving, solution)
        towards[unsolved] = 0
        length = search(model, state, label, margin, moving, towards, onto=onto)
        if rounds > 1:
            tau[moving] *= torch.where(length == 1, 1.5, length.clamp_min(0.25))
        state.stop(
            moving[(tau[moving] < SMALLEST * scale[moving]) & ~unsolved],
            "no step, however short, raises the margin any more",
        )
        return solution, length

    return move
