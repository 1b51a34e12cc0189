"""A rigorous bound on max z'd under a mean SSIM of tiles, by its Lagrangian.

For a multiplier mu >= 0 of the mean index and any feasible d,

    z'd  <=  mu (1 - t) + sum_p max_{d_p} [ z_p'd_p - mu (1 - SSIM_p(d_p))/n ].

Convexity plays no part in this (weak duality), and with many tiles little is lost (Shapley and Folkman). In the levels
of :mod:`.tile_losses`, each term is at most ``max_{A, B >= 0} v(A, B) + mu/n (1/((1 + A)(1 + B)) - 1)`` where S2 >= 0;
where S2 < 0, see :meth:`.TileLevels.negative`. Branch and bound over rectangles of levels: on a rectangle v lies below
a plane and 1/((1 + A)(1 + B)) is convex, so that the largest of the four corners bounds both together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from solvers.constraints.mean_index.tile_losses import Cut, MeanIndexTiles, TileLevels

# Levels at which the first rectangles meet, besides 0 and FAR.
LEVELS = tuple(1e-4 * 16.0**k for k in range(5))
FAR = 1e12
# The relative slack that a bound may have, and how many cuts and how many halvings it may cost.
SLACK = 1e-4
CUTS = 60
HALVINGS = 9


def lagrangian_bound(
    bound: MeanIndexTiles, direction: Tensor, multiplier: Tensor, lower: Tensor, upper: Tensor
) -> Tensor:
    """An upper bound on ``max z'd`` over the set and the box ``lower <= d <= upper``, (B,), for z = ``direction``
    (B, C, H, W) and any ``multiplier`` (B,) >= 0 of the index; all float64."""
    levels = TileLevels(bound, direction, lower, upper)
    first_cuts(levels)
    return refine(levels, multiplier, CUTS)


def first_cuts(levels: TileLevels) -> None:
    """Cuts at even levels: those that would spend the budget evenly, more and less."""
    budget = 1 / levels.bound.constraint.threshold - 1
    one = torch.ones_like(levels.mean)
    shares = (1 / 32, 1.0, 32.0)
    pairs = [(share, share) for share in shares]
    if math.isinf(levels.highest_b):
        pairs = [(first, second) for first in (1 / 32, 1 / 4, 2.0, 32.0, 1e4) for second in (1 / 32, 1 / 4, 2.0, 32.0)]
    for first, second in pairs:
        levels.add(first * budget * one, second * budget * one)


def refine(levels: TileLevels, multiplier: Tensor, cuts: int, slack: float = SLACK) -> Tensor:
    """Add at most ``cuts`` cuts, each where the tiles' bounds are largest, until they are within ``slack`` of what
    points attain; the bound on z'd, (B,)."""
    budget = multiplier * (1 - levels.bound.constraint.threshold)
    best = torch.full_like(levels.mean, torch.inf)
    bounds: list[Tensor] = []
    for number in range(cuts + 1):
        most, reached = sharpen(levels, multiplier, slack, add=number < cuts)
        best = torch.minimum(best, most)
        bound = budget + levels.sum(best)
        bounds.append(bound)
        settled = bound - budget - levels.sum(reached) <= slack * bound.abs()
        if bool((settled | stalled(bounds, slack)).all()):
            break
    return budget + levels.sum(best)


def stalled(bounds: list[Tensor], slack: float, rounds: int = 6) -> Tensor:
    """Whether the last rounds have hardly lowered a bound, (B,)."""
    if len(bounds) <= rounds:
        return torch.zeros_like(bounds[0], dtype=torch.bool)
    return bounds[-1 - rounds] - bounds[-1] <= slack / 2 * bounds[-1].abs()


def sharpen(levels: TileLevels, multiplier: Tensor, slack: float, *, add: bool = True) -> tuple[Tensor, Tensor]:
    """Every tile's largest Lagrangian value, from above, and what a point attains, (G,) each; then a cut more for the
    tiles where the two differ."""
    attained = lagrangian_values(levels, multiplier).amax(dim=0)
    price = levels.wide(multiplier / levels.bound.count)
    negative, reversed_ = levels.negative(price, attained)
    points = (levels.direction * reversed_).sum(dim=1) - price * levels.loss(reversed_)
    if bool((points > attained).any()):
        levels.add_points(reversed_)
        attained = torch.maximum(attained, points)
    typical = slack / 4 * levels.wide(levels.sum(attained.abs()) / levels.bound.count)
    most, level_a, level_b = maximise(levels, multiplier, attained + torch.maximum(slack / 4 * attained.abs(), typical))
    most = torch.maximum(most, negative)
    if add:
        levels.add(level_a, level_b, (most > attained + 2 * typical).nonzero()[:, 0])
    return most, attained


