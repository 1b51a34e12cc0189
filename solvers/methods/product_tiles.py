"""``product_tiles``: SSIM at least a threshold in every tile, each tile with the best split of its loss.

A tile's *split* is a point of the hyperbola ``(1 + A)(1 + B) = 1/t`` of its two levels, given as the contrast's share s
in [0, 1] (:mod:`solvers.constraints.ssim_windows.loss_split`). At a fixed split the tile's problem is convex, and
:mod:`~solvers.constraints.ssim_windows.single_window_solver` solves it exactly. Each step of the search

1. solves every open tile at its split;
2. bounds, by the multipliers found and by the support function of the tile's whole set, how much any *other* split
   could gain. Where no split promises more, the tile is solved to its global optimum, though its set is not convex;
3. moves an end of the tile's bracket to this split, the lower end if the most promising split lies above it, and goes
   on to the most promising split, if it lies in the bracket, or else to the bracket's middle.

A tile's gain may have a kink, at the split from which on the ball no longer matters. The bracket shrinks onto the kink,
and the multipliers of its two ends are mixed so that the slope vanishes. The page docs/methods/tiles.md has the
mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor

from solvers import clock
from solvers.batch_algebra import take
from solvers.constraints.product_ssim import BoundProductSSIM, ProductSSIM
from solvers.constraints.ssim_windows.loss_split import Loss, best_share, levels
from solvers.constraints.ssim_windows.single_window_solver import Groups, GroupSolution, solve_groups
from solvers.constraints.ssim_windows.tiles import from_tiles, to_tiles
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.methods.monitor import Monitor
from solvers.methods.refusals import unless_single
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings
from solvers.windows.quadratic import Bounds

MAX_STEPS = 60
# A tile is solved when another split promises at most this share of the gap asked for, relative to what its multipliers
# are worth, but at least MIN_PROMISE.
PROMISE_SHARE, MIN_PROMISE = 1e-2, 1e-13
# The step after which brackets are halved, and the width of a bracket (an angle) at which a tile is given up.
BISECT_AFTER, NARROWEST_BRACKET = 4, 1e-11
# Where no multipliers prove a split the best: the splits that are tried, and golden-section steps from the best one.
SCANNED_SPLITS, GOLDEN_STEPS = 24, 20
NOTE = "not convex; global bound by the tiles' support functions"  # in the messages


@register_method(
    "product_tiles",
    problems=(LinearProblem, ProjectionProblem),
    required={"ProductSSIM"},
    optional={"Box", "Support"},
    windows="tiles",
    accepts=partial(unless_single, kind=ProductSSIM),
)
def product_tiles(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Exact product of SSIM's terms on tiles, not convex: a search for each tile's split, with a global bound."""
    # Cut into tiles.
    monitor = Monitor(problem, settings, own_criterion=True)
    exact, certifier = monitor.problem, monitor.certifier
    position = exact.find(ProductSSIM)[0]
    bound = certifier.sets[position]
    assert isinstance(bound, BoundProductSSIM)
    tolerance = max(PROMISE_SHARE * settings.eps_rel, MIN_PROMISE)
    search = _Search(_Tiles.cut(bound, exact, Bounds(certifier.lower, certifier.upper)), tolerance)
    monitor.setup_done()
    monitor.check_best()

    # Search for every tile's best split.
    _run(monitor, search, position)

    # The certificate turns the status to OPTIMAL where the gap closes.
    output = monitor.output()
    notes = (f"{message}; {NOTE}" if message else NOTE for message in output.messages)
    return replace(output, messages=tuple(notes))


def _run(monitor: Monitor, search: _Search, position: int) -> None:
    """Search until every tile is solved or given up, for at most MAX_STEPS steps.

    Args:
        monitor: is given the points and multipliers.
        search: the tiles.
        position: the position of ProductSSIM among the constraints.
    """
    bound = monitor.certifier.sets[position]
    assert isinstance(bound, BoundProductSSIM)
    share, step, done = search.best_share.clone(), 0, False
    while monitor.any_running and not done:
        # Solve every open tile at its split.
        step += 1
        tiles = search.open.nonzero()[:, 0]
        with clock.deadline(monitor.plan.iterations_end):
            trial = search.solve(tiles, share[tiles])

        # Bound what other splits could gain, by the multipliers found; move an end of the bracket to this split; bound
        # once more by multipliers mixed from both ends.
        search.judge(tiles, trial.end, trial.best_share)
        search.move_bracket(tiles, trial)
        search.judge_mixed(tiles)

        # Close the tiles that are done, and choose the next splits.
        share[tiles] = search.next_share(tiles, trial.best_share, bisect=step > BISECT_AFTER)
        done = step == MAX_STEPS or not bool(search.open.any())
        is_due = monitor.due(step)
        # Where no multipliers prove a split the best there may be two peaks.
        if done and step < monitor.settings.max_iter:
            search.scan((search.promise > search.tolerance).nonzero()[:, 0], monitor.out_of_time)

        # Certify.
        if is_due or done:
            monitor.begin_check()
            dual: list[WindowDual | None] = [None] * len(monitor.dual)
            dual[position] = search.window_dual(bound)
            monitor.check(step, from_tiles(bound, search.best), dual)


