"""SSIM windows that do not overlap, cut out of the image as groups of pixels and put back."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from solvers.constraints.ssim_windows.moments import WindowBalls
from solvers.constraints.ssim_windows.single_window_solver import Groups
from solvers.windows import WindowOperator


class Tiled(Protocol):
    """A bound set on tiles: its windows and its images."""

    operator: WindowOperator
    reference: Tensor


def tile_groups(
    bound: Tiled, balls: WindowBalls, vector: Tensor, lower: Tensor, upper: Tensor, *, linear: bool
) -> Groups:
    """The problem of every tile, one group each, (B*C*P_h*P_w, size^2); pixels outside the image have weight and
    bounds 0."""
    op, lattice = bound.operator, balls.radius.shape
    roots = op.root_weights.reshape(-1, op.window.size**2)
    weights = roots.square().repeat(lattice[0] * lattice[1], 1)
    target = to_tiles(bound, vector)
    if linear:
        target = torch.where(weights > 0, target / weights.clamp_min(1e-300), 0.0)
    return Groups(
        target=target,
        weights=weights,
        center=balls.ball_center * to_tiles(bound, bound.reference),
        radius=balls.radius.reshape(-1),
        mean_lower=balls.mean_lower.reshape(-1),
        mean_upper=balls.mean_upper.reshape(-1),
        lower=to_tiles(bound, lower),
        upper=to_tiles(bound, upper),
    )


def to_tiles(bound: Tiled, image: Tensor) -> Tensor:
    """(B, C, H, W) cut into (B*C*P_h*P_w, size^2), zero outside the image."""
    op = bound.operator
    size, (rows, columns) = op.window.size, op.shape
    batch, channels = image.shape[:2]
    padding = (0, max(columns * size - op.width, 0), 0, max(rows * size - op.height, 0))
    padded = torch.nn.functional.pad(image, padding)[..., : rows * size, : columns * size]
    cut = padded.reshape(batch, channels, rows, size, columns, size).transpose(3, 4)
    return cut.reshape(-1, size * size)


def from_tiles(bound: Tiled, tiles: Tensor) -> Tensor:
    """The inverse of :func:`to_tiles`; pixels in no tile are 0."""
    op = bound.operator
    size, (rows, columns) = op.window.size, op.shape
    batch, channels = bound.reference.shape[:2]
    whole = tiles.reshape(batch, channels, rows, columns, size, size).transpose(3, 4)
    whole = whole.reshape(batch, channels, rows * size, columns * size)[..., : op.height, : op.width]
    padding = (0, op.width - whole.shape[-1], 0, op.height - whole.shape[-2])
    return torch.nn.functional.pad(whole, padding)
