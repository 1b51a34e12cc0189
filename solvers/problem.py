"""The two convex problems: ``max g'd`` and ``min |d - q|^2/2`` over an intersection of constraint sets.

A problem is validated once, when it is constructed. What is wrong with the whole problem is an error there; what is
wrong with single images is kept as their *defects*, so that the other images can be solved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from solvers.batch_algebra import inner
from solvers.constraints.base import BoundConstraint, Constraint
from solvers.constraints.box import Box, Support
from solvers.constraints.feature_ball import FeatureBall
from solvers.constraints.intersection import flattened
from solvers.errors import ProblemError
from solvers.result import Status

ArrayLike = Tensor | np.ndarray[Any, Any]
SomeProblem = TypeVar("SomeProblem", bound="Problem")


@dataclass(frozen=True)
class Defect:
    """Why one image of a batch can't be solved.

    Attributes:
        status: the status that the image gets.
        reason: the same in words.
    """

    status: Status
    reason: str


@dataclass(frozen=True, eq=False)
class Problem:
    """What the two problems share. All arrays are (B, C, H, W), float32 or float64.

    Attributes:
        reference: x, the images; pixels in [0, 1] unless a set's ``data_range`` says otherwise.
        constraints: the sets whose intersection d must lie in; an :class:`~solvers.Intersection` is replaced by its
            sets.
        defects: the images that can't be solved, by number, found at construction. A problem is refused where *every*
            image has a defect.
        from_numpy: whether the caller gave numpy arrays, so that ``solve`` returns numpy arrays.
    """

    reference: Tensor
    constraints: tuple[Constraint, ...]
    defects: dict[int, Defect] = field(default_factory=dict, repr=False)
    from_numpy: bool = field(default=False, repr=False)

    @property
    def vector(self) -> Tensor:
        """The gradient or the point, whichever the problem has besides the reference."""
        raise NotImplementedError

    def objective(self, delta: Tensor) -> Tensor:
        """The objective per image, (B,)."""
        raise NotImplementedError

    @property
    def batch(self) -> int:
        """B, the number of images."""
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

    def with_vector(self: SomeProblem, vector: Tensor) -> SomeProblem:
        """The same problem with another gradient or point, (B, C, H, W), which is not validated again."""
        return self._replace(
            reference=self.reference, vector=vector, constraints=self.constraints, defects=self.defects
        )

    def select(self: SomeProblem, index: Tensor) -> SomeProblem:
        """The problem of the images at ``index`` (long, (K,)) alone, which counts none of them as defective."""
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
        # Without the constructor: what was validated once is not validated again.
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
    """``max g'd`` over the intersection of the sets: the perturbation that raises a linearised margin most.

    Args:
        gradient: g, (B, C, H, W), a torch tensor or numpy array, float32 or float64.
        reference: x, the images, like the gradient in shape, dtype and device.
        constraints: a list of sets, at least one of which bounds d.

    Raises:
        ProblemError: shapes, dtypes or devices that differ, sets that don't fit the images, a ``data_range`` that
            can't be right for the pixels, a problem that is unbounded, or a defect in every image. Also a tensor with
            ``requires_grad``: no gradient flows through a solution, so give ``tensor.detach()``.
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
    """``min |d - point|^2 / 2`` over the intersection of the sets: the nearest feasible perturbation.

    Args:
        point: q, the perturbation to project, (B, C, H, W), a torch tensor or numpy array, float32 or float64.
        reference: x, the images, like the point in shape, dtype and device.
        constraints: a list of sets.

    Raises:
        ProblemError: as for :class:`LinearProblem`, but a projection is never unbounded.
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
    """Validate and set the attributes of a frozen problem; ``name`` is that of its ``vector``."""
    from_numpy = isinstance(vector, np.ndarray) and isinstance(reference, np.ndarray)
    vector, reference = _as_tensor(vector, name), _as_tensor(reference, "reference")
    _check_images(name, vector, reference)
    constraints = _checked_constraints(constraints)
    for constraint in constraints:
        constraint.check(reference)
    if isinstance(problem, LinearProblem):
        _check_bounded(constraints)
    defects = _find_defects(name, vector, reference, constraints)
    if len(defects) == reference.shape[0]:
        image, defect = next(iter(defects.items()))
        raise ProblemError(f"image {image}: {defect.reason}")
    sound = torch.tensor([image not in defects for image in range(reference.shape[0])], device=reference.device)
    for constraint in constraints:
        constraint.check_pixels(reference, sound)
    for key, value in {
        name: vector,
        "reference": reference,
        "constraints": constraints,
        "defects": defects,
        "from_numpy": from_numpy,
    }.items():
        object.__setattr__(problem, key, value)


def _check_images(name: str, vector: Tensor, reference: Tensor) -> None:
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


def _checked_constraints(constraints: Sequence[Constraint]) -> tuple[Constraint, ...]:
    """The constraints as a tuple of sets, with the sets of every intersection in its place."""
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
    return flattened(constraints)


def _check_bounded(constraints: tuple[Constraint, ...]) -> None:
    if all(isinstance(constraint, (FeatureBall, Support)) for constraint in constraints):
        names = " and ".join(dict.fromkeys(constraint.kind for constraint in constraints))
        raise ProblemError(f"{names} alone leaves a LinearProblem unbounded; add Box or another bounded set")


def _as_tensor(value: ArrayLike, name: str) -> Tensor:
    if not isinstance(value, (Tensor, np.ndarray)):
        raise ProblemError(f"{name} must be a torch tensor or numpy array, got {type(value).__name__}")
    if isinstance(value, np.ndarray):
        if value.dtype.newbyteorder("=") not in (np.float32, np.float64):
            raise ProblemError(f"{name} must be float32 or float64, got {value.dtype}")
        # Torch accepts neither negative strides nor a foreign byte order, and warns of read-only arrays.
        value = np.array(value, dtype=value.dtype.newbyteorder("="), order="C")
    tensor = torch.as_tensor(value)
    if tensor.requires_grad:
        raise ProblemError(
            f"{name} requires a gradient, and no gradient flows through a solution; give {name}.detach()"
        )
    if tensor.dtype not in (torch.float32, torch.float64):
        raise ProblemError(f"{name} must be float32 or float64, got {tensor.dtype}")
    return tensor


def _find_defects(
    name: str, vector: Tensor, reference: Tensor, constraints: tuple[Constraint, ...]
) -> dict[int, Defect]:
    """The images that can't be solved, by number: those with values that are not finite, or outside a box."""
    defects: dict[int, Defect] = {}
    boxes = [constraint for constraint in constraints if isinstance(constraint, Box)]
    for label, value in ((name, vector), ("reference", reference)):
        for image, count in enumerate((~value.isfinite()).flatten(1).sum(dim=1).tolist()):
            if count:
                reason = f"{label} has {count} NaN or infinite values"
                defects[image] = Defect(Status.NUMERICAL_ERROR, reason)
    darkest, brightest = reference.flatten(1).amin(dim=1).tolist(), reference.flatten(1).amax(dim=1).tolist()
    for image in range(reference.shape[0]):
        if image not in defects:
            for box in boxes:
                reason = _outside_box(box, darkest[image], brightest[image], reference.dtype)
                if reason:
                    defects[image] = Defect(Status.INFEASIBLE, reason)
    return dict(sorted(defects.items()))


def _outside_box(box: Box, darkest: float, brightest: float, dtype: torch.dtype) -> str:
    """Why an image of these extreme pixels can't be solved with ``box``: d = 0 would not be feasible; or empty."""
    # The bounds as the reference's own dtype has them: 0.6 in float32 exceeds 0.6.
    lower, upper = torch.tensor([box.lower, box.upper], dtype=dtype).tolist()
    if lower <= darkest and brightest <= upper:
        return ""
    value = darkest if darkest < lower else brightest
    return (
        f"reference reaches {value:.6g}, outside the box [{box.lower:g}, {box.upper:g}]; "
        "clip the image or widen the box"
    )


def elementwise_bounds(problem: Problem, bound_sets: Sequence[BoundConstraint]) -> tuple[Tensor, Tensor]:
    """The tightest elementwise bounds on d that the sets state, (B, C, H, W) each; infinite where there is none."""
    lower = torch.full_like(problem.reference, -math.inf)
    upper = torch.full_like(problem.reference, math.inf)
    for bound_set in bound_sets:
        bounds = bound_set.bounds()
        if bounds is not None:
            lower, upper = torch.maximum(lower, bounds[0]), torch.minimum(upper, bounds[1])
    return lower, upper
