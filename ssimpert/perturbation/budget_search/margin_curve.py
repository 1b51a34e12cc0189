"""``margin_curve``: the largest margin found at each level of a set."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.linearization import Margin
from ssimpert.linearization.margins import margin_for
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation.budget_search.attempt import Attempt, check_level_options
from ssimpert.perturbation.budget_search.levels import Family
from ssimpert.perturbation.engines.catalog import Engine
from ssimpert.perturbation.evaluation import require_sound_margins
from ssimpert.perturbation.inputs import check_image, checked_goal, support_set
from ssimpert.validation import Numbers, check_count, check_numbers


@takes_model
def margin_curve(
    model: Model,
    image: Tensor,
    constraint: Constraint,
    levels: Numbers,
    *,
    steps: int = 10,
    margin: Margin | None = None,
    label: Tensor | None = None,
    engine: Engine = "projected_gradient",
    support: Tensor | None = None,
    method: str = "auto",
    settings: solvers.Settings | dict[str, Any] | None = None,
) -> Tensor:
    """The largest margin found at each level of a set, by steps from the best perturbation of the level below.

    The margin never falls along the levels.

    Args:
        model, image, margin, label, support, method, settings: as for :func:`~ssimpert.perturb`.
        constraint: a set of the family, as for :func:`~ssimpert.minimal_budget`.
        levels: positive, finite and rising; L of them: a list, a tuple, or an array or a tensor with one axis.
        steps: steps at each level, at least 1.
        engine: one that keeps to the set around the original image.

    Returns:
        (L, B), in the images' dtype.

    Raises:
        InputError: images, labels or options that can't be used; raised before any step.
    """
    margin = margin_for(margin, model)
    settings = solvers.Settings.of(settings)
    check_image(image)
    region = support_set(support, image)
    steps, levels = check_count("steps", steps), check_numbers("levels", levels)
    family = check_level_options(constraint, engine, method)
    constraint.check(image)
    _check_levels(family, levels)
    goal = checked_goal(model, image, label, margin)
    require_sound_margins(goal.decide(image).margin)
    families = [family.for_image(k, len(image)) for k in range(len(image))]
    attempt = Attempt(families, steps, engine, method, settings, region)
    everyone = torch.arange(len(image))
    reference, delta = image.to(torch.float64), torch.zeros_like(image, dtype=torch.float64)
    margins = []
    for level in levels:
        sets = attempt.sets(torch.full((len(image),), level, dtype=torch.float64), everyone)
        state = attempt.run(goal, reference, sets, delta, everyone, stop_at_success=False)
        delta = state.images - reference
        margins.append(state.margin)
    return torch.stack(margins).to(image.dtype)


def _check_levels(family: Family, levels: tuple[float, ...]) -> None:
    rising = all(a < b for a, b in zip([0.0, *levels], levels, strict=False))  # false where a level is NaN
    if not levels or not rising or levels[-1] == math.inf:
        raise InputError(f"levels must be positive, finite and rise, got {list(levels)}")
    for level in levels:
        try:
            family.at(level)
        except solvers.ProblemError as error:
            raise InputError(f"level {level} makes no set: {error}") from error
