"""Several convex sets as one, for functions that take a single set. A problem takes the intersection apart again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from solvers.constraints.base import BoundConstraint, ConicForm, Constraint
from solvers.errors import ProblemError

if TYPE_CHECKING:
    import cvxpy as cp


@dataclass(frozen=True)
class Intersection(Constraint):
    """The perturbations in every one of ``sets``, such as a feature ball within an l2 ball.

    A problem lists the sets of an intersection instead of the intersection. So methods and certificates see the sets,
    and each set has its own dual block.

    Attributes:
        sets: two or more convex sets. An intersection among them is replaced by its sets.

    Raises:
        ProblemError: fewer than two sets, a set that is not convex, or an object that is no set.
    """

    sets: Sequence[Constraint]

    def __post_init__(self) -> None:
        try:
            sets = tuple(self.sets)
        except TypeError:
            raise ProblemError(f"Intersection takes a list of sets, got {self.sets!r}") from None
        for constraint in sets:
            if not isinstance(constraint, Constraint):
                raise ProblemError(f"Intersection takes sets such as solvers.LpBall, got {constraint!r}")
            if not constraint.is_convex:
                # A ray from 0 may leave such a set and enter it again, so there is no common scale factor.
                raise ProblemError(f"Intersection takes convex sets, and {constraint.kind} is none")
        sets = flattened(sets)
        if len(sets) < 2:
            raise ProblemError(f"Intersection takes two or more sets, got {len(sets)}")
        object.__setattr__(self, "sets", sets)

    @property
    def kind(self) -> str:
        """The sets' kinds, as in "FeatureBall and LpBall"."""
        return " and ".join(constraint.kind for constraint in self.sets)

    def check(self, reference: Tensor) -> None:
        for constraint in self.sets:
            constraint.check(reference)

    def check_pixels(self, reference: Tensor, sound: Tensor) -> None:
        for constraint in self.sets:
            constraint.check_pixels(reference, sound)

    def bind(self, reference: Tensor) -> BoundIntersection:
        return BoundIntersection(self, [constraint.bind(reference) for constraint in self.sets])

    def select(self, index: Tensor, batch: int) -> Intersection:
        return Intersection([constraint.select(index, batch) for constraint in self.sets])

    def to(self, *, dtype: torch.dtype, device: torch.device) -> Intersection:
        return Intersection([constraint.to(dtype=dtype, device=device) for constraint in self.sets])


class BoundIntersection(BoundConstraint):
    """The sets for a batch of images. The intersection has no dual block; each of its sets has one."""

    constraint: Intersection

    def __init__(self, constraint: Intersection, sets: list[BoundConstraint]) -> None:
        self.constraint = constraint
        self.sets = sets

    def excess(self, delta: Tensor) -> Tensor:
        """The largest excess of the sets, each in the unit of the set, (B,)."""
        return torch.stack([bound.excess(delta) for bound in self.sets]).amax(dim=0)

    def scale_factor(self, delta: Tensor) -> Tensor:
        # A convex set holds the segment from 0 to each of its points, so the smallest factor is inside all sets.
        return torch.stack([bound.scale_factor(delta) for bound in self.sets]).amin(dim=0)

    def retract(self, delta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        for bound in self.sets:
            delta = bound.retract(delta, lower, upper)
        return delta

    @property
    def has_equality(self) -> bool:
        return any(bound.has_equality for bound in self.sets)

    @property
    def is_elementwise(self) -> bool:
        return all(bound.is_elementwise for bound in self.sets)

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        set_bounds = [limits for limits in (bound.bounds() for bound in self.sets) if limits is not None]
        if not set_bounds:
            return None
        lower, upper = set_bounds[0]
        for set_lower, set_upper in set_bounds[1:]:
            lower, upper = torch.maximum(lower, set_lower), torch.minimum(upper, set_upper)
        return lower, upper

    def implied_bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        for bound in self.sets:
            lower, upper = bound.implied_bounds(lower, upper)
        return lower, upper

    def support(self, direction: Tensor) -> Tensor | None:
        """The smallest support value of the sets, (B,): an upper bound that is not attained in general."""
        values = [value for value in (bound.support(direction) for bound in self.sets) if value is not None]
        return torch.stack(values).amin(dim=0) if values else None

    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        forms = [bound.conic_form(delta, image) for bound in self.sets]
        return ConicForm([constraint for form in forms for constraint in form.constraints])

    def conic_size(self) -> int:
        return sum(bound.conic_size() for bound in self.sets)


def flattened(constraints: Iterable[Constraint]) -> tuple[Constraint, ...]:
    """``constraints`` with every intersection replaced by its sets, in order."""
    return tuple(
        member
        for constraint in constraints
        for member in (constraint.sets if isinstance(constraint, Intersection) else (constraint,))
    )
