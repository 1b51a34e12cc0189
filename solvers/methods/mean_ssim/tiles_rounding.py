"""From the multiplier of ``mean_tiles`` to points that spend the budget of lost SSIM.

Tiles jump. At one multiplier a tile may be worth destroying (a loss of about 1), at the next it is not, and the budget
lies between. With few tiles that gap costs something. Which tiles to destroy is a knapsack problem. Two steps solve it
well enough:

1. toggle tiles whose two options are worth nearly the same, at most MAX_TOGGLES an image, so that the other tiles need
   to give or take little;
2. scale the levels of the tiles that are not destroyed by one factor, so that the whole budget is spent.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from solvers import clock
from solvers.constraints.mean_index.tile_bound import lagrangian_values, selected
from solvers.constraints.mean_index.tile_losses import TileLevels

# A tile whose loss exceeds this is destroyed: it keeps its point.
DESTROYED_LOSS = 0.5
# So many tiles of an image may be toggled, out of so many that cost least.
MAX_TOGGLES, TOGGLE_CANDIDATES = 3, 16
# The factor on the levels: the largest one, and how often its interval is halved.
LARGEST_FACTOR, FACTOR_HALVINGS = 4.0, 16


def choice_at(levels: TileLevels, multiplier: Tensor) -> Tensor:
    """The number of the cut whose point is best for each tile at a multiplier (B,): (G,)."""
    return lagrangian_values(levels, multiplier).argmax(dim=0)


def spend(levels: TileLevels, multiplier: Tensor) -> Tensor:
    """Points (G, N) that keep the budget and leave hardly anything of it, near the best points at ``multiplier``
    (B,)."""
    choice = _toggled(levels, multiplier)
    level_a, level_b = selected(levels.cuts, choice, "level_a"), selected(levels.cuts, choice, "level_b")
    chosen = selected(levels.cuts, choice, "delta")
    destroyed = selected(levels.cuts, choice, "loss") > DESTROYED_LOSS
    # Should the destroyed tiles alone exceed the budget, the image keeps d = 0.
    best = torch.full_like(multiplier, -torch.inf)
    delta = torch.zeros_like(chosen)
    low, high = torch.zeros_like(multiplier), torch.full_like(multiplier, LARGEST_FACTOR)
    factor = torch.ones_like(multiplier)
    pace, trial = clock.Pace(), chosen
    for _ in range(FACTOR_HALVINGS):
        if not pace.allows_another_step():
            # Points that exceed the budget are better than none: the certificate scales them.
            return torch.where(levels.per_tile(best.isinf())[:, None], trial, delta)
        tile_factor = levels.per_tile(factor)
        # A bounded luminance is mostly used up to its bound, where a smaller one would cost more than less contrast.
        luminance = tile_factor * level_b if math.isinf(levels.highest_b) else level_b
        scaled = levels.solve(tile_factor * level_a, luminance).delta
        trial = torch.where(destroyed[:, None], chosen, scaled)
        value = levels.sum((levels.direction * trial).sum(dim=1))
        fits = levels.sum(levels.loss(trial)) <= levels.budget
        better = fits & (value > best)
        delta = torch.where(levels.per_tile(better)[:, None], trial, delta)
        best = torch.where(better, value, best)
        low, high = torch.where(fits, factor, low), torch.where(fits, high, factor)
        factor = (low + high) / 2
    return delta


def _toggled(levels: TileLevels, multiplier: Tensor) -> Tensor:
    """The choice of points at a multiplier (B,), with up to MAX_TOGGLES tiles an image destroyed or spared against it:
    (G,)."""
    value = lagrangian_values(levels, multiplier)
    loss = torch.stack([cut.loss for cut in levels.cuts])
    # Each tile's best point among those that destroy it, and among those that do not.
    destroys = loss > DESTROYED_LOSS
    spared, destroyed = (value.masked_fill(mask, -torch.inf).max(dim=0) for mask in (destroys, ~destroys))
    is_destroyed = destroyed.values > spared.values
    choice = torch.where(is_destroyed, destroyed.indices, spared.indices)
    other = torch.where(is_destroyed, spared.indices, destroyed.indices)
    regret = (destroyed.values - spared.values).abs()
    tiles = torch.arange(choice.numel(), device=choice.device)
    loss, other_loss = loss[choice, tiles], loss[other, tiles]
    price = multiplier / levels.bound.count
    for image in range(levels.batch):
        first = image * levels.bound.count
        members = slice(first, first + levels.bound.count)
        toggles = first + _best_toggles(
            is_destroyed[members], regret[members], loss[members], other_loss[members], price[image], levels.budget
        )
        choice[toggles] = other[toggles]
    return choice


def _best_toggles(
    is_destroyed: Tensor, regret: Tensor, loss: Tensor, other_loss: Tensor, price: Tensor, budget: float
) -> Tensor:
    """Which tiles of one image to toggle, long (up to MAX_TOGGLES,).

    Args:
        is_destroyed: whether the chosen point destroys the tile, (n,) bool.
        regret: what toggling costs a tile in Lagrangian value, (n,).
        loss: of the chosen points, (n,).
        other_loss: of the points after toggling, (n,).
        price: of a unit of loss, a scalar.
        budget: of the sum of all losses.
    """
    candidates = regret.topk(min(TOGGLE_CANDIDATES, len(regret)), largest=False).indices
    candidates = candidates[regret[candidates].isfinite()]
    change = other_loss - loss
    excess = loss.sum() - budget
    # Levels that are off by a factor 1 + e cost price * scalable * e^2/4, as gains grow with the root of the loss.
    scalable = loss[~is_destroyed].sum().clamp_min(1e-12)
    # The destroyed tiles must fit into the budget by themselves.
    destroyed_loss = torch.where(is_destroyed, loss, 0.0).sum()
    destroyed_change = torch.where(is_destroyed, -loss, other_loss)
    best_cost, toggles = price * excess.square() / (4 * scalable), candidates[:0]
    if destroyed_loss > budget:
        best_cost, toggles = torch.full_like(best_cost, torch.inf), is_destroyed.nonzero()[:, 0]
    for size in range(1, min(MAX_TOGGLES, len(candidates)) + 1):
        sets = torch.combinations(candidates, size)
        miss = excess + change[sets].sum(dim=1)
        cost = regret[sets].sum(dim=1) + price * miss.square() / (4 * scalable)
        cost = torch.where(destroyed_loss + destroyed_change[sets].sum(dim=1) <= budget, cost, torch.inf)
        if float(cost.min()) < float(best_cost):
            best_cost, toggles = cost.min(), sets[cost.argmin()]
    return toggles