# The index that leaves out no tile. A slice copies nothing.
ALL_TILES = slice(None)


@dataclass(frozen=True)
class _Tiles:
    """All tiles of all images, G of them: their problems, except for the split.

    Attributes:
        groups: the problems, whose balls and intervals follow from a split.
        centred: the reference less its mean, (G, N).
        variance, mean: of the reference, (G,).
        spread_base, mean_base: ``2 V(x) + C2`` and ``2 m(x)^2 + C1``, (G,).
        threshold: t.
        linear: whether the problem is a LinearProblem.
    """

    groups: Groups
    centred: Tensor
    variance: Tensor
    mean: Tensor
    spread_base: Tensor
    mean_base: Tensor
    threshold: float
    linear: bool

    @classmethod
    def cut(cls, bound: BoundProductSSIM, problem: Problem, bounds: Bounds) -> _Tiles:
        """Cut the images of ``problem`` into tiles."""
        op, (batch, channels) = bound.operator, bound.reference.shape[:2]
        weights = op.root_weights.reshape(-1, op.window.size**2).square().repeat(batch * channels, 1)
        linear, target = isinstance(problem, LinearProblem), to_tiles(bound, problem.vector)
        if linear:
            target = torch.where(weights > 0, target / weights.clamp_min(1e-300), 0.0)
        variance, mean = bound.reference_variance.reshape(-1), bound.reference_mean.reshape(-1)
        bases = bound.spread_base.reshape(-1), bound.mean_base.reshape(-1)
        center = to_tiles(bound, bound.reference)
        lower, upper = to_tiles(bound, bounds.lower), to_tiles(bound, bounds.upper)
        unset = torch.zeros_like(mean)
        groups = Groups(
            target=target,
            weights=weights,
            center=center,
            radius=unset,
            mean_lower=unset,
            mean_upper=unset,
            lower=lower,
            upper=upper,
        )
        return cls(groups, groups.centred(center), variance, mean, *bases, bound.constraint.threshold, linear)

    def __getitem__(self, index: Tensor) -> _Tiles:
        """The tiles at ``index``."""
        names = ("centred", "variance", "mean", "spread_base", "mean_base")
        return replace(self, groups=self.groups[index], **{name: getattr(self, name)[index] for name in names})

    def solve(self, share: Tensor) -> GroupSolution:
        """Solve every tile at its split, ``share`` (G,)."""
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
        """What contrast and luminance are worth to the multipliers of a solution at ``share`` (G,)."""
        groups, a = self.groups, levels(share, self.threshold)[0]
        point = groups.centred(solution.delta) - a[:, None] * self.centred
        size = solution.ball.abs() * groups.mean(point.square()).sqrt()
        along = solution.ball * groups.mean(self.centred * point)
        return self.worth(along, size, solution.mean)

    def worth(self, along: Tensor, size: Tensor, mean: Tensor, index: Tensor | slice = ALL_TILES) -> tuple[Loss, Loss]:
        """What contrast and luminance are worth to multipliers of the tiles at ``index``, as functions of their levels.
        ``along``, ``size`` and ``mean``: the dual vector's numbers, (K,) each
        (:mod:`~solvers.constraints.ssim_windows.loss_split`)."""
        reference_mean = self.mean[index]
        contrast = Loss(along, size, self.spread_base[index], self.variance[index])
        return contrast, Loss(reference_mean * mean, mean.abs(), self.mean_base[index], reference_mean.square())

    def gain(self, solution: GroupSolution) -> Tensor:
        """The objective, or minus half the square distance, (G,)."""
        target, weights = self.groups.target, self.groups.weights
        if self.linear:
            return (target * weights * solution.delta).sum(dim=1)
        return -0.5 * (solution.delta - target).square().masked_fill(weights == 0, 0).sum(dim=1)


