"""One attempt at a level: some steps of an engine within sets of the images' own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import per_image
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.linearization import Margin
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation.budget_search.levels import Family, family_of
from ssimpert.perturbation.engines import loop
from ssimpert.perturbation.engines.catalog import HELD, Engine, check_engine, check_projectable
from ssimpert.perturbation.engines.oracle import Oracle

# A climb is given up where HOPE times the pace of the last PACE steps does not reach the goal within the steps left.
PACE, HOPE = 4, 1.5


def check_level_options(
    constraint: Constraint, steps: int, rounds: int, tolerance: float, engine: str, method: str = "auto"
) -> Family:
    """The family of ``constraint``, with the other options checked.

    Raises:
        InputError: an option that can't be used.
    """
    if not isinstance(constraint, Constraint):
        raise InputError(f"constraint must be a set such as solvers.WindowSSIM, got {constraint!r}")
    for name, value in (("steps", steps), ("rounds", rounds)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{name} must be an integer of at least 1, got {value!r}")
    if not isinstance(tolerance, (int, float)) or not 0 < tolerance < 1:
        raise InputError(f"tolerance must lie between 0 and 1, got {tolerance!r}")
    check_engine(engine)
    if engine not in HELD:
        raise InputError(f"a level needs an engine that keeps to one set: {', '.join(HELD)}, got {engine!r}")
    check_projectable(constraint, engine, method)
    return family_of(constraint)


@dataclass(frozen=True)
class Attempt:
    """How levels are tried.

    Attributes:
        model: the classifier.
        families: one per image of the batch.
        steps: most steps of the engine.
        engine, method, settings: as for :func:`~ssimpert.perturb`.
        support: where the perturbations of the batch may live; ``None`` for everywhere.
    """

    model: Model
    families: Sequence[Family]
    steps: int
    engine: Engine
    method: str
    settings: solvers.Settings
    support: solvers.Support | None = None

    def sets(self, level: Tensor, numbers: Tensor) -> list[Constraint]:
        """The images' own sets at levels (K,), for the images at ``numbers`` (K,) of the batch."""
        return [self.families[k].at(value) for k, value in zip(numbers.tolist(), level.tolist(), strict=True)]

    def oracle(self, sets: list[Constraint], numbers: Tensor) -> Oracle:
        """Steps within these sets, one each for the images at ``numbers`` (K,) of the batch."""
        region = None if self.support is None else self.support.select(numbers, len(self.families))
        return Oracle(sets, len(sets), self.method, self.settings, region, tightening=True)

    def run(
        self,
        reference: Tensor,
        label: Tensor,
        margin: Margin,
        sets: list[Constraint],
        start: Tensor,
        numbers: Tensor,
        *,
        stop: bool,
        steps: int | None = None,
    ) -> loop.AscentState:
        """From ``start`` (K, C, H, W) scaled into the sets, with or without a stop at success; ends at the best.
        ``numbers``: the images' places in the batch, (K,). With a stop, images that at their pace won't get there are
        given up, see ``HOPE``."""
        factor = torch.cat([at.bind(reference[k : k + 1]).scale_factor(start[k : k + 1]) for k, at in enumerate(sets)])
        begin = (reference + per_image(factor) * start).clamp(0, 1)
        state = loop.start(self.model, begin, label, margin, stop_at_success=stop)
        oracle = self.oracle(sets, numbers)
        move = HELD[self.engine](self.model, label, margin, oracle, reference)
        steps, marks = steps or self.steps, [state.margin.clone()]
        for now in loop.ascend(self.model, state, label, margin, move, steps=steps, stop_at_success=stop):
            marks.append(now.margin.clone())
            if stop and len(marks) > PACE:
                rest = steps + 1 - len(marks)
                promised = now.margin + HOPE * rest / PACE * (now.margin - marks[-1 - PACE])
                now.stop((now.active & (promised <= 0)).nonzero()[:, 0], "too slow to reach the goal at this level")
        state.return_to_best()
        return state
