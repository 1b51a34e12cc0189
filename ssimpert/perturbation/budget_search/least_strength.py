"""The least strength of a whole method at which the decision changes, for methods that have no set to shrink.

:func:`ssimpert.minimal_budget` walks along a decision boundary within a family of sets. A perceptual ball is run anew
at every strength instead: its radius, or one over the weight of its features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ssimpert.perturbation.results import IMAGE_SETTINGS, MinimalBudgetResult, PerturbResult
from ssimpert.validation import check_count, check_positive, check_share

# An image (1, C, H, W) perturbed at a strength; the larger the strength, the more the method may change.
Attempt = Callable[[Tensor, float], PerturbResult]
# The next strength as a multiple of the last one, until a success and a failure enclose the least strength.
GROWTH = 4.0


def least_strength(
    attempt: Attempt,
    image: Tensor,
    first: float,
    *,
    unit: str,
    needed: Callable[[PerturbResult], float] | None = None,
    rounds: int = 20,
    tolerance: float = 0.005,
) -> MinimalBudgetResult:
    """The least strength at which ``attempt`` reaches its goal, image by image, by bisection of the logarithm.

    Args:
        attempt: the method, run on one image at a strength.
        image: the clean images, (B, C, H, W).
        first: the strength that is tried first, positive.
        unit: what the strength is, in words.
        needed: the strength that a successful perturbation needs, which may be far less than the one tried; it then
            takes its place. Default: the one tried.
        rounds: most strengths tried for each image, at least 1.
        tolerance: an image is done once its bracket is within this relative width; between 0 and 1.

    Returns:
        For each image the attempt of the least strength that succeeded; its last attempt where none did. ``level`` is
        the strength.

    Raises:
        InputError: an option is out of range, or the method can't be run.
    """
    first, rounds = check_positive("first", first), check_count("rounds", rounds)
    tolerance = check_share("tolerance", tolerance)
    results, levels, failed_levels, tried = [], [], [], []
    for index in range(len(image)):
        result, level, failed_level, count = _of_one_image(
            attempt, image[index : index + 1], first, needed, rounds, tolerance
        )
        results.append(result)
        levels.append(level)
        failed_levels.append(failed_level)
        tried.append(count)
    whole = type(results[0]).concatenate(results)
    # What differs from image to image, such as the weight, becomes a list.
    apart = [key for key, value in whole.settings.items() if any(part.settings[key] != value for part in results)]
    settings = whole.settings | {
        key: [part.settings[key] for part in results] for key in apart if key not in IMAGE_SETTINGS
    }
    settings |= {"level": unit, "rounds": rounds, "tolerance": tolerance}
    return MinimalBudgetResult.extending(
        replace(whole, name=f"minimal {whole.name}", settings=settings),
        level=torch.tensor(levels, dtype=torch.float64),
        failed_level=torch.tensor(failed_levels, dtype=torch.float64),
        rounds=torch.tensor(tried),
    )


def _of_one_image(
    attempt: Attempt,
    image: Tensor,
    first: float,
    needed: Callable[[PerturbResult], float] | None,
    rounds: int,
    tolerance: float,
) -> tuple[PerturbResult, float, float, int]:
    """The best attempt, the least strength of success (NaN for none), the largest of failure, and the attempts."""
    low, high, strength = 0.0, math.inf, first
    best: PerturbResult | None = None
    count = 0
    while count < rounds and (math.isinf(high) or high - low > tolerance * high):
        result = attempt(image, strength)
        count += 1
        if bool(result.success):
            best, high = result, strength if needed is None else min(strength, needed(result))
        else:
            low = strength
        if bool(result.margin_before > 0):  # the clean image reaches the goal
            return result, 0.0, 0.0, count
        strength = GROWTH * low if math.isinf(high) else high / GROWTH if low == 0 else math.sqrt(low * high)
    if best is not None:
        return best, high, low, count
    message = f"no level up to {low:.4g} changes the decision"
    return replace(result, messages=(message,)), math.nan, low, count
