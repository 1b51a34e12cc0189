"""One attempt at a level: some steps of an engine, each image within the set of its own level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import per_image
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.perturbation.budget_search.levels import Family, family_of
from ssimpert.perturbation.engines import loop
from ssimpert.perturbation.engines.catalog import ENGINES_AROUND_ORIGINAL, Engine, check_engine, check_projectable
from ssimpert.perturbation.engines.step_solver import StepSolver
from ssimpert.perturbation.goal import Goal

# An image is given up where PACE_FACTOR times the margin gained a step, over the last PACE_STEPS steps, would not reach
# the goal within the remaining steps.
PACE_STEPS, PACE_FACTOR = 4, 1.5


def check_level_options(constraint: Constraint, engine: str, method: str = "auto") -> Family:
    """The family of ``constraint``, with the other options checked.

    Args:
        constraint: a set that has a level.
        engine: one that keeps to the set around the original images.
        method: the solver's method.

    Raises:
        InputError: an option that can't be used.
    """
    if not isinstance(constraint, Constraint):
        raise InputError(f"constraint must be a set such as solvers.WindowSSIM, got {constraint!r}")
    check_engine(engine)
    if engine not in ENGINES_AROUND_ORIGINAL:
        raise InputError(
            f"a level needs an engine that keeps to one set: {', '.join(ENGINES_AROUND_ORIGINAL)}, got {engine!r}"
        )
    check_projectable(constraint, engine, method)
    return family_of(constraint)


@dataclass(frozen=True)
class Attempt:
    """How levels are tried.

    Attributes:
        families: one per image of the batch.
        steps: most steps of the engine.
        engine, method, settings: as for :func:`~ssimpert.perturb`.
        support: where the perturbations of the batch may live; ``None`` for everywhere.
    """

    families: Sequence[Family]
    steps: int
    engine: Engine
    method: str
    settings: solvers.Settings
    support: solvers.Support | None = None

    def sets(self, level: Tensor, image_indices: Tensor) -> list[Constraint]:
        """The sets at levels (K,), one for each of the images at ``image_indices`` (K,) of the batch."""
        return [self.families[k].at(value) for k, value in zip(image_indices.tolist(), level.tolist(), strict=True)]

    def step_solver(self, sets: list[Constraint], image_indices: Tensor) -> StepSolver:
        """A solver of steps within these sets, one for each of the images at ``image_indices`` (K,) of the batch."""
        region = None if self.support is None else self.support.select(image_indices, len(self.families))
        return StepSolver(sets, len(sets), self.method, self.settings, region, tightening=True)

    def run(
        self,
        goal: Goal,
        reference: Tensor,
        sets: list[Constraint],
        start: Tensor,
        image_indices: Tensor,
        *,
        stop_at_success: bool,
        steps: int | None = None,
    ) -> loop.AscentState:
        """Climb within the sets from ``start``, and end at the best iterates.

        With ``stop_at_success``, images whose pace is too slow to reach the goal are given up; see ``PACE_FACTOR``.

        Args:
            goal: what the K images climb.
            reference: the clean images, (K, C, H, W) float64.
            sets: one per image.
            start: perturbations (K, C, H, W), which are scaled into the sets first.
            image_indices: the images' indices in the batch, (K,) long.
            stop_at_success: whether an image stops once its goal is reached.
            steps: most steps; default the attempt's own number.
        """
        factor = torch.cat(
            [member.bind(reference[k : k + 1]).scale_factor(start[k : k + 1]) for k, member in enumerate(sets)]
        )
        steps = steps or self.steps
        state = loop.start(goal, (reference + per_image(factor) * start).clamp(0, 1), stop_at_success=stop_at_success)
        move = ENGINES_AROUND_ORIGINAL[self.engine](goal, self.step_solver(sets, image_indices), reference)
        margins = [state.margin.clone()]
        for reached in loop.ascend(goal, state, move, steps=steps, stop_at_success=stop_at_success):
            margins.append(reached.margin.clone())
            if stop_at_success and len(margins) > PACE_STEPS:
                _stop_slow(reached, margins[-1 - PACE_STEPS], steps_left=steps + 1 - len(margins))
        state.return_to_best()
        return state


def _stop_slow(state: loop.AscentState, earlier_margin: Tensor, *, steps_left: int) -> None:
    """Give up the images that at their pace since ``earlier_margin`` (K,) do not reach the goal."""
    promised = state.margin + PACE_FACTOR * steps_left / PACE_STEPS * (state.margin - earlier_margin)
    slow = (state.active & (promised <= 0)).nonzero()[:, 0]
    state.stop(slow, "too slow to reach the goal at this level")
