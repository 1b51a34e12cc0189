"""Functions of dual blocks that work for every form of a block, tensor or WindowDual."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from solvers.batch_algebra import all_finite
from solvers.constraints.base import DualBlock
from solvers.constraints.ssim_windows.window_dual import WindowDual


def map_dual_block(function: Callable[..., Tensor], *blocks: DualBlock) -> DualBlock:
    """The block whose tensors are ``function`` of the blocks' tensors, part by part.

    All blocks must have the same form. The tensors have the images along axis 0, so that ``function`` may select
    images.
    """
    if isinstance(blocks[0], WindowDual):
        return WindowDual(*(function(*parts) for parts in zip(*(block.parts() for block in blocks), strict=True)))
    return function(*blocks)


def finite_images(block: DualBlock) -> Tensor:
    """Whether all numbers of an image's dual block are finite, (B,) bool."""
    parts = block.parts() if isinstance(block, WindowDual) else (block,)
    return torch.stack([all_finite(part) for part in parts]).all(dim=0)
