"""``minimal_budget``: the least level of a set at which the decision changes.

This is the question of minimal-norm attacks (Moosavi-Dezfooli et al., DeepFool, CVPR 2016; Rony et al., DDN, CVPR
2019), for any family of nested sets. ``perturb`` asks the other question: the largest margin at a given level.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.linearization import LabelWins, Margin, Untargeted
from ssimpert.linearization.margins import margin_for
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation.budget_search.attempt import Attempt, check_level_options
from ssimpert.perturbation.budget_search.bracketing import Brackets, BracketSearch, Target
from ssimpert.perturbation.budget_search.nearest_class import class_distances
from ssimpert.perturbation.engines.catalog import Engine
from ssimpert.perturbation.engines.step_solver import StepSolver
from ssimpert.perturbation.evaluation import measure, require_sound_gradients, require_sound_margins
from ssimpert.perturbation.goal import Goal
from ssimpert.perturbation.inputs import check_image, checked_goal, support_set, support_share
from ssimpert.perturbation.results import FinalIterate, MinimalBudgetResult
from ssimpert.records import describe, describe_settings
from ssimpert.validation import check_count, check_share


@takes_model
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
    observer: Callable[[Brackets], None] | None = None,
) -> MinimalBudgetResult:
    """The smallest SSIM distance, norm or feature distance that changes the decision, image by image.

    An attempt at a level takes at most ``steps`` steps of the engine, from the best perturbation so far scaled into the
    set. It stops at success, or where success is out of reach. A success is shortened to where the margin vanishes, and
    its level is measured. From there a walk along the decision boundary lowers the level until it gains no more
    (``projected_gradient`` only; the other engines bisect). An attempt just below closes the bracket. In the end other
    classes that are nearly as near, to first order, are tried from the clean image.

    Args:
        model, image, margin, label, support, method, settings: as for :func:`~ssimpert.perturb`.
        constraint: a set of the family, whose own level is tried first; see
            :func:`~ssimpert.perturbation.budget_search.levels.family_of` for what the level is.
        steps: most steps per level, at least 1; a walk may take twice as many.
        rounds: most levels tried per image, at least 1.
        tolerance: an image is done once its bracket is within this relative width; between 0 and 1.
        candidates: for the untargeted margin, the engine climbs towards the class that is nearest to first order
            among so many of largest logit (:func:`~ssimpert.perturbation.budget_search.nearest_class.class_distances`),
            and in the end towards up to two others. With 1 it climbs towards the runner-up, chosen anew at every step.
            Any other class counts as success all the same.
        engine: one that keeps to the set around the original image.
        name: what tables call it; default made from the constraint.
        observer: called after every level tried, with the brackets so far: ``high`` (B,), the least levels that
            succeeded, infinite for none yet; ``low``, ``rounds`` and ``steps`` likewise. For progress bars.

    Returns:
        One entry per image: the perturbation of the least level found. Failures are returned too.

    Raises:
        InputError: images, labels or options that can't be used; raised before any step.
    """
    began = time.perf_counter()
    margin = margin_for(margin, model)
    settings = solvers.Settings.of(settings)
    check_image(image)
    region = support_set(support, image)
    steps, rounds = check_count("steps", steps), check_count("rounds", rounds)
    tolerance, candidates = check_share("tolerance", tolerance), check_count("candidates", candidates)
    family = check_level_options(constraint, engine, method)
    constraint.check(image)
    goal = checked_goal(model, image, label, margin)
    reference = image.to(torch.float64)
    clean_margin = goal.decide(reference).margin
    require_sound_margins(clean_margin)
    attempt = Attempt(
        families=[family.for_image(k, len(image)) for k in range(len(image))],
        steps=steps,
        engine=engine,
        method=method,
        settings=settings,
        support=region,
    )
    target = Target(goal, goal.label.new_zeros(len(image), 0), clean_margin.new_zeros(len(image), 0))
    if isinstance(margin, Untargeted) and candidates > 1 and bool((clean_margin <= 0).any()):
        target = _nearest_classes(goal, image, family.at(family.first), candidates, support)
    brackets = Brackets.widest(reference, clean_margin)
    search = BracketSearch(attempt, goal, image, clean_margin, target, rounds, tolerance, observer)
    search.run(brackets, (clean_margin <= 0).nonzero()[:, 0])  # without images whose margin is NaN
    succeeded = brackets.high.isfinite()
    levels = torch.where(succeeded & (brackets.high > 0), brackets.high, family.first)
    final_sets = attempt.sets(levels, torch.arange(len(image)))
    step_solver = StepSolver(final_sets, len(image), method, settings, region)
    result = measure(
        goal,
        image,
        FinalIterate(reference + brackets.delta, brackets.steps, _messages(brackets, clean_margin), brackets.history),
        step_solver=step_solver,
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
            "support": support_share(support),
            "stop_at_success": True,
            "method": method,
            "solver": describe_settings(settings),
            "label": None if label is None else goal.label.tolist(),
        },
        seconds=time.perf_counter() - began,
    )
    result.settings["certified"] = step_solver.certified
    require_sound_gradients(result)
    excess = [
        member.bind(reference[k : k + 1]).excess(result.delta[k : k + 1].to(torch.float64))
        for k, member in enumerate(final_sets)
    ]
    # The search leaves room for the logits' rounding. Where that was not enough, the level would be a false promise.
    lost = succeeded & ~result.success & clean_margin.isfinite()
    messages = tuple(
        "the goal was reached by less than the logits' rounding" if gone else message
        for gone, message in zip(lost.tolist(), result.messages, strict=True)
    )
    return MinimalBudgetResult.extending(
        replace(result, violation=torch.cat(excess).clamp_min(0).to(image.dtype), messages=messages),
        level=torch.where(succeeded & ~lost, brackets.high, torch.nan),
        failed_level=brackets.low,
        rounds=brackets.rounds,
    )


def _nearest_classes(
    goal: Goal, image: Tensor, constraint: Constraint, candidates: int, support: Tensor | None
) -> Target:
    """The nearest class of each image, to first order, as the class to climb to; the next ones as its rivals."""
    classes, distance = class_distances(
        goal.model, image, goal.label, constraint, candidates=candidates, support=support
    )
    nearest = Goal(goal.model, classes[:, 0], LabelWins())
    return Target(nearest, classes[:, 1:], distance[:, 1:] / distance[:, :1])


def _messages(brackets: Brackets, clean_margin: Tensor) -> list[str]:
    """Why an image has no level above 0, or empty."""
    messages = []
    for k, margin in enumerate(clean_margin.tolist()):
        high = float(brackets.high[k])
        if math.isnan(margin):
            messages.append("logits are NaN")
        elif high == 0:
            messages.append("the goal is reached by the clean image already")
        elif math.isinf(high) and math.isfinite(margin):
            messages.append(f"no level up to {float(brackets.low[k]):.4g} changes the decision")
        else:
            messages.append("")
    return messages
