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

from dataclasses import dataclass, fields, replace

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
    """Solve every group to about machine precision. ``groups.center`` need not be centred; pixel bounds may be
    infinite."""
    groups = _bounded(replace(groups, center=groups.centred(groups.center)))
    solution = _without_box(groups) if linear else _nearest_without_ball(groups)
    settled = groups.inside(solution.delta) if linear else groups.deviation(solution.delta) <= groups.radius
    rest = (~settled).nonzero()[:, 0]
    if rest.numel() and linear:
        part = groups[rest]
        candidate = best_without_ball(part)
        solution.put(rest, candidate)
        rest = rest[part.deviation(candidate.delta) > part.radius * (1 + ROUNDING)]
    if rest.numel():
        # A linear target counts from the multiplier without the ball: close targets keep their digits.
        origin = solution.mean[rest] if linear else torch.zeros_like(groups.radius[rest])
        solution.put(rest, _search(groups[rest], origin, linear=linear))
    return solution


def _bounded(groups: Groups) -> Groups:
    """Finite bounds on every pixel: ball and interval imply some."""
    middle = torch.maximum(groups.mean_lower.abs(), groups.mean_upper.abs())
    ball = groups.radius[:, None] / groups.weights.clamp_min(torch.finfo(groups.weights.dtype).tiny).sqrt()
    # Slack, so that no implied bound is ever active: it has no multiplier.
    reach = 2 * (groups.center.abs() + ball + middle[:, None]) + 1
    lower = torch.where(groups.lower.isinf(), -reach, groups.lower)
    upper = torch.where(groups.upper.isinf(), reach, groups.upper)
    return replace(groups, lower=lower, upper=upper)


def _without_box(groups: Groups) -> GroupSolution:
    """The linear problem as if there were no pixel bounds: closed form."""
    slope = groups.mean(groups.target)
    centred = groups.centred(groups.target - slope[:, None])  # twice, where the target is almost constant
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


def _nearest_without_ball(groups: Groups) -> GroupSolution:
    """The projection as if there were no ball: d = clip(q - s w) with s the slack multiplier of the mean."""
    delta = groups.target.clamp(groups.lower, groups.upper)
    mean = groups.mean(delta)
    level = torch.minimum(torch.maximum(mean, groups.mean_lower), groups.mean_upper)
    moved = (mean != level).nonzero()[:, 0]
    shift = torch.zeros_like(mean)
    if moved.numel():
        part = groups[moved]
        shift[moved] = _shift(part, part.target, part.weights, level[moved])
        delta = (groups.target + groups.weights * shift[:, None]).clamp(groups.lower, groups.upper)
    return GroupSolution(delta, torch.zeros_like(shift), -shift)


def best_without_ball(groups: Groups) -> GroupSolution:
    """The linear problem as if there were no ball: a fractional knapsack. Of its solutions (pixels whose targets
    tie leave a choice) the one nearest to the ball's centre, so that the ball is active only where it must be."""
    target = groups.target
    # With s = 0 the pixels of zero gradient may take any value: every mean between the two is optimal.
    least = groups.mean(torch.where(target > 0, groups.upper, groups.lower))
    most = groups.mean(torch.where(target >= 0, groups.upper, groups.lower))
    above, below = least > groups.mean_upper, most < groups.mean_lower
    level = torch.where(above, groups.mean_upper, groups.mean_lower)
    # Otherwise s is the target of the pixel at which filling from the largest target on reaches the mean's end.
    order = target.argsort(dim=1, descending=True, stable=True)
    filled = (groups.weights * (groups.upper - groups.lower)).gather(1, order).cumsum(dim=1)
    missing = level - groups.mean(groups.lower)
    last = (filled < missing[:, None]).sum(dim=1).clamp_max(filled.shape[1] - 1)
    slope = target.gather(1, order).gather(1, last[:, None])[:, 0]
    slope = torch.where(above | below, slope, 0.0)
    ahead = target - slope[:, None]
    lower = torch.where(ahead > 0, groups.upper, groups.lower)
    upper = torch.where(ahead < 0, groups.lower, groups.upper)
    least, most = groups.mean(lower), groups.mean(upper)
    face = replace(
        groups,
        target=torch.zeros_like(target),
        lower=lower,
        upper=upper,
        mean_lower=torch.minimum(torch.maximum(torch.where(above, level, groups.mean_lower), least), most),
        mean_upper=torch.minimum(torch.maximum(torch.where(below, level, groups.mean_upper), least), most),
    )
    delta = _at(face, torch.ones_like(slope), torch.zeros_like(slope), linear=True)[0].delta
    return GroupSolution(delta, torch.zeros_like(slope), slope)


def _search(groups: Groups, origin: Tensor, *, linear: bool, steps: int = 200) -> GroupSolution:
    """Ball active: the root in tau of ``deviation(d(tau)) = r`` by the Illinois method on a shrinking set."""
    whole = groups.mean(groups.target.square()).sqrt()
    # Where the target hardly varies its mean sets the pace.
    size = torch.maximum(groups.mean(groups.centred(groups.target).square()).sqrt(), 1e-6 * whole)
    tau = groups.radius / size.clamp_min(torch.finfo(size.dtype).tiny)
    low, high = torch.zeros_like(tau), torch.full_like(tau, torch.inf)
    low_value, high_value = -groups.radius, torch.full_like(tau, torch.inf)
    best = GroupSolution(torch.zeros_like(groups.target), torch.ones_like(tau), torch.zeros_like(tau))
    side, sigma = torch.zeros_like(tau), torch.full_like(tau, torch.nan)
    active = torch.arange(tau.numel(), device=tau.device)
    for _ in range(steps):
        part, trial = groups[active], tau[active]
        solution, sigma[active] = _at(part, trial, origin[active], linear=linear, guess=sigma[active])
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


