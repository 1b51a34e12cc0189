"""How far a point is from optimal, judged in float64 and independently of whoever found it.

For dual blocks ``y_i`` of the sets ``{d : A_i d in S_i}`` write ``z = g - sum A_i' y_i``. Then for every feasible d

    g'd = z'd + sum (A_i d)' y_i <= sum_i h_i(y_i) + sup z'd,

where ``h_i`` is the support function of ``S_i`` and the supremum runs over any one set (or the pixel bounds, tightened
by what the window sets imply) that holds d. So *any* dual gives a valid bound; a missing or useless one gives a weak
bound, never a wrong one. Nor does that need convexity: a set whose ``h_i`` is known (ProductSSIM) is bounded alike.
MeanSSIM has no ``A'y``: given a multiplier, it may bound the supremum of z'd over itself and the pixel bounds by its
own Lagrangian, which needs no convexity either (weak duality). For the projection problem the analogous bound is
``min_{lo<=d<=hi} |d - q|^2/2 + (sum A_i' y_i)'d - sum h_i(y_i)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from solvers.batch_algebra import inner, per_image
from solvers.constraints.base import DualBlock
from solvers.constraints.box import elementwise_support
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.errors import ProblemError
from solvers.problem import LinearProblem, Problem, elementwise_bounds

# A repaired point that misses a set by more than this, in the set's unit, is replaced by d = 0. Equalities (kept
# means) can't be met exactly in floating point.
FEASIBLE = 1e-9
# Values below this share of the trivial bound count as zero in rel_gap: float64 can't tell them from rounding.
ZERO_SHARE = 1e-9


@dataclass(frozen=True)
class Certificate:
    """What can be said for certain about a point, per image (B,), in float64.

    Attributes:
        objective: the objective at ``delta``, the repaired point: attained by a feasible perturbation.
        bound: no feasible perturbation does better (upper for a LinearProblem, lower for a ProjectionProblem).
        rel_gap: ``|bound - objective| / max(|objective|, |bound|)``; values under 1e-9 of the trivial bound count
            as zero.
        max_violation: the largest excess of the point *as given*, over all sets, each in its own unit; >= 0.
        delta: the given point, made feasible by clipping, local retraction and scaling: (B, C, H, W).
    """

    objective: Tensor
    bound: Tensor
    rel_gap: Tensor
    max_violation: Tensor
    delta: Tensor

    @property
    def gap(self) -> Tensor:
        """``|bound - objective|``, (B,)."""
        return (self.bound - self.objective).abs()

    def closes(self, eps_abs: float, eps_rel: float) -> Tensor:
        """Whether the gap is within tolerance, ``gap <= eps_abs + eps_rel * max(|objective|, |bound|)``, (B,) bool."""
        scale = torch.maximum(self.objective.abs(), self.bound.abs())
        return (self.gap <= eps_abs + eps_rel * scale) | (self.rel_gap <= eps_rel)


def certify(
    problem: Problem,
    delta: Tensor | np.ndarray,
    dual: Sequence[DualBlock | None] | None = None,
) -> Certificate:
    """Certify a point of any origin.

    Args:
        problem: with images without defects.
        delta: (B, C, H, W), not necessarily feasible.
        dual: one block per constraint of the problem, or ``None`` where there is none; ``None`` alone for no dual
            at all. Image-shaped for LpBall and GlobalSSIM, (B, F) for FeatureBall, a
            :class:`~solvers.WindowDual` for WindowSSIM and ProductSSIM, or window vectors (B, C, P_h, P_w, size^2) for
            the first, a multiplier (B,) of the index for MeanSSIM on tiles.

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
    return Certifier(exact).certify(point, dual)


