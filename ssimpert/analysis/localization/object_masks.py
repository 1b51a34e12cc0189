"""Objects as masks: which masks are accepted, and which points lie near them.

"Near" is what the pointing game asks (:mod:`ssimpert.analysis.localization.pointing_game`): some pixel of the mask lies
at a squared distance *below* the square of the tolerance.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

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
    """The pixels near each mask: masks (N, H, W) bool -> (N, H, W) bool, dilated by an open disc.

    ``tolerance``: the radius of the disc in pixels. The distances are computed on the CPU.
    """
    from scipy.ndimage import distance_transform_edt  # here, since importing it takes a third of a second

    distances = np.stack([distance_transform_edt(~mask) for mask in masks.cpu().numpy()])
    # Squared distances are whole numbers. Rounding makes them exact, as in hits_mask.
    return torch.from_numpy(np.rint(distances**2) < tolerance**2).to(masks.device)