def lagrangian_values(levels: TileLevels, multiplier: Tensor) -> Tensor:
    """``z_p'd_p - mu loss_p/n`` of every cut's point: (cuts, G)."""
    price = levels.wide(multiplier / levels.bound.count)
    return torch.stack([cut.value - price * cut.loss for cut in levels.cuts])


def maximise(levels: TileLevels, multiplier: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every tile's largest Lagrangian value where S2 >= 0, from above, and the levels where it lies: three (G,).
    Rectangles that can't exceed ``floor`` (G,) are dropped."""
    count = floor.numel()
    price = levels.wide(multiplier / levels.bound.count)
    planes = torch.stack([torch.stack([cut.start, cut.slope_a, cut.slope_b]) for cut in levels.cuts])  # (K, 3, G)
    tile, corners = _first_rectangles(levels)
    best_a, best_b = levels.cuts[0].level_a.clone(), levels.cuts[0].level_b.clone()
    for halving in range(HALVINGS + 1):
        value = _rectangle_bounds(planes[:, :, tile], price[tile], levels.most[tile], corners)
        top = torch.full_like(floor, -torch.inf).scatter_reduce(0, tile, value, "amax")
        holds = (value >= top[tile]).nonzero()[:, 0]
        centre_a, centre_b = _middle(corners[0], corners[1]), _middle(corners[2], corners[3])
        best_a[tile[holds]], best_b[tile[holds]] = centre_a[holds], centre_b[holds]
        open_ = value > floor[tile]
        if halving == HALVINGS or not bool(open_.any()) or int(open_.sum()) > 64 * count:
            break
        tile, corners = _halved(tile[open_], corners[:, open_], levels.highest_b)
    return torch.maximum(top, floor), best_a, best_b


def _first_rectangles(levels: TileLevels) -> tuple[Tensor, Tensor]:
    """All tiles' rectangles that cover every level: tile (R,) and (a_low, a_high, b_low, b_high), (4, R)."""
    like = levels.mean
    edges = torch.tensor([0.0, *LEVELS, FAR], dtype=like.dtype, device=like.device)
    other = [*edges[edges < levels.highest_b].tolist(), min(levels.highest_b, FAR)]
    other = other[:-1] if other[-2:] == [FAR, FAR] else other
    second = torch.tensor(other, dtype=like.dtype, device=like.device)
    if len(second) == 1:
        second = second.repeat(2)
    a = torch.stack([edges[:-1], edges[1:]])
    b = torch.stack([second[:-1], second[1:]])
    rows, columns = a.shape[1], b.shape[1]
    grid = torch.cat([a.repeat_interleave(columns, dim=1), b.repeat(1, rows)])
    tile = torch.arange(like.numel(), device=like.device).repeat_interleave(rows * columns)
    return tile, grid.repeat(1, like.numel())


def _rectangle_bounds(planes: Tensor, price: Tensor, most: Tensor, corners: Tensor) -> Tensor:
    """Each rectangle's bound: planes (K, 3, R), corners (4, R) -> (R,)."""
    a_low, a_high, b_low, b_high = corners
    kept = [[price * (1 / ((1 + a) * (1 + b)) - 1) for b in (b_low, b_high)] for a in (a_low, a_high)]
    least = most + kept[0][0]
    for start, slope_a, slope_b in planes:
        highest = torch.full_like(most, -torch.inf)
        for i, a in enumerate((a_low, a_high)):
            for j, b in enumerate((b_low, b_high)):
                highest = torch.maximum(highest, start + slope_a * a + slope_b * b + kept[i][j])
        least = torch.minimum(least, highest)
    return least


def _middle(low: Tensor, high: Tensor) -> Tensor:
    """Where a side is halved: geometric; a quarter of the upper end at 0, four times the lower end at FAR."""
    return torch.where(low == 0, high / 4, torch.where(high >= FAR, 4 * low, (low * high).sqrt()))


def _halved(tile: Tensor, corners: Tensor, highest_b: float) -> tuple[Tensor, Tensor]:
    """Every rectangle's four quarters, or two halves where B has no width."""
    a_low, a_high, b_low, b_high = corners
    a, b = _middle(a_low, a_high), _middle(b_low, b_high)
    parts = [(a_low, a), (a, a_high)]
    others = [(b_low, b), (b, b_high)] if highest_b > 0 else [(b_low, b_high)]
    pieces = [torch.stack([*first, *second]) for first in parts for second in others]
    return tile.repeat(len(pieces)), torch.cat(pieces, dim=1)


def selected(cuts: list[Cut], choice: Tensor, name: str) -> Tensor:
    """``name`` of the cut that each tile has chosen, (G,) or (G, N)."""
    stacked = torch.stack([getattr(cut, name) for cut in cuts])
    return stacked[choice, torch.arange(choice.numel(), device=choice.device)]