class Certifier:
    """A float64 problem with its sets bound once, to certify many iterates of one solve."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem.to(dtype=torch.float64)
        reference = self.problem.reference
        self.sets = [constraint.bind(reference) for constraint in self.problem.constraints]
        self.lower, self.upper = elementwise_bounds(self.problem, self.sets)
        self.implied_lower, self.implied_upper = self.lower, self.upper
        self._magnitude = self._size()
        for bound in self.sets:
            limits = bound.implied_bounds(self.implied_lower, self.implied_upper)
            self.implied_lower, self.implied_upper = limits
        self.trivial = self._bound([None] * len(self.sets))

    def select(self, images: Tensor) -> Certifier:
        """The certifier of the images at ``images`` (long, (K,)) alone, without its dearest part: implied bounds."""
        part = copy(self)
        part.problem = self.problem.select(images)
        part.sets = [constraint.bind(part.problem.reference) for constraint in part.problem.constraints]
        part.lower, part.upper = self.lower[images], self.upper[images]
        part.implied_lower, part.implied_upper = self.implied_lower[images], self.implied_upper[images]
        part.trivial, part._magnitude = self.trivial[images], self._magnitude[images]
        return part

    def certify(self, delta: Tensor, dual: Sequence[DualBlock | None] | None = None) -> Certificate:
        """See :func:`certify`; ``delta`` in any float dtype."""
        delta = delta.to(torch.float64)
        finite = delta.isfinite().flatten(1).all(dim=1)
        violation = self.violation(delta)
        repaired = self.repair(torch.where(per_image(finite), delta, 0.0))
        objective = self.problem.objective(repaired)
        bound = self.bound(dual)
        return Certificate(objective, bound, self.relative_gap(objective, bound), violation, repaired)

    def relative_gap(self, objective: Tensor, bound: Tensor) -> Tensor:
        """``rel_gap`` of any objective and bound of these images, (B,) each; see :class:`Certificate`."""
        scale = torch.maximum(objective.abs(), bound.abs())
        floor = (ZERO_SHARE * self._magnitude).clamp_min(torch.finfo(torch.float64).tiny)
        return torch.where(bound.isinf(), torch.inf, (bound - objective).abs() / torch.maximum(scale, floor))

    # -- the point -----------------------------------------------------------------------------------------

    def violation(self, delta: Tensor) -> Tensor:
        """The largest excess over the sets, (B,), >= 0; infinite for a point that isn't finite."""
        excess = torch.stack([bound.excess(delta) for bound in self.sets]).amax(dim=0)
        return torch.where(excess.isnan(), torch.inf, excess).clamp_min(0)

    def repair(self, delta: Tensor) -> Tensor:
        """A feasible point near ``delta``: clipped to the bounds, retracted locally, then scaled towards 0 by the
        smallest admissible factor of any set. Where all that fails, 0, which is feasible always."""
        delta = delta.clamp(self.lower, self.upper)
        # Equalities last: scaling keeps them, another set's local retraction does not.
        for bound in sorted(self.sets, key=lambda bound: bound.has_equality):
            delta = bound.retract(delta, self.lower, self.upper)
        # All elementwise sets hold after the clipping: what is left is scaling into the others.
        factor = torch.ones_like(delta[:, 0, 0, 0])
        for bound in self.sets:
            if not bound.is_elementwise:
                factor = torch.minimum(factor, bound.scale_factor(delta))
        delta = delta * per_image(factor)
        # Products computed in single precision miss the surface by more than FEASIBLE: step inside.
        for step in (1e-8, 1e-6, 1e-4):
            outside = self.violation(delta) > FEASIBLE
            if not bool(outside.any()):
                return delta
            delta = delta * per_image(torch.where(outside, 1 - step, 1.0))
        return torch.where(per_image(self.violation(delta) <= FEASIBLE), delta, 0.0)

    # -- the bound -----------------------------------------------------------------------------------------

    def bound(self, dual: Sequence[DualBlock | None] | None) -> Tensor:
        """The better, per image, of the given dual's bound and the trivial one."""
        if dual is None:
            return self.trivial
        if len(dual) != len(self.sets):
            raise ProblemError(
                f"dual has {len(dual)} blocks, the problem {len(self.sets)} constraints; give one each, or None"
            )
        given = self._bound([_as_block(block, self.problem) for block in dual])
        if isinstance(self.problem, LinearProblem):
            return torch.minimum(torch.where(given.isnan(), torch.inf, given), self.trivial)
        return torch.maximum(torch.where(given.isnan(), -torch.inf, given), self.trivial)

    def _bound(self, blocks: Sequence[DualBlock | None]) -> Tensor:
        action = torch.zeros_like(self.problem.reference)
        value = torch.zeros_like(action[:, 0, 0, 0])
        for bound, block in zip(self.sets, blocks, strict=True):
            if block is not None:
                bound.check_block(block)
                if bound.constraint.has_linear_blocks:
                    action = action + bound.adjoint(block)
                    value = value + bound.dual_value(block)
        if isinstance(self.problem, LinearProblem):
            return value + self._supremum(self.problem.gradient - action, blocks)
        nearest = (self.problem.vector - action).clamp(self.implied_lower, self.implied_upper)
        return self.problem.objective(nearest) + inner(action, nearest) - value

    def _supremum(self, direction: Tensor, blocks: Sequence[DualBlock | None]) -> Tensor:
        """An upper bound on sup z'd over the feasible set: the smallest over the sets."""
        # Fixed pixels cost nothing, whoever takes the rest.
        direction = direction.masked_fill((self.lower == 0) & (self.upper == 0), 0)
        least = elementwise_support(direction, self.implied_lower, self.implied_upper)
        for bound, block in zip(self.sets, blocks, strict=True):
            if not bound.is_elementwise:
                support = bound.supremum(direction, block, self.implied_lower, self.implied_upper)
                if support is not None:
                    least = torch.minimum(least, torch.where(support.isnan(), torch.inf, support))
        return least

    def _size(self) -> Tensor:
        """The objective's size, without the help of the implied bounds: they may leave nothing but d = 0."""
        if isinstance(self.problem, LinearProblem):
            plain = self._supremum(self.problem.gradient, [None] * len(self.sets))
            return torch.where(plain.isfinite(), plain.abs(), 0.0)
        return 0.5 * self.problem.vector.square().flatten(1).sum(dim=1)


def _as_block(block: DualBlock | None, problem: Problem) -> DualBlock | None:
    if block is None:
        return None
    if isinstance(block, WindowDual):
        return block.to(dtype=torch.float64, device=problem.reference.device)
    return torch.as_tensor(block).to(dtype=torch.float64, device=problem.reference.device)
