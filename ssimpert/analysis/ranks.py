"""Orders of pixels: ranks with ties averaged, the highest pixels, the pixels above the median."""

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


def highest(flat: Tensor, count: int) -> Tensor:
    """(B, N) bool, True on the ``count`` highest of each row, the first of equals."""
    order = flat.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, order, True)


def above_median(flat: Tensor) -> Tensor:
    """(B, N) bool, True strictly above the row's median (of an even number: the mean of the middle two).

    Never True everywhere; nowhere where the largest value fills half the row.
    """
    if flat.shape[1] == 0:
        return torch.zeros_like(flat, dtype=torch.bool)
    # torch's median is the lower of the middle two. No value lies between the two, so "above their mean" and "above
    # the lower" are the same pixels, without rounding.
    return flat > flat.median(dim=1, keepdim=True).values
