"""The iteration that ``admm`` and ``pdhg`` share, batched, on the images that still run.

    d+   = prox(d - tau (A'y - g)),      clipped to the pixel bounds
    y_p+ = prox_{sigma_p h}(y_p + sigma_p A_p (2 d+ - d)),      1/tau = A' sigma A

Weights ``sigma_p`` are per window and ``tau`` per pixel. Windows and images have ``A_i'A_i`` diagonal, so ``tau^-1 =
A' sigma A`` *exactly*, and then the primal-dual hybrid gradient method (Chambolle and Pock 2011; diagonal
preconditioning, 2011) and ADMM with penalties ``sigma_p`` are the same iteration. The methods differ in what they make
of it: over-relaxation or anchored restarts. Feature balls enter through the largest eigenvalue of ``J'J``.

The weights adapt per window, at intervals that double: ``sigma_p *= ((|dy_p|/|A_p dd|)/sigma_p)^(1/4)``, with dy and
dd the moves since the last time: a spectral step size (Xu, Figueiredo and Goldstein, AISTATS 2017), window by window.

Memory: some five copies of image x window in the iterations' dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.constraints.base import DualBlock
from solvers.methods.monitor import Monitor
from solvers.methods.splitting.blocks import Block, FeatureBlock, block_of
from solvers.problem import LinearProblem, Problem, elementwise_bounds
from solvers.result import SolveResult
from solvers.settings import Settings

# The weights first adapt after so many iterations, then after twice as many, and so on.
FIRST_ADAPTATION = 20
# What a feature ball adds to the curvature at first, of the harmonic mean of what the other sets have.
FEATURE_SHARE = 0.05
# A weight changes by at most this to the power of 1/4 at a time.
SPAN = 16.0


def refuses(problem: Problem) -> str | None:
    """Why a splitting method can't take the problem: elementwise sets alone leave nothing to split."""
    for constraint in problem.constraints:
        if constraint.kind in ("WindowSSIM", "GlobalSSIM", "FeatureBall") or getattr(constraint, "p", None) in (1, 2):
            return None
    return "needs a set beside pixel bounds"


def begin(problem: Problem, settings: Settings, warm_start: SolveResult | None) -> tuple[Monitor, Splitting, Point]:
    """A monitor that has seen the start, the problem of all images in the iterations' dtype, and the start."""
    monitor = Monitor(problem, settings)
    whole = torch.arange(problem.batch, device=problem.reference.device)
    split = Splitting(problem.to(dtype=settings.dtype or problem.reference.dtype), whole)
    point = split.start(warm_start)
    monitor.setup_done()
    monitor.check(0, point.delta, split.blocks_of(point))
    return monitor, split, point


@dataclass
class Point:
    """A primal-dual pair: d (K, C, H, W) and one block's values per non-elementwise set."""

    delta: Tensor
    dual: list[Tensor]

    def __getitem__(self, index: Tensor) -> Point:
        return Point(self.delta[index], [values[index] for values in self.dual])

    def minus(self, other: Point) -> Point:
        """The move from ``other`` to here."""
        return Point(self.delta - other.delta, [a - b for a, b in zip(self.dual, other.dual, strict=True)])

    def towards(self, other: Point, share: float | Tensor) -> Point:
        """``self + share (other - self)``, a number or one per image (K,)."""
        return Point(
            torch.lerp(self.delta, other.delta, _like(share, self.delta)),
            [torch.lerp(a, b, _like(share, a)) for a, b in zip(self.dual, other.dual, strict=True)],
        )


