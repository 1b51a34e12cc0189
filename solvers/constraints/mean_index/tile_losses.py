"""What a tile can gain at a level of its two losses, and planes over it (for MeanSSIM on tiles).

Write ``A = (1 - S2)/S2`` and ``B = (1 - S1)/S1``, so that ``SSIM = 1/((1 + A)(1 + B))``. Both are squares over affine
functions of d,

    A(d) = V(d)/(2 V(x) + 2 cov(x, d) + C2),     B(d) = m(d)^2/(2 m(x)^2 + 2 m(x) m(d) + C1),

hence convex where the denominators are positive. So ``v(A, B) = max z'd`` over a tile's ball at level A, its interval
at level B and the box is **concave** in (A, B), although the constraint on the mean index is not convex: all that is
not convex is the scalar function 1/((1 + A)(1 + B)) of the levels.

The dual solution of one tile at (A_i, B_i) gives ``U_i(A, B) >= v(A, B)`` for *all* levels, by weak duality, whoever
found it: only the ball's radius and the interval's ends depend on the levels. U_i is concave, so its tangent plane at
(A_i, B_i) lies above v too.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from solvers.constraints.ssim_windows.single_window_solver import Groups, best_without_ball, solve_groups
from solvers.constraints.ssim_windows.tiles import to_tiles
from solvers.windows import WindowOperator

# A level of contrast at which a tile has no structure of the image left.
HIGHEST = 1e4
# The means, as multiples of the image's, at which the search for reversed tiles is cut.
PIECES = (0.25, 0.5, 0.75, 1.0, 1.33, 2.0, 4.0)
PER_TILE = (
    "weights", "direction", "target", "lower", "upper", "reference", "mean", "centred", "variance", "base_a", "base_b",
    "most", "image", "kappa",
)  # fmt: skip


class MeanIndex(Protocol):
    """A mean index: its threshold t, and the bound on 1 - S1 in every window (infinite where there is none)."""

    @property
    def threshold(self) -> float: ...

    @property
    def beta(self) -> float: ...


class MeanIndexTiles(Protocol):
    """A mean index on the tiles of a batch of images; ``BoundMeanSSIM`` is one, and its attributes are meant."""

    operator: WindowOperator
    reference: Tensor
    c1: float
    c2: Tensor | float
    count: int

    @property
    def constraint(self) -> MeanIndex: ...


@dataclass(frozen=True)
class Cut:
    """Every tile's plane ``start + slope_a A + slope_b B >= v(A, B)``, and a point that attains ``value`` at the price
    of ``loss = 1 - SSIM``: (G,) each, the point (G, N)."""

    start: Tensor
    slope_a: Tensor
    slope_b: Tensor
    value: Tensor
    loss: Tensor
    level_a: Tensor
    level_b: Tensor
    delta: Tensor


class TileLevels:
    """The tiles of a batch, G of them, image by image, and the cuts made so far.

    Attributes:
        image: (G,), which image a tile is of.
        most: (G,), no level gives a tile more while S2 >= 0.
        highest_b: the largest level B there is: beta/(1 - beta), or infinite.
        cuts: at first none.
    """

    def __init__(self, bound: MeanIndexTiles, direction: Tensor, lower: Tensor, upper: Tensor) -> None:
        op = bound.operator
        self.bound = bound
        batch = bound.reference.shape[0]
        self.batch = batch
        self.image = torch.arange(batch, device=direction.device).repeat_interleave(bound.count)
        roots = op.root_weights.reshape(-1, op.window.size**2)
        self.weights = roots.square().repeat(batch * bound.reference.shape[1], 1)
        self.direction = to_tiles(bound, direction)
        self.target = torch.where(self.weights > 0, self.direction / self.weights.clamp_min(1e-300), 0.0)
        self.lower, self.upper = to_tiles(bound, lower), to_tiles(bound, upper)
        self.reference = to_tiles(bound, bound.reference)
        self.mean = (self.weights * self.reference).sum(dim=1)
        self.centred = self.reference - self.mean[:, None]
        self.variance = (self.weights * self.centred.square()).sum(dim=1)
        c2 = torch.as_tensor(bound.c2, dtype=direction.dtype, device=direction.device).expand(op.shape)
        self.base_a = 2 * self.variance + c2.reshape(-1).repeat(batch * bound.reference.shape[1])
        self.base_b = 2 * self.mean.square() + bound.c1
        beta = bound.constraint.beta
        self.highest_b = beta / (1 - beta) if beta < 1 else float("inf")
        # Of the sum of the tiles' losses, a hair inside.
        self.budget = (1 - bound.constraint.threshold) * bound.count * (1 - 1e-12)
        self.cuts: list[Cut] = []
        self.most = _extreme(self.direction, self.lower, self.upper)
        self.kappa = self._best_kappa()
        self.most = torch.minimum(self.most, self.without_ball(self.kappa)[0])

    def sum(self, values: Tensor) -> Tensor:
        """Sums over the tiles of each image: (G,) -> (B,)."""
        return values.reshape(self.batch, -1).sum(dim=1)

    def wide(self, values: Tensor) -> Tensor:
        """One value per image, (B,), for each of its tiles: (G,)."""
        return values[self.image]

    def add(self, level_a: Tensor, level_b: Tensor, tiles: Tensor | None = None) -> None:
        """Solve tiles at their levels (G,) and keep the cut; ``tiles`` (long, (K,)): only these, the others' part of
        the new cut repeats the last."""
        if tiles is None or not self.cuts:
            self.cuts.append(self.solve(level_a, level_b))
        elif tiles.numel():
            new = self.select(tiles).solve(level_a[tiles], level_b[tiles])
            parts = {entry.name: getattr(self.cuts[-1], entry.name).clone() for entry in fields(Cut)}
            for name, part in parts.items():
                part[tiles] = getattr(new, name)
            self.cuts.append(Cut(**parts))

    def add_points(self, delta: Tensor) -> None:
        """Keep points (G, N) whose structure is lost or reversed; their planes say no more than ``most``."""
        flat, far = torch.zeros_like(self.most), torch.full_like(self.most, HIGHEST)
        value = (self.direction * delta).sum(dim=1)
        self.cuts.append(Cut(self.most, flat, flat, value, self.loss(delta), far, flat, delta))

    def select(self, tiles: Tensor) -> TileLevels:
        """Some tiles alone, without cuts; of no use but to solve them."""
        part = copy(self)
        for name in PER_TILE:
            setattr(part, name, getattr(self, name)[tiles])
        part.cuts = []
        return part

    def solve(self, level_a: Tensor, level_b: Tensor) -> Cut:
        """The best points at levels (G,), cut to what is allowed, and the planes that their duals give."""
        level_a, level_b = level_a.clamp(0, HIGHEST), level_b.clamp(0, min(self.highest_b, HIGHEST))
        radius = (level_a * self.base_a + level_a.square() * self.variance).sqrt()
        half = (level_b * self.base_b + (level_b * self.mean).square()).sqrt()
        middle = level_b * self.mean
        groups = Groups(
            target=self.target,
            weights=self.weights,
            center=level_a[:, None] * self.reference,
            radius=radius,
            mean_lower=middle - half,
            mean_upper=middle + half,
            lower=self.lower,
            upper=self.upper,
        )
        solution = solve_groups(groups, linear=True)
        delta, ball, tilt = solution.delta, solution.ball, solution.mean
        point = groups.centred(delta - level_a[:, None] * self.centred)
        rest = self.direction - self.weights * (ball[:, None] * point + tilt[:, None])
        least = _extreme(rest, self.lower, self.upper)
        along = ball * (self.weights * self.centred * point).sum(dim=1)
        size = ball.abs() * (self.weights * point.square()).sum(dim=1).sqrt()
        top = least + level_a * along + radius * size + middle * tilt + half * tilt.abs()
        slope_a = along + size * _rate(self.base_a, self.variance, level_a, radius)
        slope_b = self.mean * tilt + tilt.abs() * _rate(self.base_b, self.mean.square(), level_b, half)
        if self.highest_b == 0:
            slope_b = torch.zeros_like(slope_b)
        # Where a slope is infinite there is no plane; no level gives more than ``most``.
        start = top - slope_a * level_a - slope_b * level_b
        sound = start.isfinite() & slope_a.isfinite() & slope_b.isfinite()
        start = torch.where(sound, start, self.most)
        slope_a, slope_b = torch.where(sound, slope_a, 0.0), torch.where(sound, slope_b, 0.0)
        value = (self.direction * delta).sum(dim=1)
        return Cut(start, slope_a, slope_b, value, self.loss(delta), level_a, level_b, delta)

    def loss(self, delta: Tensor) -> Tensor:
        """``1 - SSIM`` of the tiles' points (G, N): (G,)."""
        shift = (self.weights * delta).sum(dim=1)
        moved = delta - shift[:, None]
        spread = (self.weights * moved.square()).sum(dim=1)
        tiny = torch.finfo(delta.dtype).tiny
        contrast = spread / (self.base_a + 2 * (self.weights * self.centred * moved).sum(dim=1) + spread).clamp_min(
            tiny
        )
        luminance = shift.square() / (self.base_b + 2 * self.mean * shift + shift.square()).clamp_min(tiny)
        return luminance + contrast - luminance * contrast

    def without_ball(self, kappa: Tensor, limits: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """``F(kappa) = max (z'd + kappa e(d))`` over the box and limits on m(d), (G,), and a d that attains it.
        ``e(d) = 2 V(x) + 2 cov(x, d) + C2`` has the sign of S2. By weak duality F, kappa >= 0, bounds z'd where
        S2 >= 0.

        Args:
            kappa: (G,).
            limits: on m(d), (G,) each; default: those of the luminance, if it is bounded.
        """
        direction = self.direction + 2 * kappa[:, None] * self.weights * self.centred
        constant = kappa * self.base_a
        limits = limits or self.limits
        if limits is None:
            vertex = torch.where(direction > 0, self.upper, self.lower)
            return constant + _extreme(direction, self.lower, self.upper), vertex
        target = torch.where(self.weights > 0, direction / self.weights.clamp_min(1e-300), 0.0)
        free = torch.full_like(kappa, 1e9)
        groups = Groups(target, self.weights, torch.zeros_like(target), free, *limits, self.lower, self.upper)
        solution = best_without_ball(groups)
        tilt = solution.mean
        rest = direction - self.weights * tilt[:, None]
        ends = torch.maximum(limits[0] * tilt, limits[1] * tilt)
        return constant + _extreme(rest, self.lower, self.upper) + ends, solution.delta

    @property
    def limits(self) -> tuple[Tensor, Tensor] | None:
        """The interval of m(d) in which 1 - S1 is as small as asked, (G,) each; ``None`` where nothing is asked."""
        if self.highest_b > HIGHEST:
            return None
        half = (self.highest_b * self.base_b + (self.highest_b * self.mean).square()).sqrt()
        return self.highest_b * self.mean - half, self.highest_b * self.mean + half

    def negative(self, price: Tensor, attained: Tensor) -> tuple[Tensor, Tensor]:
        """An upper bound on ``z'd - price (1 - SSIM)`` where S2 <= 0, (G,), and a point to try there (G, N). There
        ``1 - SSIM = 1 + S1 |e|/D`` with D at most V(x) + C2 and the largest variance in the box, so that any kappa up
        to price S1/D may stand before e. Where the luminance is free, by pieces of the mean for the tiles whose bound
        exceeds ``attained`` (G,): S1 is small only where the mean is far away."""
        ends = (self.weights * self.lower).sum(dim=1), (self.weights * self.upper).sum(dim=1)
        low, high = self.limits or ends
        value, delta = self._negative(price, low, high, self.limits)
        tiles = (value > attained).nonzero()[:, 0]
        if self.limits is None and tiles.numel():
            part, price = self.select(tiles), price[tiles]
            least, most = ends[0][tiles], ends[1][tiles]
            edges = [least, *((k - 1) * part.mean for k in PIECES), most]
            edges = [torch.minimum(torch.maximum(edge, least), most) for edge in edges]
            tried = [part._negative(price, *pair, pair) for pair in pairwise(edges)]
            values, points = (torch.stack(column) for column in zip(*tried, strict=True))
            best, which = values.max(dim=0)
            value[tiles] = torch.minimum(value[tiles], best)
            delta[tiles] = points[which, torch.arange(len(tiles), device=which.device)]
        return value, delta

    def _negative(
        self, price: Tensor, low: Tensor, high: Tensor, limits: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`negative`, for means of d in [low, high] (G,)."""
        inside = self.weights > 0
        darkest = torch.where(inside, self.reference + self.lower, torch.inf).amin(dim=1)
        brightest = torch.where(inside, self.reference + self.upper, -torch.inf).amax(dim=1)
        least, most = self.mean + low, self.mean + high
        shared, c1 = self.base_b - self.mean.square(), self.bound.c1  # m(x)^2 + C1
        # S1 falls on both sides of its peak: least at an end.
        ends = [(2 * self.mean * end + c1) / (shared + end.square()) for end in (least, most)]
        luminance = torch.minimum(*ends).clamp(0, 1)
        # A variance between two values with mean m is at most (highest - m)(m - lowest) (Bhatia and Davis, 2000).
        mean = torch.minimum(torch.maximum((darkest + brightest) / 2, least), most)
        largest = self.base_a - self.variance + ((brightest - mean) * (mean - darkest)).clamp_min(0)
        kappa = price * luminance / largest.clamp_min(torch.finfo(price.dtype).tiny)
        value, delta = self.without_ball(torch.minimum(self.kappa, kappa), limits)
        return value - price, delta

    def _best_kappa(self, steps: int = 40) -> Tensor:
        """About the kappa >= 0 with the smallest F, which is convex: a golden search of its logarithm, (G,)."""
        size = self.direction.abs().sum(dim=1) / (self.weights * self.centred.abs()).sum(dim=1).clamp_min(1e-12)
        low, high = (1e-6 * size).clamp_min(1e-300).log(), (10 * size).clamp_min(1e-300).log()
        golden = (5**0.5 - 1) / 2
        first, second = high - golden * (high - low), low + golden * (high - low)
        at_first, at_second = self.without_ball(first.exp())[0], self.without_ball(second.exp())[0]
        for _ in range(steps):
            left = at_first <= at_second
            low, high = torch.where(left, low, first), torch.where(left, second, high)
            fresh = torch.where(left, high - golden * (high - low), low + golden * (high - low))
            value = self.without_ball(fresh.exp())[0]
            first, second = torch.where(left, fresh, second), torch.where(left, first, fresh)
            at_first, at_second = torch.where(left, value, at_second), torch.where(left, at_first, value)
        best = torch.where(at_first < at_second, first, second).exp()
        zero = torch.zeros_like(best)
        return torch.where(self.without_ball(zero)[0] <= torch.minimum(at_first, at_second), zero, best)


def _extreme(direction: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """max over the box, (G,)."""
    return torch.where(direction > 0, upper, lower).mul(direction).sum(dim=1)


def _rate(base: Tensor, square: Tensor, level: Tensor, root: Tensor) -> Tensor:
    """The derivative of ``root = sqrt(level base + level^2 square)``."""
    return torch.where(root > 0, (base + 2 * level * square) / (2 * root), torch.where(base > 0, torch.inf, 0.0))
