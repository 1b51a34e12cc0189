"""Many small problems at once: one window each, with a ball, an interval on the mean and pixel bounds.

For each group (a window that shares no pixel with others) with weights w that sum to 1::

    linear:      max sum_i w_i q_i d_i         (q = g/w)
    projection:  min sum_i (d_i - q_i)^2 / 2

    subject to   V(d - c) <= r^2,   mean_lower <= m(d) <= mean_upper,   lower <= d <= upper,

with m and V the weighted mean and variance; V ignores the mean of c, so c is centred throughout. For a multiplier
``theta = 1/tau`` of the ball (on V/2) and s of the mean, stationarity reads

    linear:      d = clip(c + tau q + sigma)
    projection:  d = clip((tau q + w c + w sigma)/(tau + w)),        sigma = m(d) - tau s.

For fixed tau, sigma is the root of a monotone, piecewise linear function; the mean lies at its upper end where
s >= 0 there, at its lower end where s <= 0 there, and otherwise where s = 0. The standard deviation of d - c grows
with tau, so the outer search is a bracketed root search too; its feasible end is returned.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

# Relative rounding of a deviation: a vertex of the box may lie on the ball's surface exactly.
ROUNDING = 1e-13


@dataclass(frozen=True)
class Groups:
    """The data, float64: (G, N) per pixel and (G,) per group. Pixels with weight 0 pad a group; there
    lower = upper = 0."""

    target: Tensor
    weights: Tensor
    center: Tensor
    radius: Tensor
    mean_lower: Tensor
    mean_upper: Tensor
    lower: Tensor
    upper: Tensor

    def __getitem__(self, index: Tensor) -> Groups:
        return Groups(*(getattr(self, entry.name)[index] for entry in fields(self)))

    def mean(self, values: Tensor) -> Tensor:
        return (self.weights * values).sum(dim=1)

    def centred(self, values: Tensor) -> Tensor:
        return values - self.mean(values)[:, None]

    def deviation(self, delta: Tensor) -> Tensor:
        """``sqrt(V(d - c))``, (G,)."""
        return self.mean(self.centred(delta - self.center).square()).sqrt()

    def inside(self, delta: Tensor) -> Tensor:
        """Whether d keeps the pixel bounds, (G,)."""
        return ((delta >= self.lower) & (delta <= self.upper)).all(dim=1)


@dataclass(frozen=True)
class GroupSolution:
    """d (G, N), and the multipliers (G,) of :class:`~solvers.WindowDual`: ``ball = theta`` and ``mean = s``."""

    delta: Tensor
    ball: Tensor
    mean: Tensor

    def put(self, index: Tensor, other: GroupSolution) -> None:
        """Overwrite the groups at ``index``."""
        self.delta[index], self.ball[index], self.mean[index] = other.delta, other.ball, other.mean


def solve_groups(groups: Groups, *, linear: bool) -> GroupSolution:
    """Solve every group to about machine precision. ``groups.center`` need not be centred."""
    groups = Groups(
        groups.target,
        groups.weights,
        groups.centred(groups.center),
        groups.radius,
        # The pixel bounds may leave the mean less room than its interval.
        torch.maximum(groups.mean_lower, groups.mean(groups.lower)),
        torch.minimum(groups.mean_upper, groups.mean(groups.upper)),
        groups.lower,
        groups.upper,
    )
    solution = _without_box(groups) if linear else _without_ball(groups, linear=False)
    settled = groups.inside(solution.delta) if linear else groups.deviation(solution.delta) <= groups.radius
    rest = (~settled).nonzero()[:, 0]
    if rest.numel() and linear:
        part = groups[rest]
        candidate = _without_ball(part, linear=True)
        solution.put(rest, candidate)
        rest = rest[part.deviation(candidate.delta) > part.radius * (1 + ROUNDING)]
    if rest.numel():
        solution.put(rest, _search(groups[rest], linear=linear))
    return solution


def _without_box(groups: Groups) -> GroupSolution:
    """The linear problem as if there were no pixel bounds: closed form."""
    slope = groups.mean(groups.target)
    centred = groups.target - slope[:, None]
    size = groups.mean(centred.square()).sqrt()
    # A gradient that is constant up to rounding has no direction; then d = const is a maximiser.
    flat = size <= 1e-14 * groups.target.abs().amax(dim=1)
    radius = torch.where(flat, 0.0, groups.radius)
    direction = centred / torch.where(flat, 1.0, size)[:, None]
    level = torch.where(slope > 0, groups.mean_upper, groups.mean_lower)
    level = torch.where(slope == 0, torch.zeros_like(level), level)
    center = torch.where(flat[:, None], 0.0, groups.center)
    delta = center + radius[:, None] * direction + level[:, None]
    pad = groups.weights == 0
    ball = torch.where(flat, 0.0, size / groups.radius.clamp_min(torch.finfo(size.dtype).tiny))
    return GroupSolution(delta.masked_fill(pad, 0), ball, slope)


def _without_ball(groups: Groups, *, linear: bool) -> GroupSolution:
    """The problem as if there were no ball: a fractional knapsack, or a projection on box and slab."""
    if not linear:
        # d = clip(q - s w): s is the slack multiplier of the mean.
        pull, target = groups.weights, groups.target
        delta = target.clamp(groups.lower, groups.upper)
        mean = groups.mean(delta)
        level = torch.minimum(torch.maximum(mean, groups.mean_lower), groups.mean_upper)
        moved = (mean != level).nonzero()[:, 0]
        shift = torch.zeros_like(mean)
        if moved.numel():
            part = groups[moved]
            shift[moved] = _shift(part, target[moved], pull[moved], level[moved])
            delta = (target + pull * shift[:, None]).clamp(groups.lower, groups.upper)
        return GroupSolution(delta, torch.zeros_like(shift), -shift)
    upper_mean = groups.mean(torch.where(groups.target > 0, groups.upper, groups.lower))
    free_mean = groups.mean(torch.where(groups.target >= 0, groups.upper, groups.lower))
    # With s = 0 the pixels of zero gradient may take any value: every mean between the two is optimal.
    level = torch.where(
        groups.mean_upper < upper_mean,
        groups.mean_upper,
        torch.where(groups.mean_lower > free_mean, groups.mean_lower, upper_mean.clamp_min(0)),
    )
    level = torch.minimum(torch.maximum(level, groups.mean_lower), groups.mean_upper)
    order = groups.target.argsort(dim=1, descending=True, stable=True)
    room = (groups.weights * (groups.upper - groups.lower)).gather(1, order)
    filled = room.cumsum(dim=1)
    missing = level - groups.mean(groups.lower)
    share = ((missing[:, None] - (filled - room)) / room.clamp_min(torch.finfo(room.dtype).tiny)).clamp(0, 1)
    share = torch.where(room > 0, share, 0.0)
    delta = torch.empty_like(groups.target).scatter_(1, order, share)
    delta = groups.lower + delta * (groups.upper - groups.lower)
    # The multiplier of the mean: the target of the pixel where the filling stops.
    last = (filled < missing[:, None]).sum(dim=1).clamp_max(filled.shape[1] - 1)
    slope = groups.target.gather(1, order).gather(1, last[:, None])[:, 0]
    unbound = (upper_mean <= groups.mean_upper) & (free_mean >= groups.mean_lower)
    slope = torch.where(unbound, 0.0, slope)
    return GroupSolution(delta, torch.zeros_like(slope), slope)


def _search(groups: Groups, *, linear: bool, steps: int = 200) -> GroupSolution:
    """Ball active: the root in tau of ``deviation(d(tau)) = r`` by the Illinois method on a shrinking set."""
    size = groups.mean(groups.centred(groups.target).square()).sqrt()
    tau = groups.radius / size.clamp_min(torch.finfo(size.dtype).tiny)
    low, high = torch.zeros_like(tau), torch.full_like(tau, torch.inf)
    low_value, high_value = -groups.radius, torch.full_like(tau, torch.inf)
    best = GroupSolution(torch.zeros_like(groups.target), torch.ones_like(tau), torch.zeros_like(tau))
    side = torch.zeros_like(tau)
    active = torch.arange(tau.numel(), device=tau.device)
    for _ in range(steps):
        part, trial = groups[active], tau[active]
        solution = _at(part, trial, linear=linear)
        value = part.deviation(solution.delta) - part.radius
        below = value <= ROUNDING * part.radius
        inside, outside = active[below], active[~below]
        best.put(inside, GroupSolution(solution.delta[below], solution.ball[below], solution.mean[below]))
        # Illinois: an end that stays twice running counts half.
        high_value[inside] = torch.where(side[inside] < 0, high_value[inside] / 2, high_value[inside])
        low_value[outside] = torch.where(side[outside] > 0, low_value[outside] / 2, low_value[outside])
        low[inside], low_value[inside], side[inside] = trial[below], value[below], -1.0
        high[outside], high_value[outside], side[outside] = trial[~below], value[~below], 1.0
        done = below & (value >= -ROUNDING * part.radius)
        done |= (high[active] - low[active]) <= 1e-15 * low[active]
        active = active[~done]
        if not active.numel():
            break
        a, b, fa, fb = low[active], high[active], low_value[active], high_value[active]
        secant = (a * fb - b * fa) / (fb - fa)
        middle = torch.where(secant.isfinite() & (secant > a) & (secant < b), secant, (a + b) / 2)
        tau[active] = torch.where(b.isinf(), 4 * trial[~done], middle)
    return best


def _at(groups: Groups, tau: Tensor, *, linear: bool) -> GroupSolution:
    """d and multipliers for a given tau, (G,)."""
    column = tau[:, None]
    if linear:
        base, pull = groups.center + column * groups.target, torch.ones_like(groups.target)
    else:
        total = column + groups.weights
        base = (column * groups.target + groups.weights * groups.center) / total
        pull = groups.weights / total
    at_upper = _shift(groups, base, pull, groups.mean_upper)
    sigma, level = at_upper.clone(), groups.mean_upper.clone()
    rest = (at_upper > level).nonzero()[:, 0]  # s < 0 at the upper end
    if rest.numel():
        part = groups[rest]
        at_lower = _shift(part, base[rest], pull[rest], part.mean_lower)
        sigma[rest], level[rest] = at_lower, part.mean_lower
        between = at_lower < part.mean_lower  # s > 0 at the lower end
        rest = rest[between]
        if rest.numel():
            root = _fixed_point(groups[rest], base[rest], pull[rest], at_lower[between], at_upper[rest])
            sigma[rest], level[rest] = root, root
    delta = (base + pull * sigma[:, None]).clamp(groups.lower, groups.upper)
    return GroupSolution(delta, 1 / tau, (level - sigma) / tau)


def _shift(groups: Groups, base: Tensor, pull: Tensor, level: Tensor) -> Tensor:
    """sigma with ``m(clip(base + pull sigma)) = level``: the function is monotone and piecewise linear."""
    # Values at which every pixel is at its lower, and at its upper, bound.
    used = pull > 0
    safe = torch.where(used, pull, 1.0)
    low = torch.where(used, (groups.lower - base) / safe, torch.inf).amin(dim=1)
    high = torch.where(used, (groups.upper - base) / safe, -torch.inf).amax(dim=1)
    start = (level - groups.mean(base)) / groups.mean(pull)
    return _bracketed_newton(groups, base, pull, level, low, high, start)


def _fixed_point(groups: Groups, base: Tensor, pull: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """sigma with ``m(clip(base + pull sigma)) = sigma``, between two known ends; the difference falls with sigma."""
    return _bracketed_newton(groups, base, pull, None, low, high, (low + high) / 2)


def _bracketed_newton(
    groups: Groups,
    base: Tensor,
    pull: Tensor,
    level: Tensor | None,
    low: Tensor,
    high: Tensor,
    start: Tensor,
    steps: int = 100,
) -> Tensor:
    """Root of ``m(clip(base + pull sigma)) - level`` (rising), or ``- sigma`` (falling) where level is None."""
    low, high = low.clone(), high.clone()
    sigma = torch.minimum(torch.maximum(start, low), high)
    tolerance = 1e-15 * torch.maximum(groups.lower.abs(), groups.upper.abs()).amax(dim=1)
    active = torch.arange(sigma.numel(), device=sigma.device)
    for _ in range(steps):
        part, at, rate = groups[active], sigma[active], pull[active]
        delta = base[active] + rate * at[:, None]
        free = (delta > part.lower) & (delta < part.upper)
        slope = part.mean(rate * free)
        value = part.mean(delta.clamp(part.lower, part.upper)) - (at if level is None else level[active])
        if level is None:
            value, slope = -value, 1 - slope
        low[active] = torch.where(value < 0, at, low[active])
        high[active] = torch.where(value > 0, at, high[active])
        a, b = low[active], high[active]
        newton = at - value / slope.clamp_min(torch.finfo(slope.dtype).tiny)
        step = torch.where((newton > a) & (newton < b), newton, (a + b) / 2)
        done = (value.abs() <= tolerance[active]) | (b - a <= 1e-16 * (a.abs() + b.abs()))
        sigma[active] = torch.where(done, at, step)
        active = active[~done]
        if not active.numel():
            break
    return sigma