class Splitting:
    """The problem of the images that still run, bound, with weights and step sizes.

    Attributes:
        images: long (K,), their numbers.
        blocks: one per non-elementwise set; numbers: these sets' positions.
        weights: sigma, one tensor per block.
        tau: step sizes, broadcastable to (K, C, H, W).
    """

    def __init__(self, problem: Problem, images: Tensor, weights: list[Tensor] | None = None) -> None:
        self.problem, self.images = problem, images
        self.linear = isinstance(problem, LinearProblem)
        reference = problem.reference
        sets = [constraint.bind(reference) for constraint in problem.constraints]
        self.lower, self.upper = elementwise_bounds(problem, sets)
        found = [(k, block_of(bound, reference)) for k, bound in enumerate(sets)]
        self.blocks: list[Block] = [block for _, block in found if block is not None]
        self.numbers = [k for k, block in found if block is not None]
        self.total = len(sets)
        self.weights = weights or self._first_weights()
        self._set_steps()

    def start(self, warm_start: SolveResult | None) -> Point:
        """Zeros, or an earlier result; a warm start also sets the weights, by the sizes of its blocks."""
        point = Point(torch.zeros_like(self.problem.reference), [block.zeros() for block in self.blocks])
        if warm_start is None or len(warm_start.dual) != self.total:
            return point
        warm = Point(torch.as_tensor(warm_start.delta).to(point.delta), list(point.dual))
        for k, (block, number) in enumerate(zip(self.blocks, self.numbers, strict=True)):
            given = warm_start.dual[number]
            if given is not None:
                values = block.values_of(given)
                if values.shape == point.dual[k].shape:
                    warm.dual[k] = values
        finite = warm.delta.isfinite().flatten(1).all(dim=1)
        for values in warm.dual:
            finite &= values.isfinite().flatten(1).all(dim=1)
        warm = Point(
            torch.where(_like(finite, warm.delta), warm.delta, 0.0),
            [torch.where(_like(finite, values), values, 0.0) for values in warm.dual],
        )
        self.adapt(warm)
        return warm

    def advance(self, point: Point) -> Point:
        """One plain iteration."""
        pull = self.blocks[0].adjoint(point.dual[0])
        for block, values in zip(self.blocks[1:], point.dual[1:], strict=True):
            pull = pull + block.adjoint(values)
        if self.linear:
            delta = point.delta - self.tau * (pull - self.problem.vector)
        else:
            delta = (point.delta + self.tau * (self.problem.vector - pull)) / (1 + self.tau)
        delta = torch.minimum(torch.maximum(delta, self.lower), self.upper)
        ahead = 2 * delta - point.delta
        dual = [
            block.step(values, weight, ahead)
            for block, values, weight in zip(self.blocks, point.dual, self.weights, strict=True)
        ]
        return Point(delta, dual)

    def adapt(self, move: Point, images: Tensor | None = None) -> None:
        """Draw the weights towards ``|dy|/|A dd|``, group by group, for the images where ``images`` (K,) is True."""
        for k, block in enumerate(self.blocks):
            primal, dual = block.size(block.apply(move.delta)), block.size(move.dual[k])
            weight = self.weights[k]
            # Windows that are not active, dual 0, give way to their neighbours; where neither moved nothing is learnt.
            ratio = (dual / (weight * primal)).nan_to_num(1.0, posinf=SPAN).clamp(1 / SPAN, SPAN)
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

    def blocks_of(self, point: Point) -> list[DualBlock | None]:
        """The dual as the certificate takes it."""
        blocks: list[DualBlock | None] = [None] * self.total
        for number, values in zip(self.numbers, point.dual, strict=True):
            blocks[number] = values
        return blocks

    def narrowed(self, keep: Tensor) -> Splitting:
        """The same for the images at ``keep`` (long) only: finished images cost nothing."""
        return Splitting(self.problem.select(keep), self.images[keep], [weight[keep] for weight in self.weights])

    def _first_weights(self) -> list[Tensor]:
        """Each block's own; those of feature balls so that they shorten the steps that the other sets allow by little:
        J'J has few large eigenvalues, and a scalar weight pays for the largest."""
        weights = [block.first_weight(self.problem.vector) for block in self.blocks]
        others = [
            block.curvature(weight)
            for block, weight in zip(self.blocks, weights, strict=True)
            if not isinstance(block, FeatureBlock)
        ]
        if not others:
            return weights
        curvature = torch.zeros_like(self.problem.reference) + sum(others)
        typical = 1 / (1 / curvature.clamp_min(torch.finfo(curvature.dtype).tiny)).flatten(1).mean(dim=1)
        return [
            (FEATURE_SHARE * typical / block.largest.clamp_min(torch.finfo(typical.dtype).tiny))[:, None]
            if isinstance(block, FeatureBlock)
            else weight
            for block, weight in zip(self.blocks, weights, strict=True)
        ]

    def _set_steps(self) -> None:
        curvature = self.blocks[0].curvature(self.weights[0])
        for block, weight in zip(self.blocks[1:], self.weights[1:], strict=True):
            curvature = curvature + block.curvature(weight)
        # Pixels in no set are fixed by the bounds: any step will do.
        self.tau = torch.where(curvature > 0, 1 / curvature, 0.0)


def _like(value: float | Tensor, tensor: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value.reshape(-1, *[1] * (tensor.ndim - 1))
    return torch.as_tensor(value, dtype=tensor.dtype, device=tensor.device)
