"""``minimal_budget``: the least level of a set at which the decision changes, by brackets and walks along the border.

The question of minimal-norm attacks (Moosavi-Dezfooli et al., DeepFool, CVPR 2016; Rony et al., DDN, CVPR 2019), for
any family of nested sets. ``perturb`` asks the other one: the largest margin at a given level.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.linearization import LabelWins, Margin, Untargeted
from ssimpert.models.forward_passes import Model, forward
from ssimpert.perturbation.budget_search.attempt import Attempt, check_level_options
from ssimpert.perturbation.budget_search.bracketing import Aim, LevelSearch, Search
from ssimpert.perturbation.budget_search.nearest_class import class_distances
from ssimpert.perturbation.engines.catalog import Engine
from ssimpert.perturbation.engines.oracle import Oracle
from ssimpert.perturbation.evaluation import End, measure, require_sound_gradients
from ssimpert.perturbation.inputs import check_image, labels_of, region_of, share_of
from ssimpert.perturbation.results import MinimalBudgetResult
from ssimpert.records import describe, describe_settings


def minimal_budget(
    model: Model,
    image: Tensor,
    constraint: Constraint,
    *,
    steps: int = 10,
    rounds: int = 20,
    tolerance: float = 0.005,
    candidates: int = 10,
    margin: Margin | None = None,
    label: Tensor | None = None,
    engine: Engine = "projected_gradient",
    support: Tensor | None = None,
    method: str = "auto",
    settings: solvers.Settings | dict[str, Any] | None = None,
    name: str | None = None,
    observer: Callable[[Search], None] | None = None,
) -> MinimalBudgetResult:
    """The smallest SSIM distance, norm or feature distance that changes the decision, image by image.

    A level is tried by at most ``steps`` steps of the engine, stopping at success or where there is no hope of it,
    from the best perturbation so far scaled into the set. A success is cut to where the margin vanishes, and its level
    measured. From there a walk along the border of the decision lowers the level until it gains no more
    (``projected_gradient`` only; the other engines bisect), and a level just below closes the bracket. In the end other
    classes that are about as near, to first order, get their try from the clean image.

    Args:
        model, image, margin, label, support, method, settings: as for :func:`~ssimpert.perturb`.
        constraint: a set of the family, whose own level is tried first; see
            :func:`~ssimpert.perturbation.budget_search.levels.family_of` for what the level is.
        steps: most steps per level, at least 1; a walk may take twice as many.
        rounds: most levels tried per image, at least 1.
        tolerance: an image is done once its bracket is within this relative width, > 0.
        candidates: for the untargeted margin, the engine climbs towards the class that is nearest to first order
            among so many of largest logit (:func:`~ssimpert.perturbation.budget_search.nearest_class.class_distances`),
            and at the end towards up to two others; 1 for the runner-up, chosen anew at every step. Any other class
            counts as success all the same.
        engine: one that keeps to the set around the original image.
        name: what tables call it; default made from the constraint.
        observer: called after every level tried, with the search so far: ``high`` (B,), the least levels that
            succeeded, infinite for none yet; ``low``, ``rounds`` and ``steps`` likewise. For progress bars.

    Raises:
        InputError: before any step.
    """
    began = time.perf_counter()
    margin = margin if margin is not None else Untargeted()
    settings = solvers.Settings.of(settings)
    check_image(image)
    region = region_of(support, image)
    family = check_level_options(constraint, steps, rounds, tolerance, engine, method)
    constraint.check(image)
    if not isinstance(candidates, int) or isinstance(candidates, bool) or candidates < 1:
        raise InputError(f"candidates must be an integer of at least 1, got {candidates!r}")
    label_given, label = label, labels_of(model, image, label, margin)
    reference = image.to(torch.float64)
    clean = margin(forward(model, reference), label)
    if not bool(clean.isfinite().any()):
        raise InputError("the model gives NaN or infinite logits for every image")
    search = Search.of(reference, clean)
    families = [family.for_image(k, len(image)) for k in range(len(image))]
    attempt = Attempt(model, families, steps, engine, method, settings, region)
    none = torch.zeros(len(image), 0, dtype=torch.long, device=image.device)
    aim = Aim(margin, label, none, none.to(torch.float64))
    if isinstance(margin, Untargeted) and candidates > 1 and bool((clean <= 0).any()):
        at = family.at(family.first)
        near, distance = class_distances(model, image, label, at, candidates=candidates, support=support)
        aim = Aim(LabelWins(), near[:, 0], near[:, 1:], distance[:, 1:] / distance[:, :1])
    wanted = (clean <= 0).nonzero()[:, 0]  # a NaN is not <= 0
    levels_below = LevelSearch(
        attempt,
        image,
        label,
        margin,
        clean,
        aim,
        family.first,
        family.largest,
        rounds=rounds,
        tolerance=tolerance,
        observer=observer,
    )
    levels_below.run(search, wanted)
    found = search.high.isfinite()
    levels = torch.where(found & (search.high > 0), search.high, family.first)
    final = attempt.sets(levels, torch.arange(len(image)))
    messages = [
        "" if value > 0 else "the goal is reached by the clean image already" if value == 0 else "logits are NaN"
        for value in torch.where(clean.isnan(), torch.nan, search.high).tolist()
    ]
    for k in (~found & clean.isfinite()).nonzero()[:, 0].tolist():
        messages[k] = f"no level up to {float(search.low[k]):.4g} changes the decision"
    end = End(reference + search.delta, search.steps, messages, search.history)
    oracle = Oracle(final, len(image), method, settings, region)
    result = measure(
        model,
        image,
        end,
        label,
        margin,
        rule=oracle,
        constraint=constraint,
        name=name or f"minimal {constraint.kind}",
        settings={
            "constraint": describe(constraint),
            "level": family.unit,
            "steps": steps,
            "rounds": rounds,
            "tolerance": tolerance,
            "candidates": candidates,
            "margin": describe(margin),
            "engine": engine,
            "recentred": False,
            "support": share_of(support),
            "stop_at_success": True,
            "method": method,
            "solver": describe_settings(settings),
            "label": None if label_given is None else label.tolist(),
        },
        seconds=time.perf_counter() - began,
    )
    excess = [
        at.bind(reference[k : k + 1]).excess(result.delta[k : k + 1].to(torch.float64)) for k, at in enumerate(final)
    ]
    result.settings["certified"] = oracle.certified
    values = {entry.name: getattr(result, entry.name) for entry in fields(result)}
    values["violation"] = torch.cat(excess).clamp_min(0).to(image.dtype)
    # The search leaves room for the logits' rounding; were it not enough, the level would promise what is not there.
    lost = found & ~result.success & clean.isfinite()
    values["messages"] = tuple(
        "the goal was reached by less than the logits' rounding" if gone else message
        for gone, message in zip(lost.tolist(), result.messages, strict=True)
    )
    level = torch.where(found & ~lost, search.high, torch.nan)
    require_sound_gradients(result)
    return MinimalBudgetResult(**values, level=level, failed_level=search.low, rounds=search.rounds)
