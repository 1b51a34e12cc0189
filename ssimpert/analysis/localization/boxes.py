"""Boxes of objects, one or several for an image, and how well other boxes overlap them.

A box is (x0, y0, x1, y1) in pixels. The ends are exclusive, so the width of a box is x1 - x0, and pixel (row, column)
spans [column, column + 1) by [row, row + 1). A function that needs another convention converts the boxes and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.validation import check_count

Boxes = Tensor | NDArray[Any] | Sequence[Tensor] | Sequence[NDArray[Any]]
"""The boxes of B images: (B, 4) for one box an image, or B tensors or arrays (k, 4), where k is at least 1 and may
differ."""


def padded_boxes(boxes: Boxes, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The boxes of ``count`` images as (B, K, 4) float64 on ``device``, and (B, K) bool: which of these boxes are real.

    K is the largest number of boxes of an image; an image with fewer boxes is filled up with zeros.

    Raises:
        InputError: another number of images, an image without boxes, a box that is not finite or has no area.
    """
    if isinstance(boxes, (Tensor, np.ndarray)):
        if tuple(boxes.shape) != (count, 4):
            raise InputError(f"boxes must have shape ({count}, 4), one an image, got {tuple(boxes.shape)}")
        boxes = boxes[:, None]
    if len(boxes) != count:
        raise InputError(f"boxes must be given for each of the {count} images, got {len(boxes)}")
    rows = [_checked_row(index, row) for index, row in enumerate(boxes)]
    largest_count = max(len(row) for row in rows)
    padded = torch.zeros(count, largest_count, 4, dtype=torch.float64, device=device)
    real = torch.zeros(count, largest_count, dtype=torch.bool, device=device)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row.to(padded)
        real[index, : len(row)] = True
    return padded, real


def best_iou(estimates: Tensor, boxes: Tensor, real: Tensor) -> Tensor:
    """The largest intersection over union of each estimate with any real box of its image.

    Estimates (B, N, 4), boxes (B, K, 4) and ``real`` (B, K) bool -> (B, N), in [0, 1].
    """
    estimate, box = estimates[:, :, None, :], boxes[:, None, :, :]
    sides = torch.minimum(estimate[..., 2:], box[..., 2:]) - torch.maximum(estimate[..., :2], box[..., :2])
    overlap = sides.clamp(min=0).prod(dim=-1)
    union = box_areas(estimate) + box_areas(box) - overlap
    return (overlap / union).masked_fill(~real[:, None, :], 0).amax(dim=2)


def box_areas(boxes: Tensor) -> Tensor:
    """The areas of boxes (..., 4) in square pixels: (...)."""
    return (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)


def bounding_boxes(masks: Tensor) -> Tensor:
    """The tightest box around the True pixels of each mask: (B, H, W) bool -> (B, 4) float64.

    A mask without a True pixel gets the whole image.
    """
    height, width = masks.shape[-2:]
    x0, x1 = _extent(masks.any(dim=1))
    y0, y1 = _extent(masks.any(dim=2))
    boxes = torch.stack([x0, y0, x1, y1], dim=1).double()
    whole = boxes.new_tensor([0, 0, width, height])
    return torch.where(masks.flatten(1).any(dim=1)[:, None], boxes, whole)


def box_masks(boxes: Boxes, count: int, height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """The union of each image's boxes as a mask, (B, H, W) bool. A pixel belongs to a box if its centre does.

    Args:
        boxes: the boxes of B images.
        count: B.
        height: H, in pixels.
        width: W, in pixels.
        device: the device of the masks; default the CPU.

    Raises:
        InputError: as :func:`padded_boxes`.
    """
    count, height, width = check_count("count", count), check_count("height", height), check_count("width", width)
    padded, real = padded_boxes(boxes, count, torch.device(device))
    rows = torch.arange(height, device=padded.device) + 0.5
    columns = torch.arange(width, device=padded.device) + 0.5
    x0, y0, x1, y1 = padded.unbind(dim=-1)
    in_rows = (rows >= y0[..., None]) & (rows < y1[..., None]) & real[..., None]
    in_columns = (columns >= x0[..., None]) & (columns < x1[..., None])
    return (in_rows[..., :, None] & in_columns[..., None, :]).any(dim=1)


def _extent(present: Tensor) -> tuple[Tensor, Tensor]:
    """First index with True and one past the last: (B, N) bool -> 2 x (B,)."""
    first = present.int().argmax(dim=1)
    last = present.shape[1] - present.flip(1).int().argmax(dim=1)
    return first, last


def _checked_row(index: int, row: Tensor | NDArray[Any]) -> Tensor:
    """The boxes of one image, (k, 4), as a tensor."""
    if isinstance(row, np.ndarray) and row.dtype.kind in "iuf":
        row = torch.as_tensor(row)
    if not isinstance(row, Tensor) or row.ndim != 2 or row.shape[1] != 4 or len(row) == 0:
        got = tuple(row.shape) if isinstance(row, Tensor) else type(row).__name__
        raise InputError(f"the boxes of image {index} must be (k, 4) with k at least 1, got {got}")
    if not bool(row.isfinite().all()):
        raise InputError(f"the boxes of image {index} must be finite, got {row.tolist()}")
    if not bool((row[:, 2:] > row[:, :2]).all()):
        raise InputError(f"the boxes of image {index} must have x0 < x1 and y0 < y1, got {row.tolist()}")
    return row