@dataclass(frozen=True)
class _End:
    """One end of the tiles' brackets: a split, and the multipliers found there.

    The dual vector is ``R point + tilt R x + mean sqrt(w)``.

    Attributes:
        share: the split, (G,).
        point: (G, N).
        tilt, mean: (G,).
        along, size: what the dual vector is worth to contrast, (G,)
            (:class:`~solvers.constraints.ssim_windows.loss_split.Loss`).
        remainder: the value at the split, less what the multipliers buy there, (G,).
        slope: of what they buy, along the hyperbola, (G,).
    """

    share: Tensor
    point: Tensor
    tilt: Tensor
    mean: Tensor
    along: Tensor
    size: Tensor
    remainder: Tensor
    slope: Tensor

    @classmethod
    def filled(cls, share: float, tiles: _Tiles, value: float) -> _End:
        """The same split for all tiles, and ``value`` for everything else."""
        numbers = (torch.full_like(tiles.mean, value) for _ in fields(cls)[2:])
        return cls(torch.full_like(tiles.mean, share), torch.full_like(tiles.centred, value), *numbers)

    def __getitem__(self, index: Tensor) -> _End:
        """The ends of the tiles at ``index``."""
        return take(self, index)

    def put(self, index: Tensor, other: _End) -> None:
        """Overwrite the tiles at ``index``."""
        for entry in fields(self):
            getattr(self, entry.name)[index] = getattr(other, entry.name)

    def lerp(self, other: _End, weight: Tensor) -> _End:
        """The multipliers ``self + weight (other - self)``, and what they are worth at most (h is convex)."""

        def between(first: Tensor, second: Tensor) -> Tensor:
            return torch.lerp(first, second, weight if first.ndim == 1 else weight[:, None])

        return _End(*(between(getattr(self, entry.name), getattr(other, entry.name)) for entry in fields(self)))


@dataclass(frozen=True)
class _Trial:
    """What solving some tiles gave: a possible end of their brackets, and the split at which its multipliers promise
    most, (K,)."""

    end: _End
    best_share: Tensor


