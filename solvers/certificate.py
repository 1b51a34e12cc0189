"""How far a point is from optimal, judged in float64 and independently of the method that found the point.

The problem is ``max g'd`` over the perturbations d with ``A_i d in S_i`` for every set i. A dual y has one block
``y_i`` per set. Let ``h_i(y_i) = sup {s'y_i : s in S_i}`` be the support function of ``S_i``, and

    z = g - sum_i A_i'y_i.

For every feasible d, ``A_i d`` lies in ``S_i``, so that ``(A_i d)'y_i <= h_i(y_i)``. Hence weak duality:

    g'd = sum_i (A_i d)'y_i + z'd  <=  sum_i h_i(y_i) + sup z'd.

The supremum may be taken over any set that holds every feasible d. This module takes the smallest of several: over
the pixel bounds, and over each constraint set by itself. So *every* y gives a valid bound. A bad y gives a weak bound,
never a wrong one, and no y at all (``y = 0``) gives the trivial bound.

With pixel bounds ``lo_i <= d_i <= hi_i`` and windows p, whose ball is ``|R_p d - a R_p x| <= r_p`` and whose mean lies
in ``[lo_p, hi_p]``, the right-hand side reads

    bound(y) = sum_i max(lo_i z_i, hi_i z_i)
             + sum_p [ a (R_p x)'y_perp + r_p |y_perp| + max(lo_p s_p, hi_p s_p) ]

where ``s_p = sqrt(w)'y_p`` and ``y_perp = y_p - s_p sqrt(w)``. The pixel bounds are first tightened by what the windows
imply.

- Sets that are not convex: weak duality asks for no convexity. Where ``h_i`` is known (ProductSSIM) the bound is the
  same. MeanSSIM has no ``A_i'y_i``: its multiplier bounds ``sup z'd`` over the set itself by a Lagrangian.
- The projection ``min |d - q|^2/2``: the bound is from below,
  ``min_{lo <= d <= hi} [ |d - q|^2/2 + (sum_i A_i'y_i)'d ] - sum_i h_i(y_i)``.

All terms are evaluated in float64; rounding is not yet accounted for. The documentation's page on the certificate
derives each line.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from solvers.batch_algebra import all_finite, inner, per_image
from solvers.constraints.base import DualBlock
from solvers.constraints.box import elementwise_support
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.errors import ProblemError
from solvers.problem import LinearProblem, Problem, elementwise_bounds

# A repaired point that misses a set by more than this, in the set's unit, is replaced by d = 0. Equalities (kept
# means) can't be met exactly in floating point.
FEASIBILITY_TOLERANCE = 1e-9
# How much a point that products in single precision left outside is shortened, one step after another.
INWARD_STEPS = (1e-8, 1e-6, 1e-4)
# Values below this share of the trivial bound count as zero in rel_gap: float64 can't tell them from rounding.
ZERO_SHARE = 1e-9

Array = TypeVar("Array", Tensor, np.ndarray[Any, Any])


@dataclass(frozen=True)
class Certificate(Generic[Array]):
    """What is certain of a point, per image (B,), in float64.

    All five are tensors on the problem's device, or numpy arrays where the problem came in numpy.

    Attributes:
        objective: the objective at ``delta``, a feasible perturbation.
        bound: no feasible perturbation does better (upper for a LinearProblem, lower for a ProjectionProblem).
        rel_gap: ``|bound - objective| / max(|objective|, |bound|)``; values under 1e-9 of the trivial bound count
            as zero.
        max_violation: the largest excess of the point *as given*, over all sets, each in its own unit; >= 0.
        delta: (B, C, H, W), the given point made feasible: clipped, moved locally, then scaled towards 0.
    """

    objective: Array
    bound: Array
    rel_gap: Array
    max_violation: Array
    delta: Array

    @property
    def gap(self) -> Array:
        """``|bound - objective|``, (B,)."""
        return abs(self.bound - self.objective)

    def closes(self, eps_abs: float, eps_rel: float) -> Array:
        """Whether the gap is within tolerance, ``gap <= eps_abs + eps_rel * max(|objective|, |bound|)``, (B,) bool."""
        gap, sizes = self.gap, (abs(self.objective), abs(self.bound))
        # Tensors and arrays share no function for the larger of two values, but the operators.
        within_any = (gap <= eps_abs + eps_rel * sizes[0]) | (gap <= eps_abs + eps_rel * sizes[1])
        return within_any | (self.rel_gap <= eps_rel)


def certify(
    problem: Problem,
    delta: Tensor | np.ndarray,
    dual: Sequence[DualBlock | None] | None = None,
) -> Certificate[Any]:
    """Certify a point, whatever it came from: how good it is, and how good any feasible point could be.

    Args:
        problem: a problem whose images have no defects.
        delta: (B, C, H, W), not necessarily feasible.
        dual: one block per constraint of the problem, or ``None`` for a constraint without a block; ``None`` alone
            (default) for no dual at all. The blocks' forms: image-shaped for LpBall and GlobalSSIM; (B, F) for
            FeatureBall; a :class:`~solvers.WindowDual` for WindowSSIM and ProductSSIM, or for WindowSSIM also window
            vectors (B, C, P_h, P_w, size^2); for MeanSSIM on tiles a multiplier (B,) of the index.

    Returns:
        The certificate, in float64 whatever the problem's dtype. Its fields are of the problem's kind, whatever the
        kind of ``delta`` and ``dual``: tensors on the problem's device, or numpy arrays where the problem came in
        numpy.

    Raises:
        ProblemError: shapes that don't fit, an image with a defect, a block for a set that has none.
    """
    point = torch.as_tensor(delta).to(dtype=torch.float64, device=problem.reference.device)
    if point.shape != problem.reference.shape:
        raise ProblemError(
            f"delta has shape {tuple(point.shape)}, the problem's images {tuple(problem.reference.shape)}"
        )
    if problem.defects:
        number, defect = next(iter(problem.defects.items()))
        raise ProblemError(f"image {number} can't be certified: {defect.reason}")
    exact = problem.to(dtype=torch.float64)
    return _in_kind_of(problem, Certifier(exact).certify(point, dual))


def _in_kind_of(problem: Problem, certificate: Certificate[Tensor]) -> Certificate[Any]:
    """``certificate`` with numpy arrays where ``problem`` came in numpy, as :func:`solvers.solve` answers too."""
    if not problem.from_numpy:
        return certificate
    arrays = {entry.name: getattr(certificate, entry.name).cpu().numpy() for entry in fields(certificate)}
    return Certificate(**arrays)


class Certifier:
    """A float64 problem with its sets bound once, to certify many iterates of one solve.

    Args:
        problem: images without defects, in any float dtype.

    Attributes:
        problem: the same in float64.
        sets: the constraint sets, bound to the images, in the problem's order.
        lower, upper: (B, C, H, W), the tightest pixel bounds on d that the sets state.
        implied_lower, implied_upper: (B, C, H, W), these bounds tightened by what the sets imply.
        trivial: (B,), the bound of no dual at all.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem.to(dtype=torch.float64)
        reference = self.problem.reference
        self.sets = [constraint.bind(reference) for constraint in self.problem.constraints]
        self.lower, self.upper = elementwise_bounds(self.problem, self.sets)
        self._objective_scale = self._size_of_objective()
        self.implied_lower, self.implied_upper = self.lower, self.upper
        for bound_set in self.sets:
            self.implied_lower, self.implied_upper = bound_set.implied_bounds(self.implied_lower, self.implied_upper)
        self.trivial = self._dual_bound([None] * len(self.sets))

    def select(self, images: Tensor) -> Certifier:
        """The certifier of the images at ``images`` (long, (K,)) alone. The implied bounds, which cost most, are
        taken over."""
        part = copy(self)
        part.problem = self.problem.select(images)
        part.sets = [constraint.bind(part.problem.reference) for constraint in part.problem.constraints]
        part.lower, part.upper = self.lower[images], self.upper[images]
        part.implied_lower, part.implied_upper = self.implied_lower[images], self.implied_upper[images]
        part.trivial, part._objective_scale = self.trivial[images], self._objective_scale[images]
        return part

    def certify(self, delta: Tensor, dual: Sequence[DualBlock | None] | None = None) -> Certificate[Tensor]:
        """See :func:`certify`; ``delta`` in any float dtype. A point that is not finite counts as 0."""
        delta = delta.to(torch.float64)
        violation = self.violation(delta)
        repaired = self.repair(torch.where(per_image(all_finite(delta)), delta, 0.0))
        objective = self.problem.objective(repaired)
        bound = self.bound(dual)
        return Certificate(objective, bound, self.relative_gap(objective, bound), violation, repaired)

    def relative_gap(self, objective: Tensor, bound: Tensor) -> Tensor:
        """``rel_gap`` of any objective and bound of these images, (B,) each; see :class:`Certificate`."""
        scale = torch.maximum(objective.abs(), bound.abs())
        floor = (ZERO_SHARE * self._objective_scale).clamp_min(torch.finfo(torch.float64).tiny)
        return torch.where(bound.isinf(), torch.inf, (bound - objective).abs() / torch.maximum(scale, floor))

    # -- the point: how far outside, and a feasible one near it ---------------------------------------------

    def violation(self, delta: Tensor) -> Tensor:
        """The largest excess of ``delta`` (B, C, H, W) over the sets, (B,), >= 0; infinite where it isn't finite."""
        excess = torch.stack([bound_set.excess(delta) for bound_set in self.sets]).amax(dim=0)
        return torch.where(excess.isnan(), torch.inf, excess).clamp_min(0)

    def repair(self, delta: Tensor) -> Tensor:
        """A feasible point near ``delta``, (B, C, H, W).

        The point is clipped to the pixel bounds, moved towards each set locally, and then scaled towards 0 by the
        smallest factor that any set asks for: a set that admits a factor admits every smaller one too. Where a point
        is outside even so, by rounding, the answer is 0.
        """
        delta = delta.clamp(self.lower, self.upper)
        # Equalities last: scaling keeps them, another set's local retraction does not.
        for bound_set in sorted(self.sets, key=lambda bound_set: bound_set.has_equality):
            delta = bound_set.retract(delta, self.lower, self.upper)
        delta = delta * per_image(self._scale_factor(delta))
        return self._moved_inside(delta)

    def _scale_factor(self, delta: Tensor) -> Tensor:
        """The largest t in [0, 1] with ``t * delta`` in every set, (B,), for a point within the pixel bounds."""
        factor = torch.ones_like(delta[:, 0, 0, 0])
        for bound_set in self.sets:
            if not bound_set.is_elementwise:
                factor = torch.minimum(factor, bound_set.scale_factor(delta))
        return factor

    def _moved_inside(self, delta: Tensor) -> Tensor:
        """Points on the surface of a set, shortened until none is outside: products in single precision miss the
        surface by more than the tolerance. A point that is outside still becomes 0."""
        for step in INWARD_STEPS:
            outside = self.violation(delta) > FEASIBILITY_TOLERANCE
            if not bool(outside.any()):
                return delta
            delta = delta * per_image(torch.where(outside, 1 - step, 1.0))
        return torch.where(per_image(self.violation(delta) <= FEASIBILITY_TOLERANCE), delta, 0.0)

    # -- the bound ------------------------------------------------------------------------------------------

    def bound(self, dual: Sequence[DualBlock | None] | None) -> Tensor:
        """The better, per image, of the given dual's bound and the trivial one, (B,). NaN never is better.

        Raises:
            ProblemError: a wrong number of blocks, or a block that is not one of its set's.
        """
        if dual is None:
            return self.trivial
        if len(dual) != len(self.sets):
            raise ProblemError(
                f"dual has {len(dual)} blocks, the problem {len(self.sets)} constraints; give one each, or None"
            )
        bound = self._dual_bound([_in_float64(block, self.problem.reference.device) for block in dual])
        if isinstance(self.problem, LinearProblem):
            return torch.minimum(torch.where(bound.isnan(), torch.inf, bound), self.trivial)
        return torch.maximum(torch.where(bound.isnan(), -torch.inf, bound), self.trivial)

    def _dual_bound(self, blocks: Sequence[DualBlock | None]) -> Tensor:
        """``sum_i h_i(y_i) + sup z'd``, or for the projection its analogue from below, (B,)."""
        adjoint, support = self._adjoint_and_support(blocks)
        if isinstance(self.problem, LinearProblem):
            z = self.problem.gradient - adjoint
            return support + self._supremum(z, blocks, self.implied_lower, self.implied_upper)
        return self._smallest_lagrangian(adjoint) - support

    def _adjoint_and_support(self, blocks: Sequence[DualBlock | None]) -> tuple[Tensor, Tensor]:
        """``sum_i A_i'y_i``, (B, C, H, W), and ``sum_i h_i(y_i)``, (B,)."""
        adjoint = torch.zeros_like(self.problem.reference)
        support = torch.zeros_like(adjoint[:, 0, 0, 0])
        for bound_set, block in zip(self.sets, blocks, strict=True):
            if block is not None:
                bound_set.check_block(block)
                if bound_set.constraint.has_linear_blocks:
                    adjoint = adjoint + bound_set.adjoint(block)
                    support = support + bound_set.dual_value(block)
        return adjoint, support

    def _supremum(self, z: Tensor, blocks: Sequence[DualBlock | None], lower: Tensor, upper: Tensor) -> Tensor:
        """An upper bound on ``sup z'd`` over the feasible set with ``lower <= d <= upper``, (B,): the smallest of
        ``sum_i max(lo_i z_i, hi_i z_i)`` and of the suprema over the sets, one by one."""
        # A fixed pixel adds nothing to z'd, whatever set the supremum is taken over.
        z = z.masked_fill((self.lower == 0) & (self.upper == 0), 0)
        smallest = elementwise_support(z, lower, upper)
        for bound_set, block in zip(self.sets, blocks, strict=True):
            if not bound_set.is_elementwise:
                supremum = bound_set.supremum(z, block, lower, upper)
                if supremum is not None:
                    smallest = torch.minimum(smallest, torch.where(supremum.isnan(), torch.inf, supremum))
        return smallest

    def _smallest_lagrangian(self, adjoint: Tensor) -> Tensor:
        """``min |d - q|^2/2 + (A'y)'d`` over the pixel bounds, (B,), with ``A'y`` = ``adjoint``."""
        minimiser = (self.problem.vector - adjoint).clamp(self.implied_lower, self.implied_upper)
        return self.problem.objective(minimiser) + inner(adjoint, minimiser)

    def _size_of_objective(self) -> Tensor:
        """What the objective could be at most, (B,), to tell a gap from rounding. Without the implied bounds: they may
        leave nothing but d = 0."""
        if isinstance(self.problem, LinearProblem):
            supremum = self._supremum(self.problem.gradient, [None] * len(self.sets), self.lower, self.upper)
            return torch.where(supremum.isfinite(), supremum.abs(), 0.0)
        return self.problem.objective(torch.zeros_like(self.problem.vector))


def _in_float64(block: DualBlock | None, device: torch.device) -> DualBlock | None:
    if block is None:
        return None
    if isinstance(block, WindowDual):
        return block.to(dtype=torch.float64, device=device)
    return torch.as_tensor(block).to(dtype=torch.float64, device=device)
