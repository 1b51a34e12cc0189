"""SSIM windows that do not overlap: cut an image into one group of pixels a tile, and put the groups back."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from solvers.constraints.ssim_windows.moments import WindowBalls
from solvers.constraints.ssim_windows.single_window_solver import Groups
from solvers.windows import WindowOperator


class Tiled(Protocol):
    """A bound set whose windows are tiles, as the functions of this module need it."""

    operator: WindowOperator
    reference: Tensor
    centred_reference: Tensor


def tile_groups(
    bound: Tiled, balls: WindowBalls, vector: Tensor, lower: Tensor, upper: Tensor, *, linear: bool
) -> Groups:
    """The problem of every tile, one group each, (B*C*P_h*P_w, size^2).

    A pixel of a tile that lies outside the image has weight 0 and bounds 0.

    Args:
        bound: the set; its windows must be tiles.
        balls: the tiles' balls and intervals.
        vector: the gradient g of a linear problem, or the point of a projection, (B, C, H, W).
        lower: lower bounds on d, (B, C, H, W).
        upper: upper bounds on d, (B, C, H, W).
        linear: whether the problem is linear.
    """
    op, lattice = bound.operator, balls.radius.shape
    roots = op.root_weights.reshape(-1, op.window.size**2)
    weights = roots.square().repeat(lattice[0] * lattice[1], 1)
    target = to_tiles(bound, vector)
    if linear:
        target = torch.where(weights > 0, target / weights.clamp_min(1e-300), 0.0)
    return Groups(
        target=target,
        weights=weights,
        center=balls.ball_center * to_tiles(bound, bound.centred_reference),
        radius=balls.radius.reshape(-1),
        mean_lower=balls.mean_lower.reshape(-1),
        mean_upper=balls.mean_upper.reshape(-1),
        lower=to_tiles(bound, lower),
        upper=to_tiles(bound, upper),
    )


def to_tiles(bound: Tiled, image: Tensor) -> Tensor:
    """``image`` (B, C, H, W), cut into (B*C*P_h*P_w, size^2); 0 outside the image."""
    op = bound.operator
    size, (rows, columns) = op.window.size, op.shape
    batch, channels = image.shape[:2]
    padding = (0, max(columns * size - op.width, 0), 0, max(rows * size - op.height, 0))
    padded = torch.nn.functional.pad(image, padding)[..., : rows * size, : columns * size]
    tiles = padded.reshape(batch, channels, rows, size, columns, size).transpose(3, 4)
    return tiles.reshape(-1, size * size)


def from_tiles(bound: Tiled, tiles: Tensor) -> Tensor:
    """The inverse of :func:`to_tiles`, (B, C, H, W); 0 at pixels in no tile."""
    op = bound.operator
    size, (rows, columns) = op.window.size, op.shape
    batch, channels = bound.reference.shape[:2]
    image = tiles.reshape(batch, channels, rows, columns, size, size).transpose(3, 4)
    image = image.reshape(batch, channels, rows * size, columns * size)[..., : op.height, : op.width]
    padding = (0, op.width - image.shape[-1], 0, op.height - image.shape[-2])
    return torch.nn.functional.pad(image, padding)