class _Search:
    """The bracket, the best split and the best solution of every tile; splits as shares of contrast.

    Attributes:
        tiles: the problems.
        tolerance: the promise up to which a tile counts as solved.
        low, high: the ends of the brackets; NaN before the first. (NaN compares with nothing.)
        dual: the multipliers that promise least.
        promise: how much another split may gain beyond the best solution, by ``dual``, relative to what ``dual`` buys,
            (G,).
        best, best_gain, best_share: the best solutions, (G, N), their gains and their splits, (G,).
        open: whether a tile is still searched, (G,) bool.
    """

    def __init__(self, tiles: _Tiles, tolerance: float) -> None:
        self.tiles, self.tolerance = tiles, tolerance
        zero = torch.zeros_like(tiles.mean)
        self.low, self.high = _End.filled(0.0, tiles, torch.nan), _End.filled(1.0, tiles, torch.nan)
        self.dual = _End.filled(0.0, tiles, 0.0)
        self.promise = torch.full_like(zero, torch.inf)
        self.best = torch.zeros_like(tiles.groups.target)
        self.best_gain = torch.full_like(zero, -torch.inf)
        self.best_share = torch.full_like(zero, 0.5)
        self.open = torch.ones_like(zero, dtype=torch.bool)

    def solve(self, index: Tensor, share: Tensor) -> _Trial:
        """Solve the tiles at ``index`` (K,) at their splits, and keep the solutions that are better."""
        part = self.tiles[index]
        solution = part.solve(share)
        gain = part.gain(solution)
        self._keep_better(index, share, solution, gain)
        contrast, luminance = part.losses(solution, share)
        end = _End(
            share=share,
            point=solution.ball[:, None] * solution.delta,
            tilt=-solution.ball * levels(share, part.threshold)[0],
            mean=solution.mean,
            along=contrast.along,
            size=contrast.size,
            remainder=gain - _worth(contrast, luminance, share, part.threshold),
            slope=_slope(contrast, luminance, share, part.threshold),
        )
        return _Trial(end, best_share(contrast, luminance, part.threshold))

    def judge(self, index: Tensor, end: _End, share: Tensor | None = None) -> None:
        """Keep the multipliers of ``end`` where they promise less than any before.

        Args:
            index: the tiles, (K,).
            end: their multipliers.
            share: the splits at which the multipliers promise most, (K,), where they are known.
        """
        contrast, luminance = self.tiles.worth(end.along, end.size, end.mean, index)
        if share is None:
            share = best_share(contrast, luminance, self.tiles.threshold)
        bought = _worth(contrast, luminance, share, self.tiles.threshold)
        beyond_best = bought + end.remainder - self.best_gain[index]
        promise = beyond_best / bought.clamp_min(torch.finfo(bought.dtype).tiny)
        less = promise < self.promise[index]
        self.promise[index[less]] = promise[less]
        self.dual.put(index[less], end[less])

    def move_bracket(self, index: Tensor, trial: _Trial) -> None:
        """Move the lower end to the trial's split where its multipliers promise most above it, the upper end
        elsewhere."""
        rising = trial.best_share > trial.end.share
        self.low.put(index[rising], trial.end[rising])
        self.high.put(index[~rising], trial.end[~rising])

    def judge_mixed(self, index: Tensor) -> None:
        """Judge multipliers mixed from both ends of the bracket, so that the slope vanishes."""
        low, high = self.low[index], self.high[index]
        weight = low.slope / (low.slope - high.slope)
        between = (weight > 0) & (weight < 1)
        self.judge(index[between], low[between].lerp(high[between], weight[between]))

    def next_share(self, index: Tensor, promising: Tensor, *, bisect: bool) -> Tensor:
        """Close the tiles that are solved, or whose bracket is too narrow, and choose the next splits, (K,).

        Args:
            index: the tiles, (K,).
            promising: the splits at which the last multipliers promise most, (K,).
            bisect: take the middle of the bracket in any case.
        """
        first, last, aim = _angle(self.low.share[index]), _angle(self.high.share[index]), _angle(promising)
        self.open[index] = (self.promise[index] > self.tolerance) & (last - first > NARROWEST_BRACKET)
        inside = (aim > first) & (aim < last)
        return torch.where(inside & (not bisect), aim, (first + last) / 2).sin().square()

    def window_dual(self, bound: BoundProductSSIM) -> WindowDual:
        """The multipliers that promise least, put together as the dual block of ``bound``."""
        lattice = bound.spread_base.shape
        return WindowDual(
            ball=torch.ones_like(bound.spread_base),
            point=from_tiles(bound, self.dual.point),
            mean=self.dual.mean.reshape(lattice),
            reference=self.dual.tilt.reshape(lattice),
        )

    def scan(self, index: Tensor, out_of_time: Callable[[], bool]) -> None:
        """Try many splits of the tiles at ``index``, then splits between the best one's neighbours by golden section,
        until ``out_of_time`` says so. Multipliers stay as they are."""
        if not index.numel():
            return
        part, width = self.tiles[index], math.pi / 2 / SCANNED_SPLITS

        def gain(angle: Tensor) -> Tensor:
            share = angle.sin().square()
            solution = part.solve(share)
            value = part.gain(solution)
            self._keep_better(index, share, solution, value)
            return value

        for k in range(SCANNED_SPLITS + 1):
            if out_of_time():
                return
            gain(torch.full_like(part.mean, k * width))
        low, high = ((_angle(self.best_share[index]) + side * width).clamp(0, math.pi / 2) for side in (-1, 1))
        golden = (5**0.5 - 1) / 2
        for _ in range(GOLDEN_STEPS):
            if out_of_time():
                return
            first, second = high - golden * (high - low), low + golden * (high - low)
            lower_half = gain(first) > gain(second)
            low, high = torch.where(lower_half, low, first), torch.where(lower_half, second, high)

    def _keep_better(self, index: Tensor, share: Tensor, solution: GroupSolution, gain: Tensor) -> None:
        """Take the solutions of the tiles at ``index`` that gain more than the best so far."""
        better = gain > self.best_gain[index]
        at = index[better]
        self.best[at], self.best_gain[at], self.best_share[at] = solution.delta[better], gain[better], share[better]


def _angle(share: Tensor) -> Tensor:
    """The angle in [0, pi/2] whose squared sine is ``share``: brackets are halved on it."""
    return torch.atan2(share.sqrt(), (1 - share).clamp_min(0).sqrt())


def _worth(contrast: Loss, luminance: Loss, share: Tensor, threshold: float) -> Tensor:
    """``F(A) + G(B)`` at a split."""
    a, b = levels(share, threshold)
    return contrast.value(a) + luminance.value(b)


def _slope(contrast: Loss, luminance: Loss, share: Tensor, threshold: float) -> Tensor:
    """The derivative of ``F(A) + G(B)`` with the split, up to a positive factor that all multipliers share."""
    a, b = levels(share, threshold)
    return contrast.rate(a) * (1 + a) * b.sqrt() - luminance.rate(b) * (1 + b) * a.sqrt()
