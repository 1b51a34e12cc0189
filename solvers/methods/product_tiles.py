"""``product_tiles``: SSIM at least a threshold in every tile, each with the best split of its loss.

What a tile gains at a split is a problem that :mod:`~solvers.constraints.ssim_windows.single_window_solver` solves
exactly. Its multipliers say, through the support function of the tile's whole set, how much any *other* split could
gain at most (:mod:`solvers.constraints.ssim_windows.loss_split`); the split at which that is largest is tried next,
within a bracket that the slopes at the splits tried make. Where no other split promises more, the tile is solved to its
global optimum, though its set is not convex, and the certificate's bound meets it. A gain may have a kink, at the split
from which on the ball
no longer matters: the bracket shrinks onto it, and the multipliers of its ends are mixed so that the slope vanishes.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from solvers.constraints.product_ssim import BoundProductSSIM, ProductSSIM
from solvers.constraints.ssim_windows.loss_split import Loss, best_share, levels
from solvers.constraints.ssim_windows.single_window_solver import Groups, GroupSolution, solve_groups
from solvers.constraints.ssim_windows.tiles import from_tiles, to_tiles
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.problem import LinearProblem, Problem, ProjectionProblem, elementwise_bounds
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult, Status
from solvers.settings import Settings

STEPS = 60
# Of the tolerance asked, and at least: what another split may promise, relative to the multipliers' worth.
SHARE, ROUNDING = 1e-2, 1e-13
# Steps before splits are bisected, and the width of a bracket, an angle, at which that ends.
FREE, NARROW = 4, 1e-11
# Splits that are tried where no multipliers prove one the best, and steps from there.
SCANNED, GOLDEN = 24, 20


def _refuses(problem: Problem) -> str | None:
    count = len(problem.find(ProductSSIM))
    return None if count == 1 else f"takes one ProductSSIM, got {count}"


@register_method(
    "product_tiles",
    problems=(LinearProblem, ProjectionProblem),
    required={"ProductSSIM"},
    optional={"Box", "Support"},
    windows="tiles",
    accepts=_refuses,
)
def product_tiles(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Exact product of SSIM's terms on tiles, not convex: a search for each tile's split, with a global bound."""
    started = time.perf_counter()
    exact = problem.to(dtype=torch.float64)
    position = exact.find(ProductSSIM)[0]
    sets = [constraint.bind(exact.reference) for constraint in exact.constraints]
    bound = sets[position]
    assert isinstance(bound, BoundProductSSIM)
    tolerance = max(SHARE * settings.eps_rel, ROUNDING)
    search = _Search(_Tiles.cut(bound, exact, elementwise_bounds(exact, sets)), tolerance)
    setup_time = time.perf_counter() - started
    steps = search.run(settings.max_iter, started + settings.time_limit)
    late = Status.TIME_LIMIT if time.perf_counter() - started >= settings.time_limit else Status.MAX_ITER
    delta, lattice = from_tiles(bound, search.best), bound.spread_base.shape
    dual = search.dual
    block = WindowDual(
        ball=torch.ones_like(bound.spread_base),
        point=from_tiles(bound, dual.point),
        mean=dual.mean.reshape(lattice),
        reference=dual.tilt.reshape(lattice),
    )
    return MethodOutput(
        delta=delta,
        dual=tuple(block if k == position else None for k in range(len(sets))),
        # The certificate turns it to OPTIMAL where the gap closes.
        status=(late,) * problem.batch,
        iterations=(steps,) * problem.batch,
        setup_time=setup_time,
        messages=("not convex; global bound by the tiles' support functions",) * problem.batch,
    )


