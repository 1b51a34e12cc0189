"""The iteration that ``admm`` and ``pdhg`` share: one primal-dual step of all images that still run.

For ``max g'd`` over sets ``{d : A_i d in S_i}``, d within the pixel bounds, with one block y_p of duals per group p::

    d+   = clip(d + tau (g - A'y))                              tau = 1/diag(A' Sigma A), pixel by pixel
    y_p+ = prox_{sigma_p h_p}(y_p + sigma_p A_p (2 d+ - d))     Sigma = diag(sigma_p), h_p the support function

For a projection of q the first line is ``d+ = clip((d + tau (q - A'y))/(1 + tau))``.

Windows and images have ``A_i'A_i`` diagonal, so ``1/tau = A' Sigma A`` *exactly*. Then the primal-dual hybrid gradient
method (Chambolle and Pock 2011; with diagonal preconditioning, Pock and Chambolle 2011) and ADMM with the penalties
sigma_p are the same iteration. Feature balls enter tau through the largest eigenvalue of ``J'J``. The two methods
differ in what they make of the iteration: ``admm`` over-relaxes it, ``pdhg`` restarts it from an anchor.

The weights adapt per group, at intervals that double: ``sigma_p *= ((|dy_p|/|A_p dd|)/sigma_p)^(1/4)``, where dy and dd
are the moves since the last adaptation. That is a spectral step size (Xu, Figueiredo and Goldstein, AISTATS 2017),
taken window by window.

Memory: some five copies of image x window in the iterations' dtype. The page docs/methods/splitting.md says why a fixed
point is optimal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.batch_algebra import all_finite
from solvers.constraints.base import DualBlock
from solvers.methods.monitor import Monitor
from solvers.methods.splitting.blocks import Block, FeatureBlock, block_of
from solvers.problem import LinearProblem, Problem, ProjectionProblem, elementwise_bounds
from solvers.registry import Method, register_method
from solvers.result import SolveResult
from solvers.settings import Settings

# The weights first adapt after so many iterations, then after twice as many, and so on.
FIRST_ADAPTATION = 20
# A weight is multiplied by the fourth root of a ratio. The ratio is kept between 1/MAX_WEIGHT_RATIO and
# MAX_WEIGHT_RATIO.
MAX_WEIGHT_RATIO = 16.0
# A feature ball at first adds this share of the other sets' curvature (of its harmonic mean) to the curvature.
FEATURE_CURVATURE_SHARE = 0.05
# What a certificate of window vectors takes, in iterations (measured: docs/notes/time-limits.md).
CERTIFICATE_ITERATIONS = 3.5


def register_splitting_method(name: str) -> Callable[[Method], Method]:
    """Register a splitting method under ``name``: all of them take the same problems."""
    return register_method(
        name,
        problems=(LinearProblem, ProjectionProblem),
        any_of={"WindowSSIM", "LpBall", "GlobalSSIM", "FeatureBall"},
        optional={"Box", "Support"},
        warm_start=True,
        compiled=True,
        accepts=_refusal,
    )


def _refusal(problem: Problem) -> str | None:
    """Why a splitting method can't take the problem: elementwise sets alone leave nothing to split."""
    for constraint in problem.constraints:
        if constraint.kind in ("WindowSSIM", "GlobalSSIM", "FeatureBall") or getattr(constraint, "p", None) in (1, 2):
            return None
    return "needs a set beside pixel bounds"


def begin(problem: Problem, settings: Settings, warm_start: SolveResult | None) -> tuple[Monitor, Splitting, Point]:
    """Set up a splitting method: a monitor that has certified the start, the splitting of all images in the
    iterations' dtype, and the start."""
    monitor = Monitor(problem, settings)
    all_images = torch.arange(problem.batch, device=problem.reference.device)
    split = Splitting(problem.to(dtype=settings.dtype or problem.reference.dtype), all_images)
    point = split.start(warm_start)
    monitor.plan.first_check_iterations = CERTIFICATE_ITERATIONS
    monitor.setup_done()
    if warm_start is None:
        monitor.check_best()
    else:
        monitor.check(0, point.delta, split.dual_blocks(point))
    return monitor, split, point


