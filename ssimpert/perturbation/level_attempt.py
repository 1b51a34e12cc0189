"""One attempt at a level: some steps of an engine within sets of the images' own, and what is left of a success."""

from __future__ import annotations

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from solvers.constraints.base import per_image
from ssimpert.errors import InputError
from ssimpert.linearization import Margin, forward
from ssimpert.linearization.gradient import Model
from ssimpert.perturbation import ascent
from ssimpert.perturbation.engines import HELD, Engine, check_engine
from ssimpert.perturbation.levels import Family, family_of
from ssimpert.perturbation.oracle import Oracle

# Bisections of the length of a successful perturbation: it is cut to where the margin vanishes.
CUTS = 12


def check_level_options(constraint: Constraint, steps: int, rounds: int, tolerance: float, engine: str) -> Family:
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
    return family_of(constraint)


def run_at_level(
    model: Model,
    reference: Tensor,
    label: Tensor,
    margin: Margin,
    sets: list[Constraint],
    start: Tensor,
    steps: int,
    engine: Engine,
    method: str,
    settings: solvers.Settings,
    *,
    stop: bool,
) -> ascent.AscentState:
    """At most ``steps`` steps within the images' own sets, from ``start`` (K, C, H, W) scaled into them."""
    factor = torch.cat([at.bind(reference[k : k + 1]).scale_factor(start[k : k + 1]) for k, at in enumerate(sets)])
    state = ascent.start(
        model, (reference + per_image(factor) * start).clamp(0, 1), label, margin, stop_at_success=stop
    )
    oracle = Oracle(sets, len(reference), method, settings, tightening=True)
    move = HELD[engine](model, label, margin, oracle, reference)
    for _ in ascent.ascend(model, state, label, margin, move, steps=steps, stop_at_success=stop):
        pass
    state.return_to_best()
    return state


def cut_to_border(model: Model, image: Tensor, moved: Tensor, label: Tensor, margin: Margin) -> Tensor:
    """The perturbations shortened to where the margin vanishes, by bisection, where it is positive: float64, but such
    that image + delta is what its dtype holds."""
    reference = image.to(torch.float64)
    whole = moved - reference

    def on_grid(length: Tensor) -> Tensor:
        return (reference + per_image(length) * whole).clamp(0, 1).to(image.dtype).to(torch.float64)

    low, high = (
        torch.zeros(len(image), dtype=torch.float64, device=image.device),
        torch.ones(len(image), dtype=torch.float64, device=image.device),
    )
    for _ in range(CUTS):
        middle = (low + high) / 2
        reached = margin(forward(model, on_grid(middle)), label) > 0
        high, low = torch.where(reached, middle, high), torch.where(reached, low, middle)
    return on_grid(high) - reference
