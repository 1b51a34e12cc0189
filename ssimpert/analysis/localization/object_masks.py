"""Objects as masks: which masks are accepted, and which points lie near them.

"Near" is what the pointing game asks (:mod:`ssimpert.analysis.localization.pointing_game`): some pixel of the mask lies
at a squared distance *below* the square of the tolerance.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d

from ssimpert.errors import InputError

TOLERANCE = 15.0
"""The tolerance of the published pointing game, in pixels."""


def check_masks(masks: Tensor, shape: tuple[int, ...] | None = None) -> None:
    """Raise :class:`InputError` unless ``masks`` is (N, H, W) bool with a True pixel in every mask.

    ``shape``: the shape that the masks must have, one mask for each image; default ``None``: any shape, not empty.
    """
    bool_masks = isinstance(masks, Tensor) and masks.dtype == torch.bool and masks.ndim == 3
    fits = bool_masks and (masks.numel() > 0 if shape is None else tuple(masks.shape) == shape)
    if not fits:
        got = f"{tuple(masks.shape)} {masks.dtype}" if isinstance(masks, Tensor) else type(masks).__name__
        expected = "(N, H, W) bool" if shape is None else f"{shape} bool, one an image"
        raise InputError(f"masks must be {expected}, got {got}")
    empty = (~masks.flatten(1).any(dim=1)).nonzero()
    if len(empty):
        raise InputError(f"mask {int(empty[0])} has no pixel; leave out the images that do not show an object")


def hits_mask(points: Tensor, masks: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Whether each point lies near its mask: points (N, 2), (x, y), and masks (N, H, W) bool -> (N,) bool.

    ``tolerance``: pixels, default 15; a mask pixel at exactly this distance does not count. A point that is NaN hits
    nothing.
    """
    height, width = masks.shape[-2:]
    rows = torch.arange(height, dtype=torch.float64, device=masks.device)
    columns = torch.arange(width, dtype=torch.float64, device=masks.device)
    vertical = (rows - points[:, 1:]).square()
    horizontal = (columns - points[:, :1]).square()
    near = vertical[:, :, None] + horizontal[:, None, :] < tolerance**2
    return (near & masks).flatten(1).any(dim=1)


def dilated_masks(masks: Tensor, tolerance: float) -> Tensor:
    """The pixels near each mask, (N, H, W) bool: each mask dilated by an open disc of radius ``tolerance``.

    The disc is taken row by row. A row of the disc dilates the mask horizontally, and the result is shifted up and down
    by the row's offset.
    """
    height, width = masks.shape[-2:]
    dilated = torch.zeros_like(masks)
    values = masks.float()
    for offset in range(min(_largest_below(tolerance**2), height - 1) + 1):
        half_width = min(_largest_below(tolerance**2 - offset**2), width - 1)
        pooled = max_pool1d(values.flatten(0, 1)[:, None], 2 * half_width + 1, stride=1, padding=half_width)
        widened = (pooled[:, 0] > 0).reshape(masks.shape)
        dilated[:, offset:] |= widened[:, : height - offset]
        dilated[:, : height - offset] |= widened[:, offset:]
    return dilated


def _largest_below(square: float) -> int:
    """The largest integer whose square is below ``square`` > 0."""
    integer = int(square**0.5) + 1
    while integer**2 >= square:
        integer -= 1
    return integer
