"""From the multiplier of ``mean_tiles`` to points that spend the budget.

Tiles jump: at a multiplier one may be worth destroying (loss about 1) and at the next not, and the budget falls
between. With few tiles that gap costs something. Which tiles to destroy is a knapsack; the tiles whose two options are
nearly worth the same are toggled, at most THREE together, so that what the rest must give or take is small, and the
rest does so by one factor on its levels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from solvers.constraints.mean_index.tile_bound import lagrangian_values, selected
from solvers.constraints.mean_index.tile_losses import TileLevels

DESTROYED = 0.5  # of the loss, from which on a tile keeps its point
CANDIDATES = 16
THREE = 3
HALVINGS = 16


def choice_at(levels: TileLevels, multiplier: Tensor) -> Tensor:
    """The number of the cut whose point is best for each tile at a multiplier (B,): (G,)."""
    return lagrangian_values(levels, multiplier).argmax(dim=0)


def spend(levels: TileLevels, multiplier: Tensor) -> Tensor:
    """Points (G, N) that keep the budget and hardly leave anything of it, near those that ``multiplier`` (B,) asks."""
    choice = _toggled(levels, multiplier)
    level_a, level_b = selected(levels.cuts, choice, "level_a"), selected(levels.cuts, choice, "level_b")
    chosen, kept = selected(levels.cuts, choice, "delta"), selected(levels.cuts, choice, "loss") > DESTROYED
    # Should the destroyed ones alone exceed the budget, the image starts from 0 and its certificate scales.
    best = torch.full_like(multiplier, -torch.inf)
    delta = torch.zeros_like(chosen)
    low, high = torch.zeros_like(multiplier), torch.full_like(multiplier, 4.0)
    factor = torch.ones_like(multiplier)
    for _ in range(HALVINGS):
        wide = levels.per_tile(factor)
        # A bounded luminance is mostly used up to its bound, where less of it would be missed more than less contrast.
        lit = wide * level_b if math.isinf(levels.highest_b) else level_b
        trial = torch.where(kept[:, None], chosen, levels.solve(wide * level_a, lit).delta)
        value = levels.sum((levels.direction * trial).sum(dim=1))
        fits = levels.sum(levels.loss(trial)) <= levels.budget
        better = fits & (value > best)
        delta = torch.where(levels.per_tile(better)[:, None], trial, delta)
        best = torch.where(better, value, best)
        low, high = torch.where(fits, factor, low), torch.where(fits, high, factor)
        factor = (low + high) / 2
    return delta


def _toggled(levels: TileLevels, multiplier: Tensor) -> Tensor:
    """The choice of points at a multiplier, up to THREE tiles an image destroyed or spared against it: (G,)."""
    value = lagrangian_values(levels, multiplier)
    loss = torch.stack([cut.loss for cut in levels.cuts])
    destroyed = loss > DESTROYED
    whole, lost = (value.masked_fill(mask, -torch.inf).max(dim=0) for mask in (destroyed, ~destroyed))
    to_lost = lost.values > whole.values
    choice = torch.where(to_lost, lost.indices, whole.indices)
    other = torch.where(to_lost, whole.indices, lost.indices)
    regret = (lost.values - whole.values).abs()
    tiles = torch.arange(choice.numel(), device=choice.device)
    change = loss[other, tiles] - loss[choice, tiles]
    spent = loss[choice, tiles]
    price = multiplier / levels.bound.count
    for image in range(levels.batch):
        own = slice(image * levels.bound.count, (image + 1) * levels.bound.count)
        near = regret[own].topk(min(CANDIDATES, levels.bound.count), largest=False).indices
        near = near[regret[own][near].isfinite()]
        over = spent[own].sum() - levels.budget
        rest = spent[own][~to_lost[own]].sum().clamp_min(1e-12)
        # Levels off by a factor 1 + e cost price * rest * e^2/4, where gains grow with the root of the loss.
        # Those destroyed must fit by themselves.
        held = torch.where(to_lost, spent, 0.0)[own]
        gives = torch.where(to_lost[own], -spent[own], loss[other, tiles][own])
        least, toggles = price[image] * over.square() / (4 * rest), near[:0]
        if held.sum() > levels.budget:
            least, toggles = torch.full_like(least, torch.inf), to_lost[own].nonzero()[:, 0]
        for size in range(1, min(THREE, len(near)) + 1):
            sets = torch.combinations(near, size)
            miss = over + change[own][sets].sum(dim=1)
            cost = regret[own][sets].sum(dim=1) + price[image] * miss.square() / (4 * rest)
            cost = torch.where(held.sum() + gives[sets].sum(dim=1) <= levels.budget, cost, torch.inf)
            if float(cost.min()) < float(least):
                least, toggles = cost.min(), sets[cost.argmin()]
        toggles = toggles + image * levels.bound.count
        choice[toggles] = other[toggles]
    return choice