@dataclass(frozen=True)
class _Tiles:
    """All tiles of all images, G of them: their problems but for the split, (G, N) and (G,)."""

    groups: Groups
    centred: Tensor
    variance: Tensor
    mean: Tensor
    spread_base: Tensor
    mean_base: Tensor
    threshold: float
    linear: bool

    @classmethod
    def cut(cls, bound: BoundProductSSIM, problem: Problem, box: tuple[Tensor, Tensor]) -> _Tiles:
        op, (batch, channels) = bound.operator, bound.reference.shape[:2]
        weights = op.root_weights.reshape(-1, op.window.size**2).square().repeat(batch * channels, 1)
        linear, target = isinstance(problem, LinearProblem), to_tiles(bound, problem.vector)
        if linear:
            target = torch.where(weights > 0, target / weights.clamp_min(1e-300), 0.0)
        variance, mean = bound.reference_variance.reshape(-1), bound.reference_mean.reshape(-1)
        bases = bound.spread_base.reshape(-1), bound.mean_base.reshape(-1)
        center = to_tiles(bound, bound.reference)
        none = torch.zeros_like(mean)
        lower, upper = (to_tiles(bound, limit) for limit in box)
        groups = Groups(target, weights, center, none, none, none, lower, upper)
        return cls(groups, groups.centred(center), variance, mean, *bases, bound.constraint.threshold, linear)

    def __getitem__(self, index: Tensor) -> _Tiles:
        names = ("centred", "variance", "mean", "spread_base", "mean_base")
        return replace(self, groups=self.groups[index], **{name: getattr(self, name)[index] for name in names})

    def solve(self, share: Tensor) -> GroupSolution:
        """Every tile at its split, (G,)."""
        a, b = levels(share, self.threshold)
        middle = b * self.mean
        half = (b * (self.mean_base + middle * self.mean)).sqrt()
        groups = replace(
            self.groups,
            center=a[:, None] * self.groups.center,
            radius=(a * (self.spread_base + a * self.variance)).sqrt(),
            mean_lower=middle - half,
            mean_upper=middle + half,
        )
        return solve_groups(groups, linear=self.linear)

    def losses(self, solution: GroupSolution, share: Tensor) -> tuple[Loss, Loss]:
        """What contrast and luminance are worth at the multipliers of a solution at ``share``."""
        groups, a = self.groups, levels(share, self.threshold)[0]
        point = groups.centred(solution.delta) - a[:, None] * self.centred
        size = solution.ball.abs() * groups.mean(point.square()).sqrt()
        along = solution.ball * groups.mean(self.centred * point)
        return self.worth(along, size, solution.mean)

    def worth(self, along: Tensor, size: Tensor, mean: Tensor) -> tuple[Loss, Loss]:
        """What contrast and luminance are worth to multipliers, (G,) each."""
        contrast = Loss(along, size, self.spread_base, self.variance)
        return contrast, Loss(self.mean * mean, mean.abs(), self.mean_base, self.mean.square())

    def gain(self, solution: GroupSolution) -> Tensor:
        """The objective, or minus half the square distance, (G,)."""
        target, weights = self.groups.target, self.groups.weights
        if self.linear:
            return (target * weights * solution.delta).sum(dim=1)
        return -0.5 * (solution.delta - target).square().masked_fill(weights == 0, 0).sum(dim=1)


@dataclass(frozen=True)
class _End:
    """What was found at one end of the tiles' brackets, (G,) each: the split, the dual vector ``R point + tilt R x +
    mean sqrt(w)`` with points (G, N), what it is worth to contrast (along, size; see
    :class:`~solvers.constraints.ssim_windows.loss_split.Loss`), the value less what it buys there, and the slope."""

    share: Tensor
    point: Tensor
    tilt: Tensor
    mean: Tensor
    along: Tensor
    size: Tensor
    rest: Tensor
    slope: Tensor

    @classmethod
    def filled(cls, share: float, tiles: _Tiles, value: float) -> _End:
        """The same split for all tiles, and ``value`` for all else."""
        rest = (torch.full_like(tiles.mean, value) for _ in fields(cls)[2:])
        return cls(torch.full_like(tiles.mean, share), torch.full_like(tiles.centred, value), *rest)

    def __getitem__(self, index: Tensor) -> _End:
        return _End(*(getattr(self, entry.name)[index] for entry in fields(self)))

    def put(self, index: Tensor, other: _End) -> None:
        """Overwrite the tiles at ``index``."""
        for entry in fields(self):
            getattr(self, entry.name)[index] = getattr(other, entry.name)

    def mixed(self, other: _End, weight: Tensor) -> _End:
        """Multipliers between two ends, (1 - weight) of this one; what they are worth, at most (h is convex)."""

        def between(first: Tensor, second: Tensor) -> Tensor:
            return torch.lerp(first, second, weight if first.ndim == 1 else weight[:, None])

        return _End(*(between(getattr(self, entry.name), getattr(other, entry.name)) for entry in fields(self)))


