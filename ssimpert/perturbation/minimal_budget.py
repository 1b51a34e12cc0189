"""``minimal_budget``: the least level of a set at which the decision changes, by bracketing and bisection.

The question of minimal-norm attacks (Moosavi-Dezfooli et al., DeepFool, CVPR 2016; Rony et al., DDN, CVPR 2019), for
any family of nested sets. ``perturb`` asks the other one: the largest margin at a given level.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.linearization import LabelWins, Margin, Untargeted, forward
from ssimpert.linearization.gradient import Model
from ssimpert.perturbation.engines import Engine
from ssimpert.perturbation.level_attempt import Attempt, check_level_options, cut_to_border
from ssimpert.perturbation.levels import Family, least_level
from ssimpert.perturbation.measure import End, measure
from ssimpert.perturbation.nearest_class import nearest_class
from ssimpert.perturbation.oracle import Oracle
from ssimpert.perturbation.perturb import check_image, describe, describe_settings, labels_of
from ssimpert.perturbation.result import PerturbResult, StepRow
from ssimpert.perturbation.support import region_of, share_of

# A bracket without a failing end is searched downwards by this factor, one without a success upwards by 2.
DOWN = 4.0


@dataclass(frozen=True, eq=False)
class MinimalBudgetResult(PerturbResult):
    """What :func:`minimal_budget` returns: for each image the end of the bracket that is feasible and successful.

    Attributes:
        level: (B,) float64, the least level at which the goal was reached; NaN where it never was.
        failed_level: (B,) float64, the largest level, below ``level`` where there is one, at which the engine failed;
            0 where it never did. The engine is no proof: the goal may be reachable there.
        rounds: (B,) long, levels tried.
    """

    level: Tensor
    failed_level: Tensor
    rounds: Tensor

    def rows(self) -> list[dict[str, Any]]:
        """As :meth:`PerturbResult.rows`, with the levels beside."""
        return [
            row
            | {
                "level": float(self.level[k]),
                "failed_level": float(self.failed_level[k]),
                "rounds": int(self.rounds[k]),
            }
            for k, row in enumerate(super().rows())
        ]


@dataclass(frozen=True)
class _Aim:
    """What the engine climbs: positive only where the goal is reached."""

    margin: Margin
    label: Tensor


@dataclass
class _Search:
    """The brackets, (B,) each, and the best perturbations, (B, C, H, W) float64 but on the images' own grid."""

    low: Tensor
    high: Tensor
    delta: Tensor
    rounds: Tensor
    steps: Tensor
    history: list[StepRow]


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
) -> MinimalBudgetResult:
    """The smallest SSIM distance, norm or feature distance that changes the decision, image by image.

    A level is tried by at most ``steps`` steps of the engine, stopping at success, from the best perturbation so far
    scaled into the set. A success is first cut to where the margin vanishes, and its level measured: the bracket
    closes from above faster than by bisection alone. Bisection is geometric.

    Args:
        model, image, margin, label, support, method, settings: as for :func:`~ssimpert.perturb`.
        constraint: a set of the family, whose own level is tried first; see
            :func:`~ssimpert.perturbation.levels.family_of` for what the level is.
        steps: most steps per level, at least 1.
        rounds: most levels tried per image, at least 1.
        tolerance: an image is done once its bracket is within this relative width, > 0.
        candidates: for the untargeted margin, the engine climbs towards the class that is nearest to first order
            among so many of largest logit (:func:`~ssimpert.perturbation.nearest_class.nearest_class`); 1 for the
            runner-up, chosen anew at every step. Any other class counts as success all the same.
        engine: one that keeps to the set around the original image.

    Raises:
        InputError: before any step.
    """
    began = time.perf_counter()
    margin = margin if margin is not None else Untargeted()
    settings = solvers.Settings.of(settings)
    check_image(image)
    region = region_of(support, image)
    family = check_level_options(constraint, steps, rounds, tolerance, engine)
    if not isinstance(candidates, int) or isinstance(candidates, bool) or candidates < 1:
        raise InputError(f"candidates must be an integer of at least 1, got {candidates!r}")
    label_given, label = label, labels_of(model, image, label, margin)
    reference = image.to(torch.float64)
    clean = margin(forward(model, reference), label)
    if not bool(clean.isfinite().any()):
        raise InputError("the model gives NaN or infinite logits for every image")
    zero = torch.zeros_like(clean, dtype=torch.float64)
    search = _Search(
        low=zero.clone(),
        high=torch.full_like(zero, torch.inf).masked_fill(clean > 0, 0.0),
        delta=torch.zeros_like(reference),
        rounds=torch.zeros_like(label),
        steps=torch.zeros_like(label),
        history=[],
    )
    families = [family.for_image(k, len(image)) for k in range(len(image))]
    attempt = Attempt(model, families, steps, engine, method, settings, region)
    level = torch.full_like(zero, family.first)
    aim = _Aim(margin, label)
    if isinstance(margin, Untargeted) and candidates > 1 and bool((clean <= 0).any()):
        aim = _Aim(
            LabelWins(),
            nearest_class(model, image, label, family.at(family.first), candidates=candidates, support=support),
        )
    for _ in range(rounds):
        pending = _pending(search, clean, family, tolerance)
        if not pending.numel():
            break
        _try(attempt, image, label, margin, aim, search, level, pending)
        level = _next(search, family)
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
    level = torch.where(found, search.high, torch.nan)
    return MinimalBudgetResult(**values, level=level, failed_level=search.low, rounds=search.rounds)


