"""Solve many small problems at once: one window each, with a ball, an interval on the mean and pixel bounds.

A group is a window that shares no pixel with another window. For each group, with weights w that sum to 1::

    linear:      max sum_i w_i q_i d_i         (q = g/w)
    projection:  min sum_i (d_i - q_i)^2 / 2

    subject to   V(d - c) <= r^2,   mean_lower <= m(d) <= mean_upper,   lower <= d <= upper,

with m and V the weighted mean and variance. V ignores the mean of c, so c is centred throughout. With a multiplier
``theta = 1/tau`` of the ball (on V/2) and a multiplier s of the mean, stationarity reads

    linear:      d = clip(c + tau q + sigma)
    projection:  d = clip((tau q + w c + w sigma)/(tau + w)),        sigma = m(d) - tau s.

For fixed tau, sigma is the root of a monotone, piecewise linear function. The mean lies at the upper end of its
interval if s >= 0 there, at the lower end if s <= 0 there, and otherwise where s = 0. The standard deviation of d - c
grows with tau. So the outer search, for the tau at which the ball is met, is a bracketed root search too. The feasible
end of its bracket is returned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from solvers import clock
from solvers.batch_algebra import take

# The relative rounding of a deviation: a vertex of the box may lie exactly on the ball's surface.
DEVIATION_ROUNDING = 1e-13
# Groups that are solved together under a deadline: between two such parts the clock is asked.
GROUPS_PER_PART = 2048


@dataclass(frozen=True)
class Groups:
    """The data of G groups with N pixels each, float64. Pixels of weight 0 pad a group; there lower = upper = 0.

    Attributes:
        target: q, (G, N).
        weights: w, (G, N), with sum 1 in each group.
        center: c, the ball's centre, (G, N).
        radius: r, (G,).
        mean_lower, mean_upper: the interval of the mean, (G,) each.
        lower, upper: the pixel bounds, (G, N) each.
    """

    target: Tensor
    weights: Tensor
    center: Tensor
    radius: Tensor
    mean_lower: Tensor
    mean_upper: Tensor
    lower: Tensor
    upper: Tensor

    def __getitem__(self, index: Tensor) -> Groups:
        return take(self, index)

    def mean(self, values: Tensor) -> Tensor:
        """The weighted mean of each group, (G, N) -> (G,)."""
        return (self.weights * values).sum(dim=1)

    def centred(self, values: Tensor) -> Tensor:
        """``values`` less the weighted mean of each group, (G, N)."""
        return values - self.mean(values)[:, None]

    def deviation(self, delta: Tensor) -> Tensor:
        """``sqrt(V(d - c))``, (G,)."""
        return self.mean(self.centred(delta - self.center).square()).sqrt()

    def inside(self, delta: Tensor) -> Tensor:
        """Whether d lies within the pixel bounds, (G,) bool."""
        return ((delta >= self.lower) & (delta <= self.upper)).all(dim=1)


@dataclass(frozen=True)
class GroupSolution:
    """The solutions of G groups.

    Attributes:
        delta: d, (G, N).
        ball: theta, the multiplier of the ball, (G,); the ``ball`` of :class:`~solvers.WindowDual`.
        mean: s, the multiplier of the mean, (G,); the ``mean`` of :class:`~solvers.WindowDual`.
        complete: whether there was time for all groups.
    """

    delta: Tensor
    ball: Tensor
    mean: Tensor
    complete: bool = True

    def put(self, index: Tensor, other: GroupSolution) -> None:
        """Overwrite the groups at ``index`` by those of ``other``."""
        self.delta[index], self.ball[index], self.mean[index] = other.delta, other.ball, other.mean


def solve_groups(groups: Groups, *, linear: bool) -> GroupSolution:
    """Solve every group to about machine precision.

    Under a deadline (:mod:`solvers.clock`) the groups are solved part by part. Groups for which no time is left get
    d = 0 and no multipliers, which is a feasible point with a valid dual.

    Args:
        groups: the problems. ``groups.center`` need not be centred; pixel bounds may be infinite. d = 0 must be
            feasible.
        linear: whether the problems are linear; else they are projections.
    """
    count = len(groups.radius)
    if count <= GROUPS_PER_PART or clock.current_deadline() == math.inf:
        return _solve_all(groups, linear=linear)
    unset = torch.zeros_like(groups.radius)
    solution, pace = GroupSolution(torch.zeros_like(groups.target), unset, unset.clone()), clock.Pace()
    for part in torch.arange(count, device=unset.device).split(GROUPS_PER_PART):
        if not pace.allows_another_step():
            return replace(solution, complete=False)
        solution.put(part, _solve_all(groups[part], linear=linear))
    return solution


def _solve_all(groups: Groups, *, linear: bool) -> GroupSolution:
    """:func:`solve_groups` without a look at the clock."""
    groups = _bounded(replace(groups, center=groups.centred(groups.center)))
    solution = _without_box(groups) if linear else _nearest_without_ball(groups)
    is_solved = groups.inside(solution.delta) if linear else groups.deviation(solution.delta) <= groups.radius
    unsolved = (~is_solved).nonzero()[:, 0]
    if unsolved.numel() and linear:
        part = groups[unsolved]
        candidate = best_without_ball(part)
        solution.put(unsolved, candidate)
        unsolved = unsolved[part.deviation(candidate.delta) > part.radius * (1 + DEVIATION_ROUNDING)]
    if unsolved.numel():
        # Linear targets are counted from the multiplier without the ball, so that close targets keep their digits.
        origin = solution.mean[unsolved] if linear else torch.zeros_like(groups.radius[unsolved])
        solution.put(unsolved, _search(groups[unsolved], origin, linear=linear))
    return solution


def _bounded(groups: Groups) -> Groups:
    """The groups with finite bounds on every pixel, which the ball and the interval imply."""
    largest_mean = torch.maximum(groups.mean_lower.abs(), groups.mean_upper.abs())
    ball_reach = groups.radius[:, None] / groups.weights.clamp_min(torch.finfo(groups.weights.dtype).tiny).sqrt()
    # The bounds are wider than implied, so that none is ever active: an implied bound has no multiplier.
    reach = 2 * (groups.center.abs() + ball_reach + largest_mean[:, None]) + 1
    lower = torch.where(groups.lower.isinf(), -reach, groups.lower)
    upper = torch.where(groups.upper.isinf(), reach, groups.upper)
    return replace(groups, lower=lower, upper=upper)


def _without_box(groups: Groups) -> GroupSolution:
    """The linear problem as if there were no pixel bounds: closed form."""
    slope = groups.mean(groups.target)
    # Centred a second time, because the first time leaves rounding where the target is almost constant.
    centred = groups.centred(groups.target - slope[:, None])
    size = groups.mean(centred.square()).sqrt()
    # A target that is constant up to rounding has no direction. There a constant d is a maximiser.
    is_flat = size <= 1e-14 * groups.target.abs().amax(dim=1)
    radius = torch.where(is_flat, 0.0, groups.radius)
    direction = centred / torch.where(is_flat, 1.0, size)[:, None]
    mean = torch.where(slope > 0, groups.mean_upper, groups.mean_lower)
    mean = torch.where(slope == 0, torch.zeros_like(mean), mean)
    center = torch.where(is_flat[:, None], 0.0, groups.center)
    delta = center + radius[:, None] * direction + mean[:, None]
    is_padding = groups.weights == 0
    ball = torch.where(is_flat, 0.0, size / groups.radius.clamp_min(torch.finfo(size.dtype).tiny))
    return GroupSolution(delta.masked_fill(is_padding, 0), ball, slope)


def _nearest_without_ball(groups: Groups) -> GroupSolution:
    """The projection as if there were no ball: ``d = clip(q - s w)`` with s the multiplier of the mean."""
    delta = groups.target.clamp(groups.lower, groups.upper)
    mean = groups.mean(delta)
    nearest_mean = torch.minimum(torch.maximum(mean, groups.mean_lower), groups.mean_upper)
    outside = (mean != nearest_mean).nonzero()[:, 0]
    sigma = torch.zeros_like(mean)
    if outside.numel():
        part = groups[outside]
        sigma[outside] = _sigma_with_mean(_ClippedLine(part, part.target, part.weights), nearest_mean[outside])
        delta = (groups.target + groups.weights * sigma[:, None]).clamp(groups.lower, groups.upper)
    return GroupSolution(delta, torch.zeros_like(sigma), -sigma)


def best_without_ball(groups: Groups) -> GroupSolution:
    """The linear problem as if there were no ball: a fractional knapsack.

    Pixels with equal targets leave a choice of solutions. The solution nearest to the ball's centre is returned, so
    that the ball is active only where it must be.
    """
    target = groups.target
    # With s = 0 the pixels of target 0 may take any value, so every mean between these two is optimal.
    smallest_mean = groups.mean(torch.where(target > 0, groups.upper, groups.lower))
    largest_mean = groups.mean(torch.where(target >= 0, groups.upper, groups.lower))
    above, below = smallest_mean > groups.mean_upper, largest_mean < groups.mean_lower
    active_end = torch.where(above, groups.mean_upper, groups.mean_lower)
    # Otherwise fill the pixels from the largest target on. The mean reaches its end at a pixel whose target is s.
    order = target.argsort(dim=1, descending=True, stable=True)
    filled = (groups.weights * (groups.upper - groups.lower)).gather(1, order).cumsum(dim=1)
    missing = active_end - groups.mean(groups.lower)
    last = (filled < missing[:, None]).sum(dim=1).clamp_max(filled.shape[1] - 1)
    slope = target.gather(1, order).gather(1, last[:, None])[:, 0]
    slope = torch.where(above | below, slope, 0.0)
    reduced_target = target - slope[:, None]
    lower = torch.where(reduced_target > 0, groups.upper, groups.lower)
    upper = torch.where(reduced_target < 0, groups.lower, groups.upper)
    smallest_mean, largest_mean = groups.mean(lower), groups.mean(upper)
    mean_lower = torch.where(above, active_end, groups.mean_lower)
    mean_upper = torch.where(below, active_end, groups.mean_upper)
    face = replace(
        groups,
        target=torch.zeros_like(target),
        lower=lower,
        upper=upper,
        mean_lower=torch.minimum(torch.maximum(mean_lower, smallest_mean), largest_mean),
        mean_upper=torch.minimum(torch.maximum(mean_upper, smallest_mean), largest_mean),
    )
    delta = _solve_at(face, torch.ones_like(slope), torch.zeros_like(slope), linear=True)[0].delta
    return GroupSolution(delta, torch.zeros_like(slope), slope)


def _search(groups: Groups, origin: Tensor, *, linear: bool, steps: int = 200) -> GroupSolution:
    """The groups whose ball is active: the root in tau of ``deviation(d(tau)) = r`` by the Illinois method.

    Groups that are solved leave the search, and every evaluation gives a solution to keep. Therefore this search does
    not use :func:`solvers.root_finding.last_nonnegative`.
    """
    root_mean_square = groups.mean(groups.target.square()).sqrt()
    # Where the target hardly varies, its mean sets the scale of tau.
    size = torch.maximum(groups.mean(groups.centred(groups.target).square()).sqrt(), 1e-6 * root_mean_square)
    tau = groups.radius / size.clamp_min(torch.finfo(size.dtype).tiny)
    low, high = torch.zeros_like(tau), torch.full_like(tau, torch.inf)
    low_value, high_value = -groups.radius, torch.full_like(tau, torch.inf)
    best = GroupSolution(torch.zeros_like(groups.target), torch.ones_like(tau), torch.zeros_like(tau))
    last_moved_end, sigma = torch.zeros_like(tau), torch.full_like(tau, torch.nan)
    active = torch.arange(tau.numel(), device=tau.device)
    for _ in range(steps):
        part, trial = groups[active], tau[active]
        solution, sigma[active] = _solve_at(part, trial, origin[active], linear=linear, guess=sigma[active])
        value = part.deviation(solution.delta) - part.radius
        below = value <= DEVIATION_ROUNDING * part.radius
        inside, outside = active[below], active[~below]
        best.put(inside, GroupSolution(solution.delta[below], solution.ball[below], solution.mean[below]))
        # Illinois: the value at an end that stays for two steps in a row is halved.
        high_value[inside] = torch.where(last_moved_end[inside] < 0, high_value[inside] / 2, high_value[inside])
        low_value[outside] = torch.where(last_moved_end[outside] > 0, low_value[outside] / 2, low_value[outside])
        low[inside], low_value[inside], last_moved_end[inside] = trial[below], value[below], -1.0
        high[outside], high_value[outside], last_moved_end[outside] = trial[~below], value[~below], 1.0
        done = below & (value >= -DEVIATION_ROUNDING * part.radius)
        done |= (high[active] - low[active]) <= 1e-15 * low[active]
        active = active[~done]
        if not active.numel():
            break
        a, b, fa, fb = low[active], high[active], low_value[active], high_value[active]
        secant = (a * fb - b * fa) / (fb - fa)
        middle = torch.where(secant.isfinite() & (secant > a) & (secant < b), secant, (a + b) / 2)
        tau[active] = torch.where(b.isinf(), 4 * trial[~done], middle)
    return best


@dataclass(frozen=True)
class _ClippedLine:
    """The pixels of groups, (G, N), as functions of one number sigma a group: ``clip(base + rate sigma)``."""

    groups: Groups
    base: Tensor
    rate: Tensor

    def __getitem__(self, index: Tensor) -> _ClippedLine:
        return take(self, index)

    def at(self, sigma: Tensor) -> Tensor:
        """The pixels, (G, N), for sigma (G,)."""
        return (self.base + self.rate * sigma[:, None]).clamp(self.groups.lower, self.groups.upper)

    def mean_at(self, sigma: Tensor) -> Tensor:
        """The means of the pixels, (G,), for sigma (G,)."""
        return self.groups.mean(self.at(sigma))


@dataclass(frozen=True)
class _Bracket:
    """Two ends between which a root lies, and where its search starts, (G,) each."""

    low: Tensor
    high: Tensor
    start: Tensor


def _solve_at(
    groups: Groups, tau: Tensor, origin: Tensor, *, linear: bool, guess: Tensor | None = None
) -> tuple[GroupSolution, Tensor]:
    """The solution and sigma, (G,), for a given tau.

    Args:
        groups: the problems.
        tau: (G,), positive.
        origin: the number from which the target and s are counted, (G,).
        linear: whether the problems are linear; else they are projections.
        guess: sigma at a nearby tau, (G,), NaN where there is none; ``None`` for none at all.
    """
    column = tau[:, None]
    offset = tau * origin
    if linear:
        base = groups.center + column * (groups.target - origin[:, None])
        rate = torch.ones_like(groups.target)
    else:
        total = column + groups.weights
        base = (column * groups.target + groups.weights * groups.center) / total
        rate = groups.weights / total
    line = _ClippedLine(groups, base, rate)
    # The mean rises with sigma, so the mean where s = 0 tells on which side of an end s lies. An end of the interval
    # that the pixel bounds keep out of reach is never active.
    upper_end, lower_end = groups.mean_upper + offset, groups.mean_lower + offset
    at_upper = line.mean_at(upper_end) >= groups.mean_upper
    at_lower = ~at_upper & (line.mean_at(lower_end) <= groups.mean_lower)
    mean = torch.where(at_upper, groups.mean_upper, groups.mean_lower)
    sigma = torch.zeros_like(mean)
    at_end = (at_upper | at_lower).nonzero()[:, 0]
    if at_end.numel():
        sigma[at_end] = _sigma_with_mean(line[at_end], mean[at_end], None if guess is None else guess[at_end])
    between = (~at_upper & ~at_lower).nonzero()[:, 0]
    if between.numel():
        # s = 0: the mean is ``sigma - offset``.
        low, high = lower_end[between], upper_end[between]
        start = (low + high) / 2 if guess is None else guess[between].nan_to_num(0.0)
        root = _bracketed_newton(line[between], offset[between], _Bracket(low, high, start), falling=True)
        sigma[between], mean[between] = root, root - offset[between]
    return GroupSolution(line.at(sigma), 1 / tau, origin + (mean - sigma) / tau), sigma


def _sigma_with_mean(line: _ClippedLine, level: Tensor, guess: Tensor | None = None) -> Tensor:
    """sigma with ``m(clip(base + rate sigma)) = level``, (G,). The mean rises with sigma, piecewise linearly."""
    groups, base, rate = line.groups, line.base, line.rate
    # Values at which every pixel is at its lower bound, and at which every pixel is at its upper bound.
    varies = rate > 0
    safe_rate = torch.where(varies, rate, 1.0)
    low = torch.where(varies, (groups.lower - base) / safe_rate, torch.inf).amin(dim=1)
    high = torch.where(varies, (groups.upper - base) / safe_rate, -torch.inf).amax(dim=1)
    start = (level - groups.mean(base)) / groups.mean(rate)
    if guess is not None:
        start = torch.where(guess.isfinite(), guess, start)
    return _bracketed_newton(line, level, _Bracket(low, high, start), falling=False)


def _bracketed_newton(
    line: _ClippedLine, goal: Tensor, bracket: _Bracket, *, falling: bool, steps: int = 100
) -> Tensor:
    """The root sigma, (G,), of a monotone, piecewise linear function, by Newton's method inside a shrinking bracket.

    Args:
        line: the groups' pixels as functions of sigma; ``m(sigma)`` is the mean of ``clip(base + rate sigma)``.
        goal: (G,). Rising: the root of ``m(sigma) - goal``. Falling: that of ``m(sigma) - (sigma - goal)``.
        bracket: where the root lies, and where to start.
        falling: which of the two functions.
        steps: the largest number of steps.
    """
    groups = line.groups
    tolerance = 1e-15 * groups.mean(torch.maximum(groups.lower.abs(), groups.upper.abs()))
    result = torch.minimum(torch.maximum(bracket.start, bracket.low), bracket.high)
    # The groups that are still searched: their indices, their data for each pixel, and their data for each group.
    active = torch.arange(result.numel(), device=result.device)
    pixels: tuple[Tensor, ...] = (
        groups.weights, groups.weights * line.rate, groups.lower, groups.upper, line.base, line.rate,
    )  # fmt: skip
    values: tuple[Tensor, ...] = (goal, tolerance, result, bracket.low, bracket.high)
    for _ in range(steps):
        weights, weighted_rate, lower, upper, base, rate = pixels
        aim, small, sigma, low, high = values
        delta = torch.addcmul(base, rate, sigma[:, None])
        clipped = torch.minimum(torch.maximum(delta, lower), upper)
        is_free = (delta > lower) & (delta < upper)
        slope = (weighted_rate * is_free).sum(dim=1)
        value = (weights * clipped).sum(dim=1)
        if falling:
            value, slope = sigma - aim - value, 1 - slope
        else:
            value = value - aim
        low, high = torch.where(value < 0, sigma, low), torch.where(value > 0, sigma, high)
        newton = sigma - value / slope.clamp_min(torch.finfo(slope.dtype).tiny)
        step = torch.where((newton > low) & (newton < high), newton, (low + high) / 2)
        done = (value.abs() <= small) | (high - low <= 1e-16 * (low.abs() + high.abs()))
        step = torch.where(done, sigma, step)
        result[active] = step
        values = (aim, small, step, low, high)
        open_groups = (~done).nonzero()[:, 0]
        if not open_groups.numel():
            break
        # Copying the pixels costs about as much as a step, so only where that halves the work.
        if 2 * open_groups.numel() <= done.numel():
            active, pixels = active[open_groups], tuple(value[open_groups] for value in pixels)
            values = tuple(value[open_groups] for value in values)
    return result