class _Search:
    """The bracket, best split and best solution of every tile; splits as shares of contrast."""

    def __init__(self, tiles: _Tiles, tolerance: float) -> None:
        self.tiles, self.tolerance = tiles, tolerance
        zero = torch.zeros_like(tiles.mean)
        # NaN: no tile has been solved there; it compares with nothing.
        self.low, self.high = _End.filled(0.0, tiles, torch.nan), _End.filled(1.0, tiles, torch.nan)
        self.dual = _End.filled(0.0, tiles, 0.0)
        self.best_share = torch.full_like(zero, 0.5)
        self.best_gain = torch.full_like(zero, -torch.inf)
        self.best = torch.zeros_like(tiles.groups.target)
        self.least = torch.full_like(zero, torch.inf)
        self.open = torch.ones_like(zero, dtype=torch.bool)

    def run(self, most: int, until: float) -> int:
        """Search, in at most ``most`` steps and until the clock (:func:`time.perf_counter`) says ``until``; the number
        of steps that it took."""
        share, step = self.best_share.clone(), 0
        while bool(self.open.any()) and step < min(STEPS, most):
            step += 1
            index = self.open.nonzero()[:, 0]
            share[index] = self._try(index, share[index], bisect=step > FREE)
            if time.perf_counter() >= until:
                return step
        if step < most:
            self._scan((self.least > self.tolerance).nonzero()[:, 0])
        return step

    def _try(self, index: Tensor, share: Tensor, *, bisect: bool) -> Tensor:
        """Solve the tiles at ``index`` (K,) at their splits; the splits to try next."""
        part = self.tiles[index]
        solution = part.solve(share)
        self._keep(index, share, solution, part.gain(solution))
        contrast, luminance = part.losses(solution, share)
        slope = _slope(contrast, luminance, share, part.threshold)
        rest = part.gain(solution) - _worth(contrast, luminance, share, part.threshold)
        tilt = -solution.ball * levels(share, part.threshold)[0]
        point = solution.ball[:, None] * solution.delta
        new = _End(share, point, tilt, solution.mean, contrast.along, contrast.size, rest, slope)
        wanted = best_share(contrast, luminance, part.threshold)
        rising = wanted > share
        self.low.put(index[rising], new[rising])
        self.high.put(index[~rising], new[~rising])
        self._judge(index, part, new)
        low, high = self.low[index], self.high[index]
        weight = low.slope / (low.slope - high.slope)
        between = (weight > 0) & (weight < 1)
        self._judge(index[between], part[between], low[between].mixed(high[between], weight[between]))
        first, last, aim = _angle(low.share), _angle(high.share), _angle(wanted)
        self.open[index] = (self.least[index] > self.tolerance) & (last - first > NARROW)
        inside = (aim > first) & (aim < last)
        return torch.where(inside & (not bisect), aim, (first + last) / 2).sin().square()

    def _keep(self, index: Tensor, share: Tensor, solution: GroupSolution, gain: Tensor) -> None:
        better = gain > self.best_gain[index]
        at = index[better]
        self.best[at], self.best_gain[at], self.best_share[at] = solution.delta[better], gain[better], share[better]

    def _judge(self, index: Tensor, part: _Tiles, end: _End) -> None:
        """Keep multipliers that promise less than any before: what any split may gain beyond the best, as a share of
        what they buy."""
        contrast, luminance = part.worth(end.along, end.size, end.mean)
        wanted = best_share(contrast, luminance, part.threshold)
        bought = _worth(contrast, luminance, wanted, part.threshold)
        promise = (bought + end.rest - self.best_gain[index]) / bought.clamp_min(torch.finfo(bought.dtype).tiny)
        less = promise < self.least[index]
        self.least[index[less]] = promise[less]
        self.dual.put(index[less], end[less])

    def _scan(self, index: Tensor) -> None:
        """Where no multipliers prove the best split, there may be two peaks: try many splits, then between the best
        one's neighbours by golden section. Multipliers stay as they are."""
        if not index.numel():
            return
        part, width = self.tiles[index], math.pi / 2 / SCANNED

        def gain(angle: Tensor) -> Tensor:
            share = angle.sin().square()
            solution = part.solve(share)
            value = part.gain(solution)
            self._keep(index, share, solution, value)
            return value

        for k in range(SCANNED + 1):
            gain(torch.full_like(part.mean, k * width))
        low, high = ((_angle(self.best_share[index]) + side * width).clamp(0, math.pi / 2) for side in (-1, 1))
        golden = (5**0.5 - 1) / 2
        for _ in range(GOLDEN):
            first, second = high - golden * (high - low), low + golden * (high - low)
            left = gain(first) > gain(second)
            low, high = torch.where(left, low, first), torch.where(left, second, high)


def _angle(share: Tensor) -> Tensor:
    return torch.atan2(share.sqrt(), (1 - share).clamp_min(0).sqrt())


def _worth(contrast: Loss, luminance: Loss, share: Tensor, threshold: float) -> Tensor:
    a, b = levels(share, threshold)
    return contrast.value(a) + luminance.value(b)


def _slope(contrast: Loss, luminance: Loss, share: Tensor, threshold: float) -> Tensor:
    """The derivative of ``F(A) + G(B)`` with the split, up to a positive factor that all multipliers share."""
    a, b = levels(share, threshold)
    return contrast.rate(a) * (1 + a) * b.sqrt() - luminance.rate(b) * (1 + b) * a.sqrt()
