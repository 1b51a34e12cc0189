"""Orders of pixels: ranks with ties averaged, the highest pixels of a map, the pixels above the median."""

from __future__ import annotations

import torch
from torch import Tensor


def average_ranks(flat: Tensor) -> Tensor:
    """Ranks from 1, ties averaged: (B, N) -> (B, N) float64."""
    if flat.shape[1] == 0:
        return flat
    ordered, order = flat.sort(dim=1)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    group = starts.cumsum(dim=1) - 1
    size = torch.zeros_like(ordered).scatter_add_(1, group, torch.ones_like(ordered))
    last = size.cumsum(dim=1)  # the highest rank in each group of equals
    average = last - (size - 1) / 2
    return torch.empty_like(flat).scatter_(1, order, average.gather(1, group))


def beside_cut(flat: Tensor, count: int) -> Tensor:
    """(B, N) float64: 2 above the ``count``-th highest value of the row, 1 at it, 0 below. ``count`` >= 1."""
    cut = flat.sort(dim=1, descending=True).values[:, count - 1 : count]
    return 2.0 * (flat > cut) + 1.0 * (flat == cut)


def take_highest(levels: Tensor, count: Tensor) -> Tensor:
    """(B, N) bool from :func:`beside_cut`: all pixels above the cut and, in their order, the first of those at it,
    ``count`` (B, 1) in all."""
    above, at = levels == 2, levels == 1
    return above | (at & (at.cumsum(dim=1) <= count - above.sum(dim=1, keepdim=True)))


def above_median(flat: Tensor) -> Tensor:
    """(B, N) bool, True strictly above the row's median (of an even number: the mean of the middle two).

    Never True everywhere; nowhere where the largest value fills half the row.
    """
    if flat.shape[1] == 0:
        return torch.zeros_like(flat, dtype=torch.bool)
    # torch's median is the lower of the middle two. No value lies between the two, so "above their mean" and "above
    # the lower" are the same pixels, without rounding.
    return flat > flat.median(dim=1, keepdim=True).values
