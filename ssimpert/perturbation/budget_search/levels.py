"""Families of nested sets. One number, the level, says how large a set of the family is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from solvers.rounding import length
from ssimpert.errors import InputError

# Bisections when looking for the least level that holds a perturbation, and the relative width at which they end.
LEVEL_HALVINGS, LEVEL_RESOLUTION = 40, 1e-9
# An excess of this share of the level, in the set's own unit, counts as none. Levels may be as small as 1e-8.
LEVEL_ROUNDING = 1e-10
# A perturbation found at a level lies in the set of this multiple of the level. Rounding to the images' dtype may have
# moved the perturbation out of the level's own set by a little.
LEVEL_ROOM = 1.001


@dataclass(frozen=True)
class Family:
    """Sets that grow with their level.

    Attributes:
        at: maps a positive level to the set.
        first: the level to begin with.
        largest: a larger level makes no sense, or adds nothing for images in [0, 1].
        unit: what the level is, in words.
    """

    at: Callable[[float], Constraint]
    first: float
    largest: float
    unit: str

    def for_image(self, number: int, batch: int) -> Family:
        """The family for the image ``number`` of a batch alone: feature balls have a Jacobian per image."""
        index = torch.tensor([number])
        return replace(self, at=lambda level: self.at(level).select(index, batch))


def own_level(constraint: Constraint) -> tuple[float | Tensor, str]:
    """The level of ``constraint`` itself, which is a tensor where each image has its own, and what the level is.

    The level is ``1 - threshold`` for WindowSSIM, ProductSSIM and MeanSSIM, ``distance`` for GlobalSSIM, and ``radius``
    for LpBall and FeatureBall. An Intersection with one FeatureBall, such as a feature ball within an l2 ball, has the
    level of this ball.

    Raises:
        InputError: a set without a level.
    """
    if isinstance(constraint, solvers.MeanSSIM):
        return 1 - constraint.threshold, "1 - mean SSIM"
    if isinstance(constraint, (solvers.WindowSSIM, solvers.ProductSSIM)):
        return 1 - constraint.threshold, "1 - SSIM of the least window"
    if isinstance(constraint, solvers.GlobalSSIM):
        return constraint.distance, "distance d2"
    if isinstance(constraint, (solvers.LpBall, solvers.FeatureBall)):
        return constraint.radius, "radius"
    if isinstance(constraint, solvers.Intersection):
        balls = [member for member in constraint.sets if isinstance(member, solvers.FeatureBall)]
        if len(balls) == 1:
            return own_level(balls[0])
    raise InputError(
        f"{constraint.kind} has no level to look for; give WindowSSIM, ProductSSIM, MeanSSIM, GlobalSSIM, LpBall or "
        "FeatureBall, or an Intersection with one FeatureBall"
    )


def family_of(template: Constraint) -> Family:
    """The family that ``template`` belongs to, beginning at its own level; :func:`own_level` says what the level is.

    A numeric luminance bound keeps its share of the level. In an Intersection only the feature ball grows with the
    level.

    Raises:
        InputError: a set without a level, or with one per image.
    """
    level, unit = own_level(template)
    if isinstance(level, Tensor) and level.numel() > 1:
        raise InputError(
            f"minimal_budget looks for a level per image by itself; give {template.kind} one radius to begin "
            f"with, got {level.numel()}"
        )
    if isinstance(template, (solvers.WindowSSIM, solvers.ProductSSIM, solvers.MeanSSIM)):
        return _window_family(template, unit)
    if isinstance(template, solvers.GlobalSSIM):
        return Family(lambda level: replace(template, distance=level), float(level), 0.9, unit)
    if isinstance(template, solvers.Intersection):
        return Family(lambda level: _with_feature_radius(template, level), float(level), torch.inf, unit)
    assert isinstance(template, (solvers.LpBall, solvers.FeatureBall))  # own_level refuses any other set
    largest = 1.0 if isinstance(template, solvers.LpBall) and template.p == torch.inf else torch.inf
    return Family(lambda level: replace(template, radius=level), float(level), largest, unit)


def _with_feature_radius(template: solvers.Intersection, radius: float) -> Constraint:
    return solvers.Intersection(
        [
            replace(member, radius=radius) if isinstance(member, solvers.FeatureBall) else member
            for member in template.sets
        ]
    )


def _feature_ball(constraint: Constraint) -> solvers.FeatureBall | None:
    """The ball of features whose radius is the level of ``constraint``; ``None`` where the level is another."""
    members = constraint.sets if isinstance(constraint, solvers.Intersection) else (constraint,)
    return next((member for member in members if isinstance(member, solvers.FeatureBall)), None)


def _window_family(template: solvers.WindowSSIM | solvers.ProductSSIM | solvers.MeanSSIM, unit: str) -> Family:
    own_level = 1 - template.threshold
    luminance = None if isinstance(template, solvers.ProductSSIM) else template.luminance
    if isinstance(luminance, float) and luminance >= (1 - 1e-9) * own_level:
        # At other levels the rounding of 1 - threshold would decide whether such a set exists.
        raise InputError(
            f"luminance {luminance:g} is all of 1 - threshold {own_level:g}: nothing is left for contrast and "
            "structure; give a smaller luminance"
        )

    def at(level: float) -> Constraint:
        changes: dict[str, Any] = {"threshold": 1 - level}
        if isinstance(luminance, float):
            changes["luminance"] = luminance * level / own_level
        return replace(template, **changes)

    return Family(at, own_level, 0.95, unit)


def least_level(family: Family, reference: Tensor, delta: Tensor, sufficient: float) -> float:
    """The least level whose set holds a perturbation.

    For a ball of features this is the length of ``J d``, one product. For other sets it is found by bisection, to a
    relative width of 1e-9.

    Args:
        family: of the sets.
        reference: the clean image, (1, C, H, W) float64.
        delta: its perturbation, (1, C, H, W) float64.
        sufficient: a level whose set holds the perturbation up to rounding; the largest level returned.
    """

    ball = _feature_ball(family.at(sufficient))
    if ball is not None:
        distance = float(length(ball.jacobian.apply(delta)))
        return min(max(distance, LEVEL_RESOLUTION * sufficient), sufficient)

    def excess(level: float) -> float:
        return float(family.at(level).bind(reference).excess(delta))

    low, high = 0.0, sufficient
    # The excess that rounding leaves at the sufficient level is allowed at every level.
    allowed = max(LEVEL_ROUNDING * sufficient, excess(sufficient))
    for _ in range(LEVEL_HALVINGS):
        middle = (low + high) / 2
        if high - low <= LEVEL_RESOLUTION * high:
            break
        if excess(middle) <= allowed:
            high = middle
        else:
            low = middle
    return high
