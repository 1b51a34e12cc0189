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

All terms are evaluated in float64, and their rounding is accounted for: ``bound`` is rounded up and ``objective``
down (for a projection the other way), and the point is inside in exact arithmetic. The computed z differs from the
exact one by a vector e with a known l1 norm, so that

    sup z'd  <=  sup z~'d + |e|_1 max_i |d_i|.

Every other term is rounded outwards by the set that makes it (:mod:`solvers.rounding`). Where sets keep means, an
equality that floating point can't meet, the certificate speaks of the set in which a mean up to a tolerance of a few
roundings counts as kept. Gradients of any size are first scaled by a power of two (:mod:`solvers.scaling`). The
documentation's page on the certificate derives each line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from solvers.batch_algebra import all_finite, per_image
from solvers.constraints.base import DualBlock
from solvers.constraints.box import elementwise_support
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.errors import ProblemError
from solvers.printing import Printed, Summary, cells, counted, image_numbers, image_shape
from solvers.problem import LinearProblem, Problem, elementwise_bounds
from solvers.rounding import UNIT, gamma, products, rounded_down, rounded_up, total, total_and_error, unscaled_value
from solvers.scaling import scaled_dual, scaled_problem

# How much a point on the surface of a set is shortened, one step after another, until it is certainly inside: the first
# steps make up for rounding in float64, the last ones for products in single precision.
INWARD_STEPS = (1e-13, 5e-13, 2e-12, 8e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
# The same where the point is afterwards rounded to single precision.
INWARD_STEPS_SINGLE = (2.0**-23, 2.0**-21, 2.0**-18, 1e-4, 1e-3)
# Values below this share of the trivial bound count as zero in rel_gap: float64 can't tell them from rounding.
ZERO_SHARE = 1e-9

Array = TypeVar("Array", Tensor, np.ndarray[Any, Any])


@dataclass(frozen=True, repr=False)
class Certificate(Printed, Generic[Array]):
    """What is certain of a point, per image (B,), in float64.

    All five are tensors on the problem's device, or numpy arrays where the problem came in numpy.

    Attributes:
        objective: the objective at ``delta``, a feasible perturbation, rounded towards the worse.
        bound: no feasible perturbation does better (upper for a LinearProblem, lower for a ProjectionProblem); rounded
            outwards.
        rel_gap: ``|bound - objective| / max(|objective|, |bound|)``; values under 1e-9 of the trivial bound count
            as zero, and so does a gap that the tolerance of kept means explains. It is negative only where the
            objective lies beyond its bound: a defect of the program, or of products with a Jacobian that are less exact
            than assumed.
        max_violation: the largest excess of the point *as given*, over all sets, each in its own unit; >= 0.
        delta: (B, C, H, W), the given point made feasible: clipped, moved locally, then scaled towards 0.
    """

    objective: Array
    bound: Array
    rel_gap: Array
    max_violation: Array
    delta: Array

    def summary(self) -> Summary:
        """What the certificate prints: the numbers of the first images."""
        images = len(self.rel_gap)
        return Summary(
            f"Certificate of {counted(images)}, {image_shape(self.delta)}",
            {
                "image": image_numbers(images),
                "objective": cells(self.objective, ".6g"),
                "bound": cells(self.bound, ".6g"),
                "rel_gap": cells(self.rel_gap, ".2e"),
                "max_violation": cells(self.max_violation, ".2e"),
            },
            images,
        )

    @property
    def gap(self) -> Array:
        """``|bound - objective|``, (B,)."""
        return abs(self.bound - self.objective)

    def closes(self, eps_abs: float, eps_rel: float) -> Array:
        """Whether the gap is within tolerance, ``gap <= eps_abs + eps_rel * max(|objective|, |bound|)``, (B,) bool."""
        gap, sizes = self.gap, (abs(self.objective), abs(self.bound))
        # Tensors and arrays share no function for the larger of two values, but the operators.
        within_any = (gap <= eps_abs + eps_rel * sizes[0]) | (gap <= eps_abs + eps_rel * sizes[1])
        return (within_any | (self.rel_gap <= eps_rel)) & (gap < math.inf) & (self.rel_gap >= 0)

    @property
    def contradicts(self) -> Array:
        """Whether the objective lies beyond its bound, which can't be, (B,) bool."""
        return self.rel_gap < 0


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
    point = torch.as_tensor(delta).detach().to(dtype=torch.float64, device=problem.reference.device)
    if point.shape != problem.reference.shape:
        raise ProblemError(
            f"delta has shape {tuple(point.shape)}, the problem's images {tuple(problem.reference.shape)}"
        )
    if problem.defects:
        number, defect = next(iter(problem.defects.items()))
        raise ProblemError(f"image {number} can't be certified: {defect.reason}")
    scaled, exponent = scaled_problem(problem.to(dtype=torch.float64))
    if dual is not None:
        dual = [block if block is None else _in_float64(block, point.device) for block in dual]
        dual = scaled_dual(dual, exponent)
    certificate = Certifier(scaled).certify(point, dual)
    # Back to the problem's scale. Where the numbers become subnormal they are rounded once more.
    downwards = isinstance(problem, LinearProblem)
    unscaled = replace(
        certificate,
        objective=unscaled_value(certificate.objective, exponent, up=not downwards),
        bound=unscaled_value(certificate.bound, exponent, up=downwards),
    )
    return _in_kind_of(problem, unscaled)


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
        largest_pixel: (B,), a bound on ``|d_i|`` over all feasible d and pixels i; infinite where none is known.
        at_zero: (B,), the objective at d = 0, which is feasible.
        trivial: (B,), the bound of no dual at all.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem.to(dtype=torch.float64)
        reference = self.problem.reference
        self.sets = [constraint.bind(reference) for constraint in self.problem.constraints]
        self.lower, self.upper = elementwise_bounds(self.problem, self.sets)
        self._objective_scale = self._size_of_objective()
        self._gap_of_tolerance = self._gap_that_tolerances_explain()
        self.implied_lower, self.implied_upper = self.lower, self.upper
        for bound_set in self.sets:
            self.implied_lower, self.implied_upper = bound_set.implied_bounds(self.implied_lower, self.implied_upper)
        self.largest_pixel = self._largest_pixel()
        self.at_zero = self.objective(torch.zeros_like(reference))
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
        part._gap_of_tolerance = self._gap_of_tolerance[images]
        part.largest_pixel, part.at_zero = self.largest_pixel[images], self.at_zero[images]
        return part

    def certify(self, delta: Tensor, dual: Sequence[DualBlock | None] | None = None) -> Certificate[Tensor]:
        """See :func:`certify`; ``delta`` in any float dtype. A point that is not finite counts as 0."""
        delta = delta.to(torch.float64)
        violation = self.violation(delta)
        repaired = self.repair(torch.where(per_image(all_finite(delta)), delta, 0.0))
        objective = self.objective(repaired)
        bound = self.bound(dual)
        return Certificate(objective, bound, self.relative_gap(objective, bound), violation, repaired)

    def objective(self, delta: Tensor) -> Tensor:
        """The objective at ``delta``, (B,), rounded down for a LinearProblem and up for a ProjectionProblem."""
        if isinstance(self.problem, LinearProblem):
            return rounded_down(*total_and_error(products(self.problem.gradient, delta), operations=2))
        difference = delta - self.problem.vector
        return rounded_up(*total_and_error(products(0.5 * difference, difference), operations=8))

    def relative_gap(self, objective: Tensor, bound: Tensor) -> Tensor:
        """``rel_gap`` of any objective and bound of these images, (B,) each; see :class:`Certificate`."""
        scale = torch.maximum(objective.abs(), bound.abs())
        floor = (ZERO_SHARE * self._objective_scale).clamp_min(torch.finfo(torch.float64).tiny)
        gap = bound - objective if isinstance(self.problem, LinearProblem) else objective - bound
        allowed = sum(bound_set.product_rounding for bound_set in self.sets)
        relative = torch.where(bound.isinf(), torch.inf, gap / torch.maximum(scale, floor))
        relative = torch.where((gap >= 0) & (gap <= self._gap_of_tolerance), 0.0, relative)
        # Products with a Jacobian are only as exact as their precision; see FeatureBall.
        return torch.where((relative < 0) & (relative >= -allowed), -relative, relative)

    # -- the point: how far outside, and a feasible one near it ---------------------------------------------

    def violation(self, delta: Tensor) -> Tensor:
        """The largest excess of ``delta`` (B, C, H, W) over the sets, (B,), >= 0; infinite where it isn't finite."""
        excess = torch.stack([bound_set.excess(delta) for bound_set in self.sets]).amax(dim=0)
        return torch.where(excess.isnan(), torch.inf, excess).clamp_min(0)

    def repair(self, delta: Tensor) -> Tensor:
        """A point near ``delta`` that is feasible in exact arithmetic, (B, C, H, W).

        The point is clipped to the pixel bounds, moved towards each set locally, and then scaled towards 0 by the
        smallest factor that any set asks for: a set that admits a factor admits every smaller one too. It is then
        shortened by what rounding could cost. Where a point is outside even so, the answer is 0.
        """
        delta = delta.clamp(self.lower, self.upper)
        # Equalities last: scaling keeps them, another set's local retraction does not.
        for bound_set in sorted(self.sets, key=lambda bound_set: bound_set.has_equality):
            delta = bound_set.retract(delta, self.lower, self.upper)
        delta = delta * per_image(self._scale_factor(delta))
        return self.moved_inside(delta)

    def _scale_factor(self, delta: Tensor) -> Tensor:
        """The largest t in [0, 1] with ``t * delta`` in every set, (B,), for a point within the pixel bounds."""
        factor = torch.ones_like(delta[:, 0, 0, 0])
        for bound_set in self.sets:
            if not bound_set.is_elementwise:
                factor = torch.minimum(factor, bound_set.scale_factor(delta))
        return factor

    def moved_inside(self, delta: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """``delta`` within the pixel bounds, shortened until it is certainly inside every set, (B, C, H, W) float64.

        A point that is outside still becomes 0. Means that a set keeps don't count in single precision, which can't
        keep them: `max_violation` says how far the point is outside.

        Args:
            delta: (B, C, H, W), float64.
            dtype: the precision in which the result must be exact.
        """
        steps = INWARD_STEPS if dtype == torch.float64 else (0.0, *INWARD_STEPS_SINGLE)
        point = _rounded_towards_zero(delta, dtype)
        for step in steps:
            outside = self.certain_violation(point, dtype) > 0
            if not bool(outside.any()):
                return point
            shortened = _rounded_towards_zero(delta * (1 - step), dtype)
            point = torch.where(per_image(outside), shortened, point)
        return torch.where(per_image(self.certain_violation(point, dtype) <= 0), point, 0.0)

    def certain_violation(self, delta: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """An upper bound on the largest excess of ``delta`` in exact arithmetic, (B,); without kept means where the
        point is one of single precision."""
        if dtype == torch.float64:
            excess = torch.stack([bound_set.certain_excess(delta) for bound_set in self.sets]).amax(dim=0)
        else:
            excess = torch.stack([bound_set.certain_excess_but_for_means(delta) for bound_set in self.sets]).amax(dim=0)
        return torch.where(excess.isnan(), torch.inf, excess)

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
            return torch.minimum(bound, self.trivial)
        return torch.maximum(bound, self.trivial)

    def _dual_bound(self, blocks: Sequence[DualBlock | None]) -> Tensor:
        """``sum_i h_i(y_i) + sup z'd``, or for the projection its analogue from below, (B,), rounded outwards.

        Without a finite number, as huge duals may give, the bound is infinite. A bound never lies below the value at
        d = 0, which is feasible.
        """
        adjoint, adjoint_error, support = self._adjoint_and_support(blocks)
        if isinstance(self.problem, LinearProblem):
            z, error = self._remainder(adjoint, adjoint_error)
            supremum = self._supremum(z, blocks, self.implied_lower, self.implied_upper)
            # 0 times an infinite pixel is 0: without a dual, z is exact.
            rest = torch.where(error > 0, error * self.largest_pixel * (1 + 8 * UNIT), 0.0)
            bound = support + supremum
            bound = rounded_up(bound, 4 * UNIT * (support.abs() + supremum.abs()) + rest)
            return torch.maximum(torch.where(bound.isfinite(), bound, torch.inf), self.at_zero)
        smallest, error = self._smallest_lagrangian(adjoint, adjoint_error)
        bound = rounded_down(smallest - support, error + 4 * UNIT * (smallest.abs() + support.abs()))
        # Nothing is below 0, nor is the optimum beyond the value at d = 0.
        return torch.minimum(torch.where(bound.isfinite(), bound, -torch.inf).clamp_min(0), self.at_zero)

    def _adjoint_and_support(self, blocks: Sequence[DualBlock | None]) -> tuple[Tensor, Tensor, Tensor]:
        """``sum_i A_i'y_i``, (B, C, H, W), a bound on the l1 norm of its rounding, (B,), and ``sum_i h_i(y_i)``, (B,),
        rounded up."""
        adjoint = torch.zeros_like(self.problem.reference)
        error, support = torch.zeros_like(adjoint[:, 0, 0, 0]), torch.zeros_like(adjoint[:, 0, 0, 0])
        for bound_set, block in zip(self.sets, blocks, strict=True):
            if block is not None:
                bound_set.check_block(block)
                if bound_set.constraint.has_linear_blocks:
                    part = bound_set.adjoint(block)
                    adjoint = adjoint + part
                    error = error + bound_set.adjoint_error(block) + gamma(len(blocks)) * total(part.abs())
                    support = torch.nextafter(
                        support + bound_set.dual_value(block), torch.full_like(support, torch.inf)
                    )
        return adjoint, error, support

    def _remainder(self, adjoint: Tensor, adjoint_error: Tensor) -> tuple[Tensor, Tensor]:
        """``z = g - A'y``, (B, C, H, W), and a bound on the l1 norm of its rounding, (B,); 0 where ``A'y`` is."""
        gradient = self.problem.vector
        z = gradient - adjoint
        size = total(adjoint.abs())
        error = adjoint_error + 2 * UNIT * (total(gradient.abs()) + size)
        return z, torch.where((size > 0) | (adjoint_error > 0), error, 0.0)

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

    def _smallest_lagrangian(self, adjoint: Tensor, adjoint_error: Tensor) -> tuple[Tensor, Tensor]:
        """``min |d - q|^2/2 + a'd`` over the pixel bounds with ``a = A'y``, and a bound on its rounding, (B,) each.

        The function is strongly convex. So with a wrong by e, and a minimiser that is computed with errors of the same
        kind, ``min >= f(d~) - |e|_1 max|d~_i| - |e|^2/2``.
        """
        point = self.problem.vector
        minimiser = (point - adjoint).clamp(self.implied_lower, self.implied_upper)
        difference = minimiser - point
        terms = torch.stack([products(0.5 * difference, difference), products(adjoint, minimiser)], dim=1)
        value, error = total_and_error(terms, operations=8)
        wrong = adjoint_error + 8 * UNIT * (total(point.abs()) + total(adjoint.abs()) + total(minimiser.abs()))
        largest = minimiser.abs().flatten(1).amax(dim=1)
        return value, error + wrong * (largest + wrong) * (1 + 8 * UNIT)

    def _largest_pixel(self) -> Tensor:
        """See the attribute."""
        largest = torch.maximum(self.implied_lower.abs(), self.implied_upper.abs()).flatten(1).amax(dim=1)
        for bound_set in self.sets:
            of_set = bound_set.largest_pixel()
            if of_set is not None:
                largest = torch.minimum(largest, of_set)
        return largest * (1 + 4 * UNIT)

    def _size_of_objective(self) -> Tensor:
        """What the objective could be at most, (B,), to tell a gap from rounding. Without the implied bounds: they may
        leave nothing but d = 0."""
        if isinstance(self.problem, LinearProblem):
            supremum = self._supremum(self.problem.gradient, [None] * len(self.sets), self.lower, self.upper)
            return torch.where(supremum.isfinite(), supremum.abs(), 0.0)
        return self.objective(torch.zeros_like(self.problem.vector))

    def _gap_that_tolerances_explain(self) -> Tensor:
        """What the tolerances of the sets add to a bound, (B,); 0 where no set has one, and for a projection."""
        total_gap = torch.zeros_like(self._objective_scale)
        if isinstance(self.problem, LinearProblem):
            for bound_set in self.sets:
                total_gap = total_gap + bound_set.gap_of_tolerance(self.problem.gradient)
        return total_gap


def _rounded_towards_zero(value: Tensor, dtype: torch.dtype) -> Tensor:
    """``value`` float64, rounded towards 0 to a number that ``dtype`` holds."""
    if dtype == torch.float64:
        return value
    rounded = value.to(dtype)
    too_large = rounded.to(torch.float64).abs() > value.abs()
    return torch.where(too_large, torch.nextafter(rounded, torch.zeros_like(rounded)), rounded).to(torch.float64)


def _in_float64(block: DualBlock | None, device: torch.device) -> DualBlock | None:
    if block is None:
        return None
    if isinstance(block, WindowDual):
        return block.to(dtype=torch.float64, device=device)
    return torch.as_tensor(block).detach().to(dtype=torch.float64, device=device)
