"""``margin_curve``: how much margin each level of a set buys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.linearization import Margin, Untargeted
from ssimpert.models.forward_passes import Model, forward
from ssimpert.perturbation.budget_search.attempt import Attempt, check_level_options
from ssimpert.perturbation.engines.catalog import Engine
from ssimpert.perturbation.evaluation import require_sound_margins
from ssimpert.perturbation.inputs import check_image, labels_of, region_of


def margin_curve(
    model: Model,
    image: Tensor,
    constraint: Constraint,
    levels: Sequence[float],
    *,
    steps: int = 10,
    margin: Margin | None = None,
    label: Tensor | None = None,
    engine: Engine = "projected_gradient",
    support: Tensor | None = None,
    method: str = "auto",
    settings: solvers.Settings | dict[str, Any] | None = None,
) -> Tensor:
    """The largest margin found at each level, (L, B), by ``steps`` steps from the best perturbation of the level below:
    it never falls along ``levels``, which must rise. Arguments as for :func:`minimal_budget`.

    Raises:
        InputError: before any step.
    """
    margin = margin if margin is not None else Untargeted()
    settings = solvers.Settings.of(settings)
    check_image(image)
    region = region_of(support, image)
    family = check_level_options(constraint, steps, 1, 0.1, engine, method)
    constraint.check(image)
    rising = all(a < b for a, b in zip([0.0, *levels], levels, strict=False))  # NaN does not
    if not levels or not rising or levels[-1] == math.inf:
        raise InputError(f"levels must be positive, finite and rise, got {list(levels)}")
    try:
        for level in levels:
            family.at(level)
    except solvers.ProblemError as error:
        raise InputError(f"level {level} makes no set: {error}") from error
    label = labels_of(model, image, label, margin)
    require_sound_margins(margin(forward(model, image), label))
    reference, delta = image.to(torch.float64), torch.zeros_like(image, dtype=torch.float64)
    families = [family.for_image(k, len(image)) for k in range(len(image))]
    attempt = Attempt(model, families, steps, engine, method, settings, region)
    everyone = torch.arange(len(image))
    rows = []
    for level in levels:
        sets = attempt.sets(torch.full((len(image),), level, dtype=torch.float64), everyone)
        state = attempt.run(reference, label, margin, sets, delta, everyone, stop=False)
        delta = state.images - reference
        rows.append(state.margin)
    return torch.stack(rows).to(image.dtype)
