"""Dual blocks image by image: whatever their form, to pick images out, put them back and change the form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from solvers.constraints.base import DualBlock
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.constraints.window_ssim import BoundWindowSSIM


def map_block(function: Callable[..., Tensor], *blocks: DualBlock) -> DualBlock:
    """``function`` of the blocks' tensors, part by part; all blocks in the same form, images along axis 0."""
    if isinstance(blocks[0], WindowDual):
        return WindowDual(*(function(*parts) for parts in zip(*(block.parts() for block in blocks), strict=True)))
    return function(*blocks)


def finite_images(block: DualBlock) -> Tensor:
    """Whether all numbers of an image's block are finite, (B,) bool."""
    parts = block.parts() if isinstance(block, WindowDual) else (block,)
    return torch.stack([part.isfinite().flatten(1).all(dim=1) for part in parts]).all(dim=0)


def window_vectors(bound: BoundWindowSSIM, block: DualBlock) -> Tensor:
    """The block as window vectors (B, C, P_h, P_w, size^2), ``y_p = ball_p R_p v + mean_p sqrt(w)``, in the dtype of
    ``bound``. Memory: image x window."""
    op, dtype, device = bound.operator, bound.radius.dtype, bound.radius.device
    if not isinstance(block, WindowDual):
        return torch.as_tensor(block).to(dtype=dtype, device=device)
    block = block.to(dtype=dtype, device=device)
    along = block.mean - block.ball * op.mean(block.point)
    return op.vectors(block.point).mul_(block.ball[..., None]).add_(along[..., None] * op.root_weights)
