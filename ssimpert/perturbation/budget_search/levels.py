"""Families of nested sets: one number, the level, says how much a set allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.errors import InputError

# Halvings when looking for the least level that holds a perturbation: a relative error of 1e-9.
HALVINGS = 40
# Excess, in the set's own unit and as a share of the level, that counts as none: levels may be as small as 1e-8.
ROUNDING = 1e-10
# A perturbation found at a level may need this much more: rounding to the images' dtype may leave the set by a little.
ROOM = 1.001


@dataclass(frozen=True)
class Family:
    """Sets that grow with their level.

    Attributes:
        at: from a level, positive, to the set.
        first: the level to begin with.
        largest: no level beyond it makes sense (or, for images in [0, 1], adds anything).
        unit: what the level is, in words.
    """

    at: Callable[[float], Constraint]
    first: float
    largest: float
    unit: str

    def for_image(self, number: int, batch: int) -> Family:
        """The same family for one image of a batch alone: feature balls have a Jacobian per image."""
        index = torch.tensor([number])
        return replace(self, at=lambda level: self.at(level).select(index, batch))


def family_of(template: Constraint) -> Family:
    """The family that ``template`` belongs to, beginning at its own level.

    The level is ``1 - threshold`` for WindowSSIM, ProductSSIM and MeanSSIM (a numeric luminance bound keeps its share
    of it), ``distance`` for GlobalSSIM, ``radius`` for LpBall and FeatureBall.

    Raises:
        InputError: a set without a level, or with one per image.
    """
    if isinstance(template, (solvers.WindowSSIM, solvers.ProductSSIM, solvers.MeanSSIM)):
        return _window_family(template)
    if isinstance(template, solvers.GlobalSSIM):
        return Family(lambda level: replace(template, distance=level), template.distance, 0.9, "distance d2")
    if isinstance(template, (solvers.LpBall, solvers.FeatureBall)):
        radius = template.radius
        if isinstance(radius, Tensor) and radius.numel() > 1:
            raise InputError(
                f"minimal_budget looks for a level per image by itself; give {template.kind} one radius to begin "
                f"with, got {radius.numel()}"
            )
        largest = 1.0 if isinstance(template, solvers.LpBall) and template.p == torch.inf else torch.inf
        return Family(lambda level: replace(template, radius=level), float(radius), largest, "radius")
    raise InputError(
        f"{template.kind} has no level to look for; give WindowSSIM, ProductSSIM, MeanSSIM, GlobalSSIM, LpBall or "
        "FeatureBall"
    )


def _window_family(template: solvers.WindowSSIM | solvers.ProductSSIM | solvers.MeanSSIM) -> Family:
    whole = 1 - template.threshold
    luminance = None if isinstance(template, solvers.ProductSSIM) else template.luminance
    if isinstance(luminance, float) and luminance >= (1 - 1e-9) * whole:
        # At other levels rounding would decide whether such a set exists.
        raise InputError(
            f"luminance {luminance:g} is all of 1 - threshold {whole:g}: nothing is left for contrast and structure; "
            "give a smaller luminance"
        )

    def at(level: float) -> Constraint:
        changes: dict[str, Any] = {"threshold": 1 - level}
        if isinstance(luminance, float):
            changes["luminance"] = luminance * level / whole
        return replace(template, **changes)

    unit = "1 - mean SSIM" if isinstance(template, solvers.MeanSSIM) else "1 - SSIM of the least window"
    return Family(at, whole, 0.95, unit)


def least_level(family: Family, reference: Tensor, delta: Tensor, enough: float) -> float:
    """The least level, to HALVINGS halvings, whose set holds ``delta`` (1, C, H, W); at most ``enough``, which does."""
    low, high = 0.0, enough
    # What rounding leaves over at the level that is enough may be left over at any.
    slack = max(ROUNDING * enough, float(family.at(enough).bind(reference).excess(delta)))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if high - low <= 1e-9 * high:
            break
        if float(family.at(middle).bind(reference).excess(delta)) <= slack:
            high = middle
        else:
            low = middle
    return high
