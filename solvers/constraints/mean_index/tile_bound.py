"""A rigorous bound on max z'd under a mean SSIM of tiles, by its Lagrangian.

For a multiplier mu >= 0 of the mean index and any feasible d,

    z'd  <=  mu (1 - t) + sum_p max_{d_p} [ z_p'd_p - mu (1 - SSIM_p(d_p))/n ].

This is weak duality; it needs no convexity. With many tiles the bound is nearly tight (Shapley and Folkman). In the
levels of :mod:`.tile_losses`, a tile's term is at most ``max_{A, B >= 0} v(A, B) + mu/n (1/((1 + A)(1 + B)) - 1)``
where S2 >= 0. For S2 < 0 see :meth:`.TileLevels.negative`.

Under a deadline (:mod:`solvers.clock`) there are fewer cuts and fewer halvings: the bound is valid whenever they stop.

This maximum is bounded by branch and bound over rectangles of levels. On a rectangle v lies below a plane, and
1/((1 + A)(1 + B)) is convex. So the sum of plane and convex function is largest at one of the four corners. The page
``docs/concepts/mean-index.md`` derives all of this.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from solvers import clock
from solvers.constraints.mean_index.tile_losses import Cut, MeanIndexTiles, TileLevels
from solvers.rounding import gamma, rounded_up

# The levels at which the first rectangles meet, besides 0 and LARGEST_LEVEL.
FIRST_LEVELS = tuple(1e-4 * 16.0**k for k in range(5))
# The upper end of the last rectangle, in the place of infinity.
LARGEST_LEVEL = 1e12
# The gap, relative to the bound, at which the bound is good enough.
BOUND_SLACK = 1e-4
MAX_CUTS = 60
MAX_RECTANGLE_HALVINGS = 9
# A rectangle search ends where more rectangles than this are open for each tile, on average.
MAX_RECTANGLES_PER_TILE = 64
# The rounding of a few operations, relative to the magnitudes of their terms.
_ROUNDING = gamma(16)


def lagrangian_bound(
    bound: MeanIndexTiles, direction: Tensor, multiplier: Tensor, lower: Tensor, upper: Tensor
) -> Tensor:
    """An upper bound on ``max z'd`` over the set and the box ``lower <= d <= upper``, (B,).

    Args:
        bound: the mean index on tiles.
        direction: z, (B, C, H, W), float64.
        multiplier: any multiplier of the index, not negative, (B,), float64.
        lower: lower bounds on d, finite, (B, C, H, W).
        upper: upper bounds on d, finite, (B, C, H, W).
    """
    levels = TileLevels(bound, direction, lower, upper)
    first_cuts(levels)
    return refine(levels, multiplier, MAX_CUTS)


def first_cuts(levels: TileLevels) -> None:
    """Add cuts at the same levels for all tiles: multiples of the level at which every tile has the allowed loss."""
    allowed_level = 1 / levels.bound.constraint.threshold - 1
    one = torch.ones_like(levels.mean)
    multiples = [(multiple, multiple) for multiple in (1 / 32, 1.0, 32.0)]
    if math.isinf(levels.highest_b):
        multiples = [(a, b) for a in (1 / 32, 1 / 4, 2.0, 32.0, 1e4) for b in (1 / 32, 1 / 4, 2.0, 32.0)]
    pace = clock.Pace()
    for number, (a, b) in enumerate(multiples):
        if number and not pace.allows_another_step():
            break
        levels.add(a * allowed_level * one, b * allowed_level * one)


def refine(levels: TileLevels, multiplier: Tensor, max_cuts: int, slack: float = BOUND_SLACK) -> Tensor:
    """The bound on z'd, (B,), after at most ``max_cuts`` more cuts, each where the tiles' bounds are largest.

    Cuts are added until the bound is within ``slack``, relatively, of what points attain.
    """
    budget_part = multiplier * (1 - levels.bound.constraint.threshold) * (1 + _ROUNDING)
    tile_bounds = torch.full_like(levels.mean, torch.inf)
    bounds: list[Tensor] = []
    pace = clock.Pace()
    for number in range(max_cuts + 1):
        new_tile_bounds, attained = sharpen(levels, multiplier, slack, add=number < max_cuts)
        tile_bounds = torch.minimum(tile_bounds, new_tile_bounds)
        bound = budget_part + levels.sum(tile_bounds)
        bounds.append(bound)
        is_tight = bound - budget_part - levels.sum(attained) <= slack * bound.abs()
        if bool((is_tight | stalled(bounds, slack)).all()) or not pace.allows_another_step():
            break
    rounding = gamma(tile_bounds.numel() + 8) * (budget_part + levels.sum(tile_bounds.abs()))
    return rounded_up(budget_part + levels.sum(tile_bounds), rounding)


def stalled(bounds: list[Tensor], slack: float, rounds: int = 6) -> Tensor:
    """Whether the last ``rounds`` rounds lowered a bound by at most ``slack/2``, relatively, (B,) bool."""
    if len(bounds) <= rounds:
        return torch.zeros_like(bounds[0], dtype=torch.bool)
    return bounds[-1 - rounds] - bounds[-1] <= slack / 2 * bounds[-1].abs()


def sharpen(levels: TileLevels, multiplier: Tensor, slack: float, *, add: bool = True) -> tuple[Tensor, Tensor]:
    """An upper bound on every tile's largest Lagrangian value, and the value that a point attains, (G,) each.

    With ``add``, one more cut is added for the tiles where the two differ by more than ``slack`` allows.
    """
    attained = lagrangian_values(levels, multiplier).amax(dim=0)
    price = levels.per_tile(multiplier / levels.bound.count)
    reversed_bound, reversed_points = levels.negative(price, attained)
    reversed_values = (levels.direction * reversed_points).sum(dim=1) - price * levels.loss(reversed_points)
    if bool((reversed_values > attained).any()):
        levels.add_points(reversed_points)
        attained = torch.maximum(attained, reversed_values)
    typical_slack = slack / 4 * levels.per_tile(levels.sum(attained.abs()) / levels.bound.count)
    floor = attained + torch.maximum(slack / 4 * attained.abs(), typical_slack)
    upper_bound, level_a, level_b = maximise(levels, multiplier, floor)
    upper_bound = torch.maximum(upper_bound, reversed_bound)
    if add:
        levels.add(level_a, level_b, (upper_bound > attained + 2 * typical_slack).nonzero()[:, 0])
    return upper_bound, attained


def lagrangian_values(levels: TileLevels, multiplier: Tensor) -> Tensor:
    """The Lagrangian value ``z_p'd_p - mu loss_p/n`` of every cut's point: (cuts, G)."""
    price = levels.per_tile(multiplier / levels.bound.count)
    return torch.stack([cut.value - price * cut.loss for cut in levels.cuts])


def maximise(levels: TileLevels, multiplier: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """An upper bound on every tile's largest Lagrangian value where S2 >= 0, and the levels A and B there, (G,) each.

    Rectangles that cannot exceed ``floor`` (G,) are dropped.
    """
    count = floor.numel()
    price = levels.per_tile(multiplier / levels.bound.count)
    planes = torch.stack([torch.stack([cut.start, cut.slope_a, cut.slope_b]) for cut in levels.cuts])  # (K, 3, G)
    tile, corners = _first_rectangles(levels)
    best_a, best_b = levels.cuts[0].level_a.clone(), levels.cuts[0].level_b.clone()
    pace = clock.Pace()
    for halving in range(MAX_RECTANGLE_HALVINGS + 1):
        value = _rectangle_bounds(planes[:, :, tile], price[tile], levels.largest_value[tile], corners)
        upper_bound = torch.full_like(floor, -torch.inf).scatter_reduce(0, tile, value, "amax")
        is_largest = (value >= upper_bound[tile]).nonzero()[:, 0]
        centre_a, centre_b = _middle(corners[0], corners[1]), _middle(corners[2], corners[3])
        best_a[tile[is_largest]], best_b[tile[is_largest]] = centre_a[is_largest], centre_b[is_largest]
        is_open = value > floor[tile]
        too_many = int(is_open.sum()) > MAX_RECTANGLES_PER_TILE * count
        if halving == MAX_RECTANGLE_HALVINGS or not bool(is_open.any()) or too_many:
            break
        if not pace.allows_another_step():
            break
        tile, corners = _halved(tile[is_open], corners[:, is_open], levels.highest_b)
    return torch.maximum(upper_bound, floor), best_a, best_b


def _first_rectangles(levels: TileLevels) -> tuple[Tensor, Tensor]:
    """Rectangles that cover all levels of every tile.

    Returns:
        the tile of each of the R rectangles, (R,), and its sides (a_low, a_high, b_low, b_high), (4, R).
    """
    like = levels.mean
    edges_a = torch.tensor([0.0, *FIRST_LEVELS, LARGEST_LEVEL], dtype=like.dtype, device=like.device)
    edge_list = [*edges_a[edges_a < levels.highest_b].tolist(), min(levels.highest_b, LARGEST_LEVEL)]
    edge_list = edge_list[:-1] if edge_list[-2:] == [LARGEST_LEVEL, LARGEST_LEVEL] else edge_list
    edges_b = torch.tensor(edge_list, dtype=like.dtype, device=like.device)
    if len(edges_b) == 1:
        edges_b = edges_b.repeat(2)
    a = torch.stack([edges_a[:-1], edges_a[1:]])
    b = torch.stack([edges_b[:-1], edges_b[1:]])
    rows, columns = a.shape[1], b.shape[1]
    grid = torch.cat([a.repeat_interleave(columns, dim=1), b.repeat(1, rows)])
    tile = torch.arange(like.numel(), device=like.device).repeat_interleave(rows * columns)
    return tile, grid.repeat(1, like.numel())


def _rectangle_bounds(planes: Tensor, price: Tensor, largest_value: Tensor, corners: Tensor) -> Tensor:
    """An upper bound on the Lagrangian value in each rectangle, (R,): the smallest that a plane gives.

    Args:
        planes: start, slope_a and slope_b of K planes for each rectangle's tile, (K, 3, R).
        price: the multiplier of the loss of each rectangle's tile, (R,).
        largest_value: the bound on z'd of each rectangle's tile, (R,).
        corners: a_low, a_high, b_low, b_high, (4, R).
    """
    # The last rectangle has no end: LARGEST_LEVEL stands for infinity.
    ends = torch.where(corners >= LARGEST_LEVEL, torch.inf, corners)
    ends_a, ends_b = ends[:2, None], ends[None, 2:]  # (2, 1, R) and (1, 2, R): together the four corners
    # The negative cost of the loss at each corner: price (SSIM - 1).
    cost = price * (1 / ((1 + ends_a) * (1 + ends_b)) - 1)
    smallest = largest_value + cost[0, 0] + _ROUNDING * (largest_value.abs() + price)
    for start, slope_a, slope_b in planes:
        rise_a, rise_b = (
            torch.where(slope_a == 0, 0.0, slope_a * ends_a),
            torch.where(slope_b == 0, 0.0, slope_b * ends_b),
        )
        rounding = _ROUNDING * (start.abs() + rise_a.abs() + rise_b.abs() + price)
        # An infinite corner of a falling plane gives NaN, and says nothing.
        highest = (start + rise_a + rise_b + cost + rounding).amax(dim=(0, 1))
        smallest = torch.where(highest < smallest, highest, smallest)
    return smallest


def _middle(low: Tensor, high: Tensor) -> Tensor:
    """Where a side is cut: at its geometric mean.

    A side from 0 is cut at a quarter of its upper end, and a side to LARGEST_LEVEL at four times its lower end.
    """
    return torch.where(low == 0, high / 4, torch.where(high >= LARGEST_LEVEL, 4 * low, (low * high).sqrt()))


def _halved(tile: Tensor, corners: Tensor, highest_b: float) -> tuple[Tensor, Tensor]:
    """Every rectangle's four quarters, or two halves where B has no width."""
    a_low, a_high, b_low, b_high = corners
    a, b = _middle(a_low, a_high), _middle(b_low, b_high)
    sides_a = [(a_low, a), (a, a_high)]
    sides_b = [(b_low, b), (b, b_high)] if highest_b > 0 else [(b_low, b_high)]
    pieces = [torch.stack([*side_a, *side_b]) for side_a in sides_a for side_b in sides_b]
    return tile.repeat(len(pieces)), torch.cat(pieces, dim=1)


def selected(cuts: list[Cut], choice: Tensor, name: str) -> Tensor:
    """The attribute ``name`` of the cut with the number ``choice`` (G,), tile by tile: (G,) or (G, N)."""
    stacked = torch.stack([getattr(cut, name) for cut in cuts])
    return stacked[choice, torch.arange(choice.numel(), device=choice.device)]
