"""Agreement between two maps: Pearson and Spearman correlation and overlap of the highest pixels.

Maps are (B, H, W); each function gives (B,) in float64. A map that is constant, empty or has a value that
isn't finite ranks no pixel above another, so its agreement is NaN, never a number.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.metrics.images import check_maps

TOP_SHARE = 0.2


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation (CC) over pixels: (B, H, W) x 2 -> (B,) in [-1, 1]."""
    first, second, valid = _paired(a, b)
    return _or_nan(_correlation(first, second), valid)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation over pixels: (B, H, W) x 2 -> (B,) in [-1, 1].

    Pearson's correlation of the ranks, tied values sharing their average rank (as ``scipy.stats.spearmanr``).
    """
    first, second, valid = _paired(a, b)
    return _or_nan(_correlation(_average_ranks(first), _average_ranks(second)), valid)


def top_iou(a: Tensor, b: Tensor, share: float = TOP_SHARE) -> Tensor:
    """Intersection over union of the highest pixels of each map: (B, H, W) x 2 -> (B,) in [0, 1].

    Exactly ceil(share * H * W) pixels are taken from each map; among equal values the pixel that comes first
    in row-major order wins, so the result is deterministic. ``share`` lies strictly between 0 and 1; two
    unrelated maps overlap by about share/(2 - share), which is 0.11 for the default 0.2.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise InputError(f"share must lie strictly between 0 and 1, got {share!r}")
    first, second, valid = _paired(a, b)
    # Through the decimal value: 0.07 * 100 is 7.000000000000001 in binary, whose ceiling is 8.
    count = math.ceil(Fraction(str(share)) * first.shape[1])
    top_first, top_second = _top(first, count), _top(second, count)
    union = (top_first | top_second).sum(dim=1)
    return _or_nan((top_first & top_second).sum(dim=1) / union.double(), valid)


def agreement(maps: Tensor, cam: Tensor) -> dict[str, Tensor]:
    """``pearson``, ``spearman`` and ``top20_iou`` of maps with class activation maps, each (B,) float64."""
    return {
        "pearson": pearson(maps, cam),
        "spearman": spearman(maps, cam),
        "top20_iou": top_iou(maps, cam, TOP_SHARE),
    }


def _paired(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both maps flat (B, H*W) in float64, zeros where not valid, and (B,) bool: where both are valid."""
    check_maps("a", a)
    check_maps("b", b)
    if a.shape != b.shape:
        raise InputError(f"the maps must have the same shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    first, second = a.detach().double().flatten(1), b.detach().to(a.device).double().flatten(1)
    valid = _varies(first) & _varies(second)
    zero = first.new_zeros(())
    return torch.where(valid[:, None], first, zero), torch.where(valid[:, None], second, zero), valid


def _varies(flat: Tensor) -> Tensor:
    if flat.shape[1] == 0:
        return torch.zeros(flat.shape[0], dtype=torch.bool, device=flat.device)
    return flat.isfinite().all(dim=1) & (flat.amax(dim=1) > flat.amin(dim=1))


def _or_nan(values: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, values, values.new_full((), float("nan")))


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    if first.shape[1] == 0:
        return first.new_zeros(first.shape[0])
    first, second = _standardised(first), _standardised(second)
    return (first * second).sum(dim=1).clamp(-1, 1)


def _standardised(flat: Tensor) -> Tensor:
    """Mean 0 and norm 1. Scaled by the largest value first, or the squares of tiny maps would underflow."""
    largest = flat.abs().amax(dim=1, keepdim=True)
    scaled = flat / torch.where(largest > 0, largest, torch.ones_like(largest))
    centred = scaled - scaled.mean(dim=1, keepdim=True)
    norm = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    return centred / torch.where(norm > 0, norm, torch.ones_like(norm))


def _average_ranks(flat: Tensor) -> Tensor:
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


def _top(flat: Tensor, count: int) -> Tensor:
    """(B, N) bool, True on the ``count`` highest of each row, the first of equals."""
    order = flat.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, order, True)