def _pending(search: _Search, clean: Tensor, family: Family, tolerance: float) -> Tensor:
    """The images (long) whose brackets are still too wide and that have a level left to try."""
    wide = search.high > (1 + tolerance) * search.low
    beyond = search.high.isinf() & (search.low >= family.largest)
    return (wide & ~beyond & (clean <= 0)).nonzero()[:, 0]  # a NaN is not <= 0


def _next(search: _Search, family: Family) -> Tensor:
    """The level to try next: twice a failing one, a quarter of a successful one, or the bracket's geometric mean."""
    upwards = (2 * search.low).clamp_max(family.largest)
    between = torch.where(search.low > 0, (search.low * search.high).sqrt(), search.high / DOWN)
    return torch.where(search.high.isinf(), upwards, between)


def _try(
    attempt: Attempt,
    image: Tensor,
    label: Tensor,
    margin: Margin,
    aim: _Aim,
    search: _Search,
    level: Tensor,
    pending: Tensor,
) -> None:
    """Try ``level`` (B,) for the images at ``pending`` (long, (K,)) and move their brackets."""
    model, reference = attempt.model, image[pending].to(torch.float64)
    sets = attempt.sets(level[pending], pending)
    state = attempt.run(reference, aim.label[pending], aim.margin, sets, search.delta[pending], pending, stop=True)
    search.rounds[pending] += 1
    search.steps[pending] += state.steps
    search.history += [{**row, "image": int(pending[row["image"]])} for row in state.history]
    delta = cut_to_border(model, image[pending], state.images, label[pending], margin)
    reached = margin(forward(model, reference + delta), label[pending]) > 0
    search.low[pending[~reached]] = level[pending[~reached]]
    for k in reached.nonzero()[:, 0].tolist():
        place = int(pending[k])
        # Rounding to the images' dtype may leave the set by a little.
        enough = 1.001 * float(level[place])
        least = least_level(attempt.families[place], reference[k : k + 1], delta[k : k + 1], enough)
        if least < float(search.high[place]):
            search.high[place], search.delta[place] = least, delta[k]
        # The cut perturbation may lie below a level that failed from elsewhere: that failure says nothing any more.
        if search.low[place] >= search.high[place]:
            search.low[place] = 0.5 * search.high[place]
