"""The largest objective of a tile at given levels of its two losses, and planes above it (for MeanSSIM on tiles).

Write ``A = (1 - S2)/S2`` and ``B = (1 - S1)/S1``, so that ``SSIM = 1/((1 + A)(1 + B))``. Each level is a square over an
affine function of d,

    A(d) = V(d)/(2 V(x) + 2 cov(x, d) + C2),     B(d) = m(d)^2/(2 m(x)^2 + 2 m(x) m(d) + C1),

and hence convex where the denominator is positive. Let ``v(A, B) = max z'd`` over a tile's ball at level A, its
interval at level B and the box. Then v is **concave** in (A, B), although the constraint on the mean index is not
convex. All that is not convex is the scalar function 1/((1 + A)(1 + B)) of the levels.

Only the ball's radius and the interval's ends depend on the levels. So the dual solution of one tile at (A_i, B_i),
exact or not, gives a bound ``U_i(A, B) >= v(A, B)`` for *all* levels, by weak duality. U_i is concave, so its tangent
plane at (A_i, B_i) lies above v too. The page ``docs/concepts/mean-index.md`` explains how the planes bound the mean
index.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from solvers import clock
from solvers.constraints.ssim_windows.single_window_solver import Groups, best_without_ball, solve_groups
from solvers.constraints.ssim_windows.tiles import to_tiles
from solvers.rounding import gamma
from solvers.windows import WindowOperator

# The largest level at which tiles are solved: there a tile has no structure of the image left.
MAX_TILE_LEVEL = 1e4
# Reversed tiles are bounded piece by piece; these means of x + d, as multiples of that of x, separate the pieces.
REVERSED_MEAN_ENDS = (0.25, 0.5, 0.75, 1.0, 1.33, 2.0, 4.0)
# Tiles whose means are cut into pieces together under a deadline.
TILES_PER_PART = 1024
# The attributes of TileLevels that have one entry a tile.
TILE_ATTRIBUTES = (
    "weights", "direction", "target", "lower", "upper", "reference", "mean", "centred", "variance", "base_a", "base_b",
    "largest_value", "image", "kappa",
)  # fmt: skip


class MeanIndex(Protocol):
    """A mean index: its threshold t, and beta, the bound on 1 - S1 in every window, infinite where there is none."""

    @property
    def threshold(self) -> float: ...

    @property
    def beta(self) -> float: ...


class MeanIndexTiles(Protocol):
    """A mean index on the tiles of a batch of images, such as ``BoundMeanSSIM``, whose docstring explains the names."""

    operator: WindowOperator
    reference: Tensor
    centred_reference: Tensor
    c1: float
    c2: Tensor | float
    count: int

    @property
    def kept_mean_tolerance(self) -> float: ...

    @property
    def constraint(self) -> MeanIndex: ...


@dataclass(frozen=True)
class Cut:
    """A plane above every tile's v, and the point from which it was made, for G tiles with N pixels each.

    Attributes:
        start, slope_a, slope_b: the plane ``start + slope_a A + slope_b B >= v(A, B)``, (G,) each.
        value: the objective ``z'd`` of the point, (G,).
        loss: ``1 - SSIM`` of the point, (G,).
        level_a, level_b: the levels A and B at which the tile was solved, (G,) each.
        delta: the point, (G, N).
    """

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
        image: the image to which a tile belongs, (G,).
        weights, direction, reference: the tiles' weights, gradients z and pixels x, (G, N) each.
        base_a, base_b: ``2 V(x) + C2`` and ``2 m(x)^2 + C1``, (G,) each.
        share: what rounding may add to a tile's bound, relative to the magnitudes of its terms.
        tolerance: the size of a mean that counts as 0, where means are kept; 0 elsewhere.
        largest_value: an upper bound on a tile's ``z'd`` at all levels where S2 >= 0, (G,).
        highest_b: the largest allowed level B, ``beta/(1 - beta)``, or infinite.
        budget: the allowed sum of an image's losses.
        cuts: the planes and points so far; none at first.
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
        # A little less than allowed, for rounding.
        self.budget = (1 - bound.constraint.threshold) * bound.count * (1 - 1e-12)
        self.cuts: list[Cut] = []
        self.share = gamma(16 * self.weights.shape[1] + 64)
        self.tolerance = bound.kept_mean_tolerance if self.highest_b == 0 else 0.0
        self.largest_value = self._box_maximum(self.direction)
        self.kappa = self._best_kappa()
        self.largest_value = torch.minimum(self.largest_value, self.without_ball(self.kappa)[0])

    def sum(self, values: Tensor) -> Tensor:
        """The sums over the tiles of each image: (G,) -> (B,)."""
        return values.reshape(self.batch, -1).sum(dim=1)

    def per_tile(self, values: Tensor) -> Tensor:
        """One value an image, repeated for each of its tiles: (B,) -> (G,)."""
        return values[self.image]

    def add(self, level_a: Tensor, level_b: Tensor, tiles: Tensor | None = None) -> None:
        """Solve tiles at their levels and keep the cut.

        Args:
            level_a: A, (G,).
            level_b: B, (G,).
            tiles: the tiles to solve, long, (K,); ``None`` for all. For other tiles the new cut repeats the last one.
        """
        if tiles is None or not self.cuts:
            self.cuts.append(self.solve(level_a, level_b))
        elif tiles.numel():
            new_cut = self.select(tiles).solve(level_a[tiles], level_b[tiles])
            parts = {entry.name: getattr(self.cuts[-1], entry.name).clone() for entry in fields(Cut)}
            for name, part in parts.items():
                part[tiles] = getattr(new_cut, name)
            self.cuts.append(Cut(**parts))

    def add_points(self, delta: Tensor) -> None:
        """Keep points (G, N) whose structure is lost or reversed. Their planes say no more than ``largest_value``."""
        zero = torch.zeros_like(self.largest_value)
        highest = torch.full_like(self.largest_value, MAX_TILE_LEVEL)
        value = (self.direction * delta).sum(dim=1)
        self.cuts.append(Cut(self.largest_value, zero, zero, value, self.loss(delta), highest, zero, delta))

    def select(self, tiles: Tensor) -> TileLevels:
        """The tiles at ``tiles`` (long) alone, without cuts. The result can solve these tiles, and nothing else."""
        part = copy(self)
        for name in TILE_ATTRIBUTES:
            setattr(part, name, getattr(self, name)[tiles])
        part.cuts = []
        return part

    def solve(self, level_a: Tensor, level_b: Tensor) -> Cut:
        """The best points at levels A and B, (G,) each, and the planes that the dual solutions give.

        The levels are first clipped to those allowed.
        """
        level_a = level_a.clamp(0, MAX_TILE_LEVEL)
        level_b = level_b.clamp(0, min(self.highest_b, MAX_TILE_LEVEL))
        radius = (level_a * self.base_a + level_a.square() * self.variance).sqrt()
        half_width = (level_b * self.base_b + (level_b * self.mean).square()).sqrt()
        middle = level_b * self.mean
        groups = Groups(
            target=self.target,
            weights=self.weights,
            center=level_a[:, None] * self.centred,
            radius=radius,
            mean_lower=middle - half_width,
            mean_upper=middle + half_width,
            lower=self.lower,
            upper=self.upper,
        )
        solution = solve_groups(groups, linear=True)
        delta, ball_multiplier, mean_multiplier = solution.delta, solution.ball, solution.mean
        # U at these levels: the support functions of box, ball and interval at the dual solution.
        offset = groups.centred(delta - level_a[:, None] * self.centred)
        remainder = self.direction - self.weights * (ball_multiplier[:, None] * offset + mean_multiplier[:, None])
        box_part = self._box_maximum(remainder)
        along = ball_multiplier * (self.weights * self.centred * offset).sum(dim=1)
        size = ball_multiplier.abs() * (self.weights * offset.square()).sum(dim=1).sqrt()
        upper_bound = box_part + level_a * along + radius * size + middle * mean_multiplier
        upper_bound = upper_bound + half_width * mean_multiplier.abs()
        spread_slope = size * _derivative(self.base_a, self.variance, level_a, radius)
        slope_a = along + spread_slope
        mean_slope = mean_multiplier.abs() * _derivative(self.base_b, self.mean.square(), level_b, half_width)
        slope_b = self.mean * mean_multiplier + mean_slope
        # What rounding may add: to the slopes, and to the bound with the remainder's error on the width of the box.
        along_size = ball_multiplier.abs() * (self.weights * (self.centred * offset).abs()).sum(dim=1)
        mean_size = (self.weights * self.reference.abs()).sum(dim=1) * mean_multiplier.abs()
        error_a, error_b = self.share * (along_size + spread_slope), self.share * (mean_size + mean_slope)
        error_b = torch.where(mean_multiplier == 0, 0.0, error_b)
        dual_size = self.weights * ((ball_multiplier[:, None] * offset).abs() + mean_multiplier.abs()[:, None])
        largest = torch.maximum(self.lower.abs(), self.upper.abs())
        error = self.share * ((self.direction.abs() + dual_size) * largest).sum(dim=1)
        error = error + self.share * (radius * size + (middle.abs() + half_width) * mean_multiplier.abs())
        error = error + self.tolerance * mean_multiplier.abs()
        if self.highest_b == 0:
            slope_b, error_b = torch.zeros_like(slope_b), torch.zeros_like(slope_b)
        # Where a slope is infinite there is no plane, but no level gives more than `largest_value`.
        start = upper_bound - slope_a * level_a - slope_b * level_b
        start = start + error + 3 * (error_a * level_a + error_b * level_b)
        slope_a, slope_b = slope_a + error_a, slope_b + error_b
        is_finite = start.isfinite() & slope_a.isfinite() & slope_b.isfinite()
        start = torch.where(is_finite, start, self.largest_value)
        slope_a, slope_b = torch.where(is_finite, slope_a, 0.0), torch.where(is_finite, slope_b, 0.0)
        value = (self.direction * delta).sum(dim=1)
        return Cut(start, slope_a, slope_b, value, self.loss(delta), level_a, level_b, delta)

    def loss(self, delta: Tensor) -> Tensor:
        """``1 - SSIM`` of the tiles' points (G, N): (G,)."""
        mean = (self.weights * delta).sum(dim=1)
        centred = delta - mean[:, None]
        variance = (self.weights * centred.square()).sum(dim=1)
        covariance = (self.weights * self.centred * centred).sum(dim=1)
        tiny = torch.finfo(delta.dtype).tiny
        contrast = variance / (self.base_a + 2 * covariance + variance).clamp_min(tiny)
        luminance = mean.square() / (self.base_b + 2 * self.mean * mean + mean.square()).clamp_min(tiny)
        return luminance + contrast - luminance * contrast

    def without_ball(self, kappa: Tensor, limits: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """``F(kappa) = max (z'd + kappa e(d))`` over the box and an interval of m(d), (G,), and a d that attains it.

        ``e(d) = 2 V(x) + 2 cov(x, d) + C2`` has the sign of S2. So F(kappa) with kappa >= 0 bounds z'd where S2 >= 0,
        by weak duality.

        Args:
            kappa: (G,).
            limits: the ends of the interval of m(d), (G,) each. ``None``: those of the bound on 1 - S1, if there is
                one.
        """
        direction = self.direction + 2 * kappa[:, None] * self.weights * self.centred
        constant = kappa * self.base_a
        limits = limits or self.limits
        if limits is None:
            vertex = torch.where(direction > 0, self.upper, self.lower)
            return constant * (1 + self.share) + self._box_maximum(direction), vertex
        target = torch.where(self.weights > 0, direction / self.weights.clamp_min(1e-300), 0.0)
        no_ball = torch.full_like(kappa, 1e9)
        groups = Groups(target, self.weights, torch.zeros_like(target), no_ball, *limits, self.lower, self.upper)
        solution = best_without_ball(groups)
        multiplier = solution.mean
        remainder = direction - self.weights * multiplier[:, None]
        mean_part = torch.maximum(limits[0] * multiplier, limits[1] * multiplier)
        dual_size = self.weights * (2 * kappa[:, None] * self.centred.abs() + multiplier.abs()[:, None])
        largest = torch.maximum(self.lower.abs(), self.upper.abs())
        error = self.share * ((self.direction.abs() + dual_size) * largest).sum(dim=1)
        mean_error = self.share * torch.maximum(limits[0].abs(), limits[1].abs()) + self.tolerance
        mean_error = mean_error * multiplier.abs()
        value = constant * (1 + self.share) + self._box_maximum(remainder) + mean_part
        return value + error + mean_error, solution.delta

    @property
    def limits(self) -> tuple[Tensor, Tensor] | None:
        """The ends of the interval of m(d) where ``1 - S1 <= beta``, (G,) each; ``None`` where S1 is not bounded."""
        if self.highest_b > MAX_TILE_LEVEL:
            return None
        half_width = (self.highest_b * self.base_b + (self.highest_b * self.mean).square()).sqrt()
        return self.highest_b * self.mean - half_width, self.highest_b * self.mean + half_width

    def negative(self, price: Tensor, attained: Tensor) -> tuple[Tensor, Tensor]:
        """An upper bound on ``z'd - price (1 - SSIM)`` where S2 <= 0, (G,), and a point to try there, (G, N).

        Where S2 <= 0, ``1 - SSIM = 1 + S1 |e|/D``, and D is at most V(x) + C2 plus the largest variance in the box. So
        ``z'd + kappa e - price`` is an upper bound for every kappa up to ``price S1/D``. Where S1 is not bounded, S1 is
        small only if the mean is far away. There the interval of the mean is cut into pieces, for the tiles whose bound
        exceeds ``attained``.

        Args:
            price: the multiplier of a tile's loss, (G,).
            attained: the largest Lagrangian value that a point attains, (G,).
        """
        ends = (self.weights * self.lower).sum(dim=1), (self.weights * self.upper).sum(dim=1)
        low, high = self.limits or ends
        value, delta = self._negative(price, low, high, self.limits)
        above = (value > attained).nonzero()[:, 0]
        if self.limits is not None or not above.numel():
            return value, delta
        pace = clock.Pace()
        for tiles in above.split(len(above) if clock.current_deadline() == math.inf else TILES_PER_PART):
            # A tile for which no time is left keeps its bound.
            if not pace.allows_another_step():
                break
            part, part_price = self.select(tiles), price[tiles]
            lowest, highest = ends[0][tiles], ends[1][tiles]
            edges = [lowest, *((k - 1) * part.mean for k in REVERSED_MEAN_ENDS), highest]
            edges = [torch.minimum(torch.maximum(edge, lowest), highest) for edge in edges]
            pieces = [part._negative(part_price, *piece, piece) for piece in pairwise(edges)]
            values, points = (torch.stack(column) for column in zip(*pieces, strict=True))
            largest, number = values.max(dim=0)
            value[tiles] = torch.minimum(value[tiles], largest)
            delta[tiles] = points[number, torch.arange(len(tiles), device=number.device)]
        return value, delta

    def _negative(
        self, price: Tensor, low: Tensor, high: Tensor, limits: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`negative`, for means of d in [low, high], (G,) each; ``limits`` as in :meth:`without_ball`."""
        inside = self.weights > 0
        darkest = torch.where(inside, self.reference + self.lower, torch.inf).amin(dim=1)
        brightest = torch.where(inside, self.reference + self.upper, -torch.inf).amax(dim=1)
        lowest_mean, highest_mean = self.mean + low, self.mean + high
        square, c1 = self.base_b - self.mean.square(), self.bound.c1  # square is m(x)^2 + C1
        # S1 falls on both sides of its peak, so it is smallest at an end.
        ends = []
        for end in (lowest_mean, highest_mean):
            product = 2 * self.mean * end
            ends.append((product - self.share * product.abs() + c1) / (square + end.square()))
        luminance = torch.minimum(*ends).clamp(0, 1)
        # The variance of values in [l, h] with mean m is at most (h - m)(m - l) (Bhatia and Davis, 2000).
        mean = torch.minimum(torch.maximum((darkest + brightest) / 2, lowest_mean), highest_mean)
        largest_denominator = self.base_a - self.variance + ((brightest - mean) * (mean - darkest)).clamp_min(0)
        # A smaller kappa bounds too, so it may be rounded down.
        kappa = price * luminance / largest_denominator.clamp_min(torch.finfo(price.dtype).tiny) * (1 - 4 * self.share)
        value, delta = self.without_ball(torch.minimum(self.kappa, kappa), limits)
        return value - price + self.share * (value.abs() + price), delta

    def _box_maximum(self, direction: Tensor) -> Tensor:
        """``max z'd`` over the box, rounded up, z = ``direction`` (G, N): (G,)."""
        terms = torch.where(direction > 0, self.upper, self.lower).mul(direction)
        return terms.sum(dim=1) + self.share * terms.abs().sum(dim=1)

    def _best_kappa(self, steps: int = 40) -> Tensor:
        """About the kappa >= 0 with the smallest F, (G,), by golden-section search of its logarithm; F is convex."""
        size = self.direction.abs().sum(dim=1) / (self.weights * self.centred.abs()).sum(dim=1).clamp_min(1e-12)
        low, high = (1e-6 * size).clamp_min(1e-300).log(), (10 * size).clamp_min(1e-300).log()
        golden = (5**0.5 - 1) / 2
        first, second = high - golden * (high - low), low + golden * (high - low)
        at_first, at_second = self.without_ball(first.exp())[0], self.without_ball(second.exp())[0]
        pace = clock.Pace()  # any kappa gives a bound
        for _ in range(steps):
            if not pace.allows_another_step():
                break
            keep_left = at_first <= at_second
            low, high = torch.where(keep_left, low, first), torch.where(keep_left, second, high)
            trial = torch.where(keep_left, high - golden * (high - low), low + golden * (high - low))
            value = self.without_ball(trial.exp())[0]
            first, second = torch.where(keep_left, trial, second), torch.where(keep_left, first, trial)
            at_first, at_second = torch.where(keep_left, value, at_second), torch.where(keep_left, at_first, value)
        best = torch.where(at_first < at_second, first, second).exp()
        zero = torch.zeros_like(best)
        return torch.where(self.without_ball(zero)[0] <= torch.minimum(at_first, at_second), zero, best)


def _derivative(base: Tensor, square: Tensor, level: Tensor, root: Tensor) -> Tensor:
    """The derivative of ``root = sqrt(level base + level^2 square)`` in the level."""
    return torch.where(root > 0, (base + 2 * level * square) / (2 * root), torch.where(base > 0, torch.inf, 0.0))
