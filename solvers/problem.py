"""The two convex problems, validated once, at construction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from solvers.batch_algebra import inner
from solvers.constraints.base import Constraint
from solvers.constraints.box import Box, Support
from solvers.constraints.feature_ball import FeatureBall
from solvers.constraints.intersection import flattened
from solvers.errors import ProblemError
from solvers.result import Status

ArrayLike = Tensor | np.ndarray[Any, Any]
SomeProblem = TypeVar("SomeProblem", bound="Problem")


@dataclass(frozen=True)
class Defect:
    """Why one image of a batch can't be solved; the others are."""

    status: Status
    reason: str


@dataclass(frozen=True, eq=False)
class Problem:
    """What the two problems share. Arrays (B, C, H, W), float32 or float64; numpy in gives numpy out.

    Attributes:
        reference: x, the images; pixels in [0, 1] unless a set's ``data_range`` says otherwise.
        constraints: the sets; their intersection holds d. Those of an :class:`~solvers.Intersection` are listed.
        defects: images that can't be solved, by number, found at construction. A problem in which *every* image
            has a defect is refused.
        from_numpy: whether the caller gave numpy arrays.
    """

    reference: Tensor
    constraints: tuple[Constraint, ...]
    defects: dict[int, Defect] = field(default_factory=dict, repr=False)
    from_numpy: bool = field(default=False, repr=False)

    @property
    def vector(self) -> Tensor:
        """The gradient or the point: the one image-shaped datum besides the reference."""
        raise NotImplementedError

    def objective(self, delta: Tensor) -> Tensor:
        """The objective per image, (B,)."""
        raise NotImplementedError

    @property
    def batch(self) -> int:
        return self.reference.shape[0]

    def kinds(self) -> tuple[str, ...]:
        """The names of the constraint sets, in order."""
        return tuple(constraint.kind for constraint in self.constraints)

    def find(self, kind: type[Constraint]) -> list[int]:
        """Positions of the constraints of one kind."""
        return [k for k, constraint in enumerate(self.constraints) if isinstance(constraint, kind)]

    def to(self: SomeProblem, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> SomeProblem:
        """The same problem in another dtype or on another device."""
        dtype, device = dtype or self.reference.dtype, device or self.reference.device
        if (dtype, device) == (self.reference.dtype, self.reference.device):
            return self
        return self._replace(
            reference=self.reference.to(dtype=dtype, device=device),
            vector=self.vector.to(dtype=dtype, device=device),
            constraints=tuple(c.to(dtype=dtype, device=device) for c in self.constraints),
            defects=self.defects,
        )

    def select(self: SomeProblem, index: Tensor) -> SomeProblem:
        """The problem of the images at ``index`` (long, (K,))."""
        return self._replace(
            reference=self.reference[index],
            vector=self.vector[index],
            constraints=tuple(c.select(index, self.batch) for c in self.constraints),
            defects={},
        )

    def _replace(
        self: SomeProblem,
        *,
        reference: Tensor,
        vector: Tensor,
        constraints: tuple[Constraint, ...],
        defects: dict[int, Defect],
    ) -> SomeProblem:
        # Past construction: what was validated once is not validated again.
        copy = object.__new__(type(self))
        values = {
            "reference": reference,
            "constraints": constraints,
            "defects": defects,
            "from_numpy": self.from_numpy,
        }
        for entry in fields(self):
            object.__setattr__(copy, entry.name, values.get(entry.name, vector))
        return copy


@dataclass(frozen=True, eq=False, init=False)
class LinearProblem(Problem):
    """``max g'd`` over the intersection of the sets.

    Attributes:
        gradient: g, (B, C, H, W).
    """

    gradient: Tensor = field(default=None)  # type: ignore[assignment]

    def __init__(self, gradient: ArrayLike, reference: ArrayLike, constraints: Sequence[Constraint]) -> None:
        _initialise(self, "gradient", gradient, reference, constraints)

    @property
    def vector(self) -> Tensor:
        return self.gradient

    def objective(self, delta: Tensor) -> Tensor:
        """``g'd``, to be maximised."""
        return inner(self.gradient, delta)


@dataclass(frozen=True, eq=False, init=False)
class ProjectionProblem(Problem):
    """``min |d - point|^2 / 2`` over the intersection of the sets: the nearest feasible d.

    Attributes:
        point: the perturbation to project, (B, C, H, W).
    """

    point: Tensor = field(default=None)  # type: ignore[assignment]

    def __init__(self, point: ArrayLike, reference: ArrayLike, constraints: Sequence[Constraint]) -> None:
        _initialise(self, "point", point, reference, constraints)

    @property
    def vector(self) -> Tensor:
        return self.point

    def objective(self, delta: Tensor) -> Tensor:
        """``|d - point|^2 / 2``, to be minimised."""
        difference = delta - self.point
        return 0.5 * inner(difference, difference)


def _initialise(
    problem: Problem,
    name: str,
    vector: ArrayLike,
    reference: ArrayLike,
    constraints: Sequence[Constraint],
) -> None:
    from_numpy = isinstance(vector, np.ndarray) and isinstance(reference, np.ndarray)
    vector, reference = _as_tensor(vector, name), _as_tensor(reference, "reference")
    if reference.ndim != 4 or 0 in reference.shape:
        raise ProblemError(f"reference must have shape (B, C, H, W), got {tuple(reference.shape)}")
    if vector.shape != reference.shape:
        raise ProblemError(
            f"{name} has shape {tuple(vector.shape)} and reference {tuple(reference.shape)}; they must agree"
        )
    if vector.dtype != reference.dtype:
        raise ProblemError(f"{name} is {vector.dtype} and reference {reference.dtype}; give both the same dtype")
    if vector.device != reference.device:
        raise ProblemError(f"{name} is on {vector.device} and reference on {reference.device}; move one of them")
    if isinstance(constraints, Constraint):
        raise ProblemError(
            f"constraints must be a list of sets, got a single {constraints.kind}; write [{constraints.kind}(...)]"
        )
    try:
        constraints = tuple(constraints)
    except TypeError:
        raise ProblemError(f"constraints must be a list of sets, got {constraints!r}") from None
    if not constraints:
        raise ProblemError("a problem needs at least one constraint set; without any it is unbounded")
    for constraint in constraints:
        if not isinstance(constraint, Constraint):
            raise ProblemError(
                f"constraints must be sets such as solvers.Box or solvers.WindowSSIM, got {constraint!r}"
            )
    constraints = flattened(constraints)
    for constraint in constraints:
        constraint.check(reference)
    if isinstance(problem, LinearProblem) and all(isinstance(c, (FeatureBall, Support)) for c in constraints):
        names = " and ".join(dict.fromkeys(c.kind for c in constraints))
        raise ProblemError(f"{names} alone leaves a LinearProblem unbounded; add Box or another bounded set")
    defects = _find_defects(name, vector, reference, constraints)
    if len(defects) == reference.shape[0]:
        number, defect = next(iter(defects.items()))
        raise ProblemError(f"image {number}: {defect.reason}")
    for key, value in {
        name: vector,
        "reference": reference,
        "constraints": constraints,
        "defects": defects,
        "from_numpy": from_numpy,
    }.items():
        object.__setattr__(problem, key, value)


def _as_tensor(value: ArrayLike, name: str) -> Tensor:
    if not isinstance(value, (Tensor, np.ndarray)):
        raise ProblemError(f"{name} must be a torch tensor or numpy array, got {type(value).__name__}")
    if isinstance(value, np.ndarray):
        if value.dtype.newbyteorder("=") not in (np.float32, np.float64):
            raise ProblemError(f"{name} must be float32 or float64, got {value.dtype}")
        # Torch takes neither negative strides nor a foreign byte order, and warns of read-only arrays.
        value = np.array(value, dtype=value.dtype.newbyteorder("="), order="C")
    tensor = torch.as_tensor(value).detach()
    if tensor.dtype not in (torch.float32, torch.float64):
        raise ProblemError(f"{name} must be float32 or float64, got {tensor.dtype}")
    return tensor


def _find_defects(
    name: str, vector: Tensor, reference: Tensor, constraints: tuple[Constraint, ...]
) -> dict[int, Defect]:
    defects: dict[int, Defect] = {}
    bad_count = {
        label: (~value.isfinite()).flatten(1).sum(dim=1).tolist()
        for label, value in ((name, vector), ("reference", reference))
    }
    low, high = reference.flatten(1).amin(dim=1).tolist(), reference.flatten(1).amax(dim=1).tolist()
    boxes = [constraint for constraint in constraints if isinstance(constraint, Box)]
    for image in range(reference.shape[0]):
        for label, counts in bad_count.items():
            if counts[image]:
                reason = f"{label} has {counts[image]} NaN or infinite values"
                defects[image] = Defect(Status.NUMERICAL_ERROR, reason)
        if image in defects:
            continue
        for box in boxes:
            # The bounds as the reference's own dtype has them: 0.6 in float32 exceeds 0.6.
            lower, upper = torch.tensor([box.lower, box.upper], dtype=reference.dtype).tolist()
            if low[image] < lower or high[image] > upper:
                value = low[image] if low[image] < lower else high[image]
                reason = (
                    f"reference reaches {value:.6g}, outside the box [{box.lower:g}, {box.upper:g}]; "
                    "clip the image or widen the box"
                )
                defects[image] = Defect(Status.INFEASIBLE, reason)
    return defects


def elementwise_bounds(problem: Problem, bound_constraints: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """The tightest elementwise bounds on d that the sets imply, (B, C, H, W) each; infinite where there is none."""
    lower = torch.full_like(problem.reference, -math.inf)
    upper = torch.full_like(problem.reference, math.inf)
    for bound in bound_constraints:
        limits = bound.bounds()
        if limits is not None:
            lower, upper = torch.maximum(lower, limits[0]), torch.minimum(upper, limits[1])
    return lower, upper