@dataclass
class Point:
    """A primal-dual pair z = (d, y).

    Attributes:
        delta: d, (K, C, H, W).
        dual: y, the values of one block per set that is not elementwise.
    """

    delta: Tensor
    dual: list[Tensor]

    def __getitem__(self, index: Tensor) -> Point:
        """The pairs of the images at ``index`` (long)."""
        return Point(self.delta[index], [values[index] for values in self.dual])

    def minus(self, other: Point) -> Point:
        """``self - other``, the move from ``other`` to this point."""
        return Point(self.delta - other.delta, [a - b for a, b in zip(self.dual, other.dual, strict=True)])

    def lerp(self, other: Point, weight: float | Tensor) -> Point:
        """``self + weight (other - self)``; the weight is a number, or one number per image (K,)."""
        return Point(
            torch.lerp(self.delta, other.delta, _like(weight, self.delta)),
            [torch.lerp(a, b, _like(weight, a)) for a, b in zip(self.dual, other.dual, strict=True)],
        )


class Splitting:
    """The bound problem of the images that still run, with weights and step sizes.

    Attributes:
        problem: the problem of these images.
        images: long (K,), the numbers of these images in the batch.
        linear: whether the problem is a LinearProblem.
        lower, upper: the pixel bounds, (K, C, H, W) each.
        blocks: one block per set that is not elementwise.
        positions: the positions of these sets in the problem's constraints.
        set_count: the number of all sets.
        weights: sigma, one tensor per block.
        tau: the primal step sizes, broadcastable to (K, C, H, W).
    """

    def __init__(self, problem: Problem, images: Tensor, weights: list[Tensor] | None = None) -> None:
        self.problem, self.images = problem, images
        self.linear = isinstance(problem, LinearProblem)
        reference = problem.reference
        sets = [constraint.bind(reference) for constraint in problem.constraints]
        self.lower, self.upper = elementwise_bounds(problem, sets)
        numbered = [(k, block_of(bound, reference)) for k, bound in enumerate(sets)]
        self.blocks: list[Block] = [block for _, block in numbered if block is not None]
        self.positions = [k for k, block in numbered if block is not None]
        self.set_count = len(sets)
        self.weights = weights or self._initial_weights()
        self._set_steps()

    def start(self, warm_start: SolveResult | None) -> Point:
        """The first point: zeros, or an earlier result. A warm start also sets the weights, by the sizes of its
        blocks; images whose earlier result is not finite start from zeros."""
        point = Point(torch.zeros_like(self.problem.reference), [block.zeros() for block in self.blocks])
        if warm_start is None or len(warm_start.dual) != self.set_count:
            return point
        warm = Point(torch.as_tensor(warm_start.delta).to(point.delta), list(point.dual))
        for k, (block, position) in enumerate(zip(self.blocks, self.positions, strict=True)):
            earlier = warm_start.dual[position]
            if earlier is not None:
                values = block.values_of(earlier)
                if values.shape == point.dual[k].shape:
                    warm.dual[k] = values
        finite = all_finite(warm.delta)
        for values in warm.dual:
            finite &= all_finite(values)
        warm = Point(
            torch.where(_like(finite, warm.delta), warm.delta, 0.0),
            [torch.where(_like(finite, values), values, 0.0) for values in warm.dual],
        )
        self.adapt(warm)
        return warm

    def advance(self, point: Point) -> Point:
        """One plain iteration, T z; the equations at the top of this file."""
        # A'y
        adjoint = self.blocks[0].adjoint(point.dual[0])
        for block, values in zip(self.blocks[1:], point.dual[1:], strict=True):
            adjoint = adjoint + block.adjoint(values)
        # d+
        if self.linear:
            delta = point.delta - self.tau * (adjoint - self.problem.vector)
        else:
            delta = (point.delta + self.tau * (self.problem.vector - adjoint)) / (1 + self.tau)
        delta = torch.minimum(torch.maximum(delta, self.lower), self.upper)
        # y+
        extrapolated = 2 * delta - point.delta
        dual = [
            block.step(values, weight, extrapolated)
            for block, values, weight in zip(self.blocks, point.dual, self.weights, strict=True)
        ]
        return Point(delta, dual)

    def adapt(self, move: Point, images: Tensor | None = None) -> None:
        """Draw the weights towards ``|dy|/|A dd|``, group by group, and set the step sizes that follow.

        Args:
            move: (dd, dy), the move since the last adaptation.
            images: (K,) bool, the images whose weights adapt; default: all images.
        """
        for k, block in enumerate(self.blocks):
            primal, dual = block.size(block.apply(move.delta)), block.size(move.dual[k])
            weight = self.weights[k]
            # A window that is not active has dual 0, and its weight falls: it gives way to its neighbours. Where
            # neither d nor y moved (0/0), the weight stays.
            ratio = (dual / (weight * primal)).nan_to_num(1.0, posinf=MAX_WEIGHT_RATIO)
            ratio = ratio.clamp(1 / MAX_WEIGHT_RATIO, MAX_WEIGHT_RATIO)
            if images is not None:
                ratio = torch.where(_like(images, ratio), ratio, 1.0)
            self.weights[k] = weight * ratio**0.25
        self._set_steps()

    def residual(self, move: Point) -> Tensor:
        """The size of a move in the iteration's own metric, ``|dd|^2/tau - 2 dd'A'dy + |dy|^2/sigma``: (K,)."""
        total = (move.delta.square() / self.tau).flatten(1).sum(dim=1)
        for block, weight, values in zip(self.blocks, self.weights, move.dual, strict=True):
            total = total + (block.size(values).square() / weight).flatten(1).sum(dim=1)
            total = total - 2 * (block.apply(move.delta) * values).flatten(1).sum(dim=1)
        return total.clamp_min(0).sqrt()

    def dual_blocks(self, point: Point) -> list[DualBlock | None]:
        """The dual in the form that the certificate takes: one block per set, ``None`` for elementwise sets."""
        blocks: list[DualBlock | None] = [None] * self.set_count
        for position, values in zip(self.positions, point.dual, strict=True):
            blocks[position] = values
        return blocks

    def select(self, keep: Tensor) -> Splitting:
        """The splitting of the images at ``keep`` (long) alone, with their weights: finished images cost nothing."""
        return Splitting(self.problem.select(keep), self.images[keep], [weight[keep] for weight in self.weights])

    def _initial_weights(self) -> list[Tensor]:
        """Each block's own first weight; but where feature balls stand beside other sets, theirs are smaller.

        J'J has few large eigenvalues, and a scalar weight shortens the steps by the largest one. So a feature ball adds
        FEATURE_CURVATURE_SHARE of the other sets' typical curvature to the curvature, and no more.
        """
        weights = [block.initial_weight(self.problem.vector) for block in self.blocks]
        curvatures = [
            block.curvature(weight)
            for block, weight in zip(self.blocks, weights, strict=True)
            if not isinstance(block, FeatureBlock)
        ]
        if not curvatures:
            return weights
        curvature = torch.zeros_like(self.problem.reference) + sum(curvatures)
        typical = 1 / (1 / curvature.clamp_min(torch.finfo(curvature.dtype).tiny)).flatten(1).mean(dim=1)
        tiny = torch.finfo(typical.dtype).tiny
        return [
            (FEATURE_CURVATURE_SHARE * typical / block.largest_eigenvalue.clamp_min(tiny))[:, None]
            if isinstance(block, FeatureBlock)
            else weight
            for block, weight in zip(self.blocks, weights, strict=True)
        ]

    def _set_steps(self) -> None:
        """tau = 1/diag(A' Sigma A) for the present weights."""
        curvature = self.blocks[0].curvature(self.weights[0])
        for block, weight in zip(self.blocks[1:], self.weights[1:], strict=True):
            curvature = curvature + block.curvature(weight)
        # A pixel in no set is fixed by the bounds. Any step size will do for it.
        self.tau = torch.where(curvature > 0, 1 / curvature, 0.0)


def _like(value: float | Tensor, tensor: Tensor) -> Tensor:
    """A number, or one number per image (K,), shaped to multiply ``tensor`` (K, ...)."""
    if isinstance(value, Tensor):
        return value.reshape(-1, *[1] * (tensor.ndim - 1))
    return torch.as_tensor(value, dtype=tensor.dtype, device=tensor.device)
