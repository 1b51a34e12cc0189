"""``margin_curve``: the largest margin found at each level of a set."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import per_image
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.linearization import Margin
from ssimpert.linearization.margins import margin_for
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation.budget_search.attempt import Attempt, check_level_options
from ssimpert.perturbation.budget_search.levels import LEVEL_RESOLUTION, Family
from ssimpert.perturbation.engines.catalog import Engine
from ssimpert.perturbation.evaluation import require_sound_margins
from ssimpert.perturbation.inputs import check_image, checked_goal, support_set
from ssimpert.perturbation.results import MinimalBudgetResult, check_made_from
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
    found: MinimalBudgetResult | None = None,
) -> Tensor:
    """The largest margin found at each level of a set, by steps from the best perturbation of the level below.

    The margin never falls along the levels.

    Args:
        model, image, margin, label, support, method, settings: as for :func:`~ssimpert.perturb`.
        constraint: a set of the family, as for :func:`~ssimpert.minimal_budget`.
        levels: positive, finite and rising; L of them: a list, a tuple, or an array or a tensor with one axis.
        steps: steps at each level, at least 1.
        engine: one that keeps to the set around the original image.
        found: what :func:`~ssimpert.minimal_budget` found for these images, this family of sets, and this goal. From
            the found level on the curve is at least the margin of the perturbation that was found, so that the curve
            and the least level agree. Default: the curve takes steps of its own alone.

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
    if found is not None:
        check_made_from(image, found, "found")
    goal = checked_goal(model, image, label, margin)
    require_sound_margins(goal.decide(image).margin)
    families = [family.for_image(k, len(image)) for k in range(len(image))]
    attempt = Attempt(families, steps, engine, method, settings, region)
    everyone = torch.arange(len(image))
    reference, delta = image.to(torch.float64), torch.zeros_like(image, dtype=torch.float64)
    best = torch.full_like(reference[:, 0, 0, 0], -torch.inf)
    margins = []
    for level in levels:
        sets = attempt.sets(torch.full((len(image),), level, dtype=torch.float64), everyone)
        found_margin = _margin_found(found, level, like=best)
        start = delta if found is None else torch.where(per_image(found_margin > best), found.delta.double(), delta)
        state = attempt.run(goal, reference, sets, start, everyone, stop_at_success=False)
        delta, best = state.images - reference, state.margin.to(best)
        if found is not None:
            # The start is scaled into the set. Rounding may have left it outside, and the scaling costs a little.
            lost = found_margin > best
            delta = torch.where(per_image(lost), found.delta.double(), delta)
            best = torch.where(lost, found_margin, best)
        margins.append(best)
    return torch.stack(margins).to(image.dtype)


def _margin_found(found: MinimalBudgetResult | None, level: float, *, like: Tensor) -> Tensor:
    """The margin (B,) of the perturbation that was found at ``level`` or below; -inf for an image without one."""
    if found is None:
        return torch.full_like(like, -torch.inf)
    is_allowed = found.level.to(like.device) <= level * (1 + LEVEL_RESOLUTION)  # a NaN is not
    return torch.where(is_allowed, found.margin_after.to(like), -torch.inf)


def _check_levels(family: Family, levels: tuple[float, ...]) -> None:
    rising = all(a < b for a, b in zip([0.0, *levels], levels, strict=False))  # false where a level is NaN
    if not levels or not rising or levels[-1] == math.inf:
        raise InputError(f"levels must be positive, finite and rise, got {list(levels)}")
    for level in levels:
        try:
            family.at(level)
        except solvers.ProblemError as error:
            raise InputError(f"level {level} makes no set: {error}") from error