def _at(
    groups: Groups, tau: Tensor, origin: Tensor, *, linear: bool, guess: Tensor | None = None
) -> tuple[GroupSolution, Tensor]:
    """d and multipliers for a given tau, (G,), and sigma. The target and s count from ``origin``, (G,); ``guess``
    is sigma at a tau nearby, NaN for none."""
    column = tau[:, None]
    offset = tau * origin
    if linear:
        base = groups.center + column * (groups.target - origin[:, None])
        pull = torch.ones_like(groups.target)
    else:
        total = column + groups.weights
        base = (column * groups.target + groups.weights * groups.center) / total
        pull = groups.weights / total

    # m(clip(base + pull sigma)) rises with sigma, so its value where s = 0 tells on which side of an end s lies. An
    # end that the pixel bounds keep out of reach is never active: the mean stays below, or above, it.
    def mean_at(sigma: Tensor) -> Tensor:
        return groups.mean((base + pull * sigma[:, None]).clamp(groups.lower, groups.upper))

    upper_end, lower_end = groups.mean_upper + offset, groups.mean_lower + offset
    at_upper = mean_at(upper_end) >= groups.mean_upper
    at_lower = ~at_upper & (mean_at(lower_end) <= groups.mean_lower)
    level = torch.where(at_upper, groups.mean_upper, groups.mean_lower)
    sigma = torch.zeros_like(level)
    ends = (at_upper | at_lower).nonzero()[:, 0]
    if ends.numel():
        near = None if guess is None else guess[ends]
        sigma[ends] = _shift(groups[ends], base[ends], pull[ends], level[ends], near)
    between = (~at_upper & ~at_lower).nonzero()[:, 0]
    if between.numel():
        part, shift = groups[between], offset[between]
        low, high = lower_end[between], upper_end[between]
        start = (low + high) / 2 if guess is None else guess[between].nan_to_num(0.0)
        root = _fixed_point(part, base[between], pull[between], shift, low, high, start)
        sigma[between], level[between] = root, root - shift
    delta = (base + pull * sigma[:, None]).clamp(groups.lower, groups.upper)
    return GroupSolution(delta, 1 / tau, origin + (level - sigma) / tau), sigma


def _shift(groups: Groups, base: Tensor, pull: Tensor, level: Tensor, guess: Tensor | None = None) -> Tensor:
    """sigma with ``m(clip(base + pull sigma)) = level``: the function is monotone and piecewise linear."""
    # Values at which every pixel is at its lower, and at its upper, bound.
    used = pull > 0
    safe = torch.where(used, pull, 1.0)
    low = torch.where(used, (groups.lower - base) / safe, torch.inf).amin(dim=1)
    high = torch.where(used, (groups.upper - base) / safe, -torch.inf).amax(dim=1)
    start = (level - groups.mean(base)) / groups.mean(pull)
    if guess is not None:
        start = torch.where(guess.isfinite(), guess, start)
    return _bracketed_newton(groups, base, pull, level, low, high, start, torch.zeros_like(low))


def _fixed_point(
    groups: Groups, base: Tensor, pull: Tensor, offset: Tensor, low: Tensor, high: Tensor, start: Tensor
) -> Tensor:
    """sigma with ``m(clip(base + pull sigma)) = sigma - offset`` between two known ends; the difference falls."""
    return _bracketed_newton(groups, base, pull, None, low, high, start, offset)


def _bracketed_newton(
    groups: Groups,
    base: Tensor,
    pull: Tensor,
    level: Tensor | None,
    low: Tensor,
    high: Tensor,
    start: Tensor,
    offset: Tensor,
    steps: int = 100,
) -> Tensor:
    """Root of ``m(clip(base + pull sigma)) - level`` (rising), or, where level is None, of ``... - sigma + offset``
    (falling)."""
    tolerance = 1e-15 * groups.mean(torch.maximum(groups.lower.abs(), groups.upper.abs()))
    result = torch.minimum(torch.maximum(start, low), high)
    # What is still searched: the groups' numbers, what is known per pixel, and what is known per group.
    number = torch.arange(result.numel(), device=result.device)
    pixels: tuple[Tensor, ...] = (groups.weights, groups.weights * pull, groups.lower, groups.upper, base, pull)
    falling = level is None
    values: tuple[Tensor, ...] = (offset if level is None else level, tolerance, result, low, high)
    for _ in range(steps):
        weights, rates, lower, upper, start_at, rate = pixels
        aim, small, sigma, a, b = values
        delta = torch.addcmul(start_at, rate, sigma[:, None])
        clipped = torch.minimum(torch.maximum(delta, lower), upper)
        free = (delta > lower) & (delta < upper)
        slope = (rates * free).sum(dim=1)
        value = (weights * clipped).sum(dim=1)
        if falling:
            value, slope = sigma - aim - value, 1 - slope
        else:
            value = value - aim
        a, b = torch.where(value < 0, sigma, a), torch.where(value > 0, sigma, b)
        newton = sigma - value / slope.clamp_min(torch.finfo(slope.dtype).tiny)
        step = torch.where((newton > a) & (newton < b), newton, (a + b) / 2)
        done = (value.abs() <= small) | (b - a <= 1e-16 * (a.abs() + b.abs()))
        step = torch.where(done, sigma, step)
        result[number] = step
        values = (aim, small, step, a, b)
        left = (~done).nonzero()[:, 0]
        if not left.numel():
            break
        # Copying the pixels costs about as much as a step: only where it halves the work.
        if 2 * left.numel() <= done.numel():
            number, pixels = number[left], tuple(value[left] for value in pixels)
            values = tuple(value[left] for value in values)
    return result
