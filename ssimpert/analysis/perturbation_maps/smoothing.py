"""Gaussian smoothing of maps, equal to scipy's, on any device and differentiable."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from solvers.validation import as_real, shown
from ssimpert.analysis.degenerate_maps import is_constant
from ssimpert.errors import InputError
from ssimpert.validation import check_maps

TRUNCATE = 4.0


def gaussian_smooth(maps: Tensor, sigma: float) -> Tensor:
    """Smooth maps (B, H, W), float32 or float64, by a Gaussian of standard deviation ``sigma`` pixels.

    The result is that of ``scipy.ndimage.gaussian_filter(mode="reflect", truncate=4)``: the map mirrors at its edge,
    and the pixel at the edge is repeated. Maps may have any size. ``sigma = 0`` returns the maps as they are.
    Nonnegative maps stay nonnegative. A constant map stays as it is: rounding would give such a map a highest pixel.

    Raises:
        InputError: maps of another shape or dtype, or a ``sigma`` that is negative or not finite.
    """
    check_maps("maps", maps)
    sigma = check_sigma(sigma)
    if sigma == 0:
        return maps
    height, width = maps.shape[-2:]
    rows = _reflecting_matrix(height, sigma).to(maps)
    columns = _reflecting_matrix(width, sigma).to(maps)
    return torch.where(is_constant(maps)[:, None, None], maps, rows @ maps @ columns.t())


def check_sigma(sigma: float) -> float:
    """``sigma`` as a float; :class:`InputError` unless it is finite and at least 0."""
    number = as_real(sigma)
    if number is None or not math.isfinite(number) or number < 0:
        raise InputError(f"sigma must be a number of pixels, 0 (no smoothing) or more, got {shown(sigma)}")
    return number


@lru_cache(maxsize=32)
def _reflecting_matrix(length: int, sigma: float) -> Tensor:
    """The smoothing matrix of one axis, (length, length) float64, with the mirror at the edges; each row sums to 1."""
    # The matrix is cached. A tensor made under inference_mode could never be used for a gradient afterwards.
    with torch.inference_mode(False):
        radius = int(TRUNCATE * sigma + 0.5)
        offsets = torch.arange(-radius, radius + 1)
        weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
        weights = weights / weights.sum()
        positions = torch.arange(length)[:, None] + offsets[None, :]
        folded = positions.remainder(2 * length)
        folded = torch.where(folded < length, folded, 2 * length - 1 - folded)
        matrix = torch.zeros(length, length, dtype=torch.float64)
        return matrix.scatter_add_(1, folded, weights.expand(length, -1).contiguous())
