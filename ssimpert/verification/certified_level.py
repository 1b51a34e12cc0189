"""``certified_level``: the largest level of a set at which a decision is verified.

:func:`~ssimpert.minimal_budget` finds a level at which the decision changes; this function proves a level at which it
does not. The least level that changes the decision lies between the two.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation import MinimalBudgetResult
from ssimpert.perturbation.budget_search.levels import Family, family_of
from ssimpert.records import describe
from ssimpert.validation import check_count, check_pixels, check_share
from ssimpert.verification.checked_arguments import MEMORY_LIMIT, Work, checked_arguments
from ssimpert.verification.effort import EffortName
from ssimpert.verification.results import CertifiedLevelResult
from ssimpert.verification.sentences import sentence
from ssimpert.verification.verdict import Verdict

# The level is multiplied or divided by this while one end of the bracket is missing.
LEAP = 4.0

LevelObserver = Callable[[int, int, float, bool], None]
"""Told of the image's number, of the levels tried so far, of the last one, and whether it was verified."""


@takes_model
def certified_level(
    model: Model,
    image: Tensor,
    constraint: Constraint,
    *,
    found: MinimalBudgetResult | None = None,
    label: Tensor | None = None,
    effort: EffortName = "standard",
    tolerance: float = 0.05,
    rounds: int = 12,
    time_limit: float | None = None,
    memory_limit: int = MEMORY_LIMIT,
    support: Tensor | None = None,
    settings: solvers.Settings | dict[str, Any] | None = None,
    observer: LevelObserver | None = None,
) -> CertifiedLevelResult:
    """The largest SSIM distance, norm or feature distance up to which no image changes the decision, by bisection.

    Args:
        model, image, label, effort, memory_limit, support, settings: as for :func:`~ssimpert.verify`.
        constraint: a set of the family, whose own level is tried first; see
            :func:`~ssimpert.perturbation.budget_search.levels.family_of` for what the level is.
        found: what :func:`~ssimpert.minimal_budget` found for the same images and the same family. No level above the
            found one can be verified, so the bisection begins below it, and the result has the bracket.
        tolerance: an image is done once the bracket of verified and unverified levels is within this relative width;
            between 0 and 1.
        rounds: most levels tried per image, at least 1.
        time_limit: seconds for each level of each image. Default: none.
        observer: called after every level tried.

    Returns:
        One entry per image.

    Raises:
        InputError: as for :func:`~ssimpert.verify`; a set without a level; ``found`` of other images or of another
            family.
    """
    check_pixels("image", image, smallest_side=1)
    tolerance, rounds = check_share("tolerance", tolerance), check_count("rounds", rounds)
    work = Work.checked(effort, time_limit, memory_limit, settings)
    checked = checked_arguments(model, image, constraint, work, label=label, support=support)
    family = family_of(constraint)
    found_levels = _found_levels(found, family, len(image))
    certified, unverified, tried, seconds = [], [], [], []
    for number in range(len(image)):
        began = time.perf_counter()
        of_image = family.for_image(number, len(image))

        def is_verified(level: float, of_image: Family = of_image, number: int = number) -> bool:
            search = checked.search(number, of_image.at(level), stop_when_decided=True)
            search.run(work.effort, attack=False)
            return search.verified

        told = None if observer is None else _observer_of(observer, number)
        low, high, count = _bisect(is_verified, of_image, found_levels[number], tolerance, rounds, told)
        certified.append(low)
        unverified.append(high)
        tried.append(count)
        seconds.append(time.perf_counter() - began)
    return CertifiedLevelResult(
        level=torch.tensor(certified, dtype=torch.float64),
        unverified_level=torch.tensor(unverified, dtype=torch.float64),
        found_level=torch.tensor(found_levels, dtype=torch.float64),
        rounds=torch.tensor(tried),
        seconds=tuple(seconds),
        sentence=tuple(
            sentence(Verdict.VERIFIED, family.at(level), checked.region) if level > 0 else "No level was verified."
            for level in certified
        ),
        unit=family.unit,
        settings={
            "constraint": describe(constraint),
            "level": family.unit,
            **checked.record,
            "tolerance": tolerance,
            "rounds": rounds,
        },
    )


def _bisect(
    is_verified: Callable[[float], bool],
    family: Family,
    found: float,
    tolerance: float,
    rounds: int,
    observer: Callable[[int, float, bool], None] | None,
) -> tuple[float, float, int]:
    """The largest verified level, the least unverified one above it, and how many were tried.

    Args:
        is_verified: whether a level is verified.
        family: of the sets; the first level to try, and the largest.
        found: a level at which the decision changes; NaN for none.
        tolerance: relative width of the bracket at which the search ends.
        rounds: most levels.
        observer: told of every level.
    """
    low, high, count = 0.0, math.inf, 0
    ceiling = family.largest if math.isnan(found) else min(found, family.largest)
    level = family.first if family.first < ceiling else ceiling / 2
    while count < rounds:
        count += 1
        verified = is_verified(level)
        low, high = (level, high) if verified else (low, level)
        if observer is not None:
            observer(count, level, verified)
        above = min(high, ceiling)
        if above <= low * (1 + tolerance):
            break
        if low == 0:
            level = high / LEAP
        elif math.isinf(high):
            level = min(low * LEAP, ceiling) if math.isnan(found) else math.sqrt(low * ceiling)
        else:
            level = math.sqrt(low * high)
    return low, high, count


def _found_levels(found: MinimalBudgetResult | None, family: Family, batch: int) -> list[float]:
    """The levels that were found, NaN where there is none.

    Raises:
        InputError: they are of other images, or of another family.
    """
    if found is None:
        return [math.nan] * batch
    if not isinstance(found, MinimalBudgetResult):
        raise InputError(f"found must be what minimal_budget returned, got {type(found).__name__}")
    if len(found.level) != batch:
        raise InputError(f"found has {len(found.level)} images, image has {batch}")
    unit = found.settings.get("level")
    if unit != family.unit:
        raise InputError(f"found has the level {unit!r}, the constraint {family.unit!r}; give both the same set")
    return [float(level) for level in found.level]


def _observer_of(observer: LevelObserver, number: int) -> Callable[[int, float, bool], None]:
    return lambda count, level, verified: observer(number, count, level, verified)
