"""What the engines share that keep to the set around the original image: a solver's step from the iterate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import solvers
from ssimpert.perturbation.engines.loop import AscentState, stop_unsolved
from ssimpert.perturbation.engines.step_solver import StepSolver


@dataclass(frozen=True)
class ProposedStep:
    """A point of the set that a solver found for each of K images.

    Attributes:
        solution: the solver's result; its ``delta`` is the point s.
        direction: (K, C, H, W), from the iterate's perturbation d to the point: ``s - d``. 0 for unsolved images.
        unsolved: (K,) bool, images for which the solver found no point; they have stopped.
    """

    solution: solvers.SolveResult
    direction: Tensor
    unsolved: Tensor


class StepsAroundOriginal:
    """The rounds of one run, each with one certified step within the set around the original images.

    Attributes:
        solver: solves the steps.
        original: the clean images, (B, C, H, W) float64.
        rounds: rounds so far; the solver's tolerance tightens with this number.
    """

    def __init__(self, solver: StepSolver, original: Tensor) -> None:
        self.solver, self.original, self.rounds = solver, original.to(torch.float64), 0

    def perturbation(self, state: AscentState, active: Tensor) -> Tensor:
        """``d = x - original``, (K, C, H, W), of the images at ``active``, (K,)."""
        return state.images[active] - self.original[active]

    def towards_linear_optimum(self, state: AscentState, active: Tensor, gradient: Tensor) -> ProposedStep:
        """The next round's step to ``argmax g's`` over the set, for gradients g (K, C, H, W)."""
        self.rounds += 1
        delta, original = self.perturbation(state, active), self.original[active]
        solution = self.solver.linear_optimum(
            gradient, original, active, expansion_point=delta, round_number=self.rounds
        )
        return proposed_step(state, active, solution, delta)

    def towards_projection(self, state: AscentState, active: Tensor, ascent: Tensor) -> ProposedStep:
        """The next round's step to the set's point nearest to ``d + ascent``, for steps ``ascent`` (K, C, H, W)."""
        self.rounds += 1
        delta, original = self.perturbation(state, active), self.original[active]
        solution = self.solver.nearest(
            delta + ascent, original, active, expansion_point=delta, round_number=self.rounds
        )
        return proposed_step(state, active, solution, delta)

    def retract(self, images: Tensor, active: Tensor) -> Tensor:
        """Images (K, C, H, W) brought onto the set where it is not convex; see :meth:`StepSolver.retract`."""
        original = self.original[active]
        return original + self.solver.retract(images - original, original, active)


def proposed_step(state: AscentState, active: Tensor, solution: solvers.SolveResult, delta: Tensor) -> ProposedStep:
    """The step from the iterate to a solver's point. Images for which the solver found none are stopped.

    Args:
        state: of the run.
        active: the images, (K,).
        solution: the solver's result on them.
        delta: d, where they stand, (K, C, H, W).
    """
    direction = torch.as_tensor(solution.delta) - delta
    unsolved = stop_unsolved(state, active, solution)
    direction[unsolved] = 0
    return ProposedStep(solution, direction, unsolved)
