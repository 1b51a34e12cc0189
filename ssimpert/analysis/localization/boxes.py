"""Boxes of objects, several for an image, and how well other boxes overlap them.

A box is (x0, y0, x1, y1) in pixels with its ends exclusive, so its width is x1 - x0; pixel (row, column) spans
[column, column + 1) by [row, row + 1). Other conventions are converted where they are needed, by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssimpert.errors import InputError

Boxes = Tensor | Sequence[Tensor]
"""The boxes of B images: (B, 4) for one each, or B tensors (k, 4), k at least 1 and free to differ."""


def padded_boxes(boxes: Boxes, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The boxes of ``count`` images as (B, K, 4) float64 on ``device``, and (B, K) bool: which of them are real.

    Raises:
        InputError: another number of images, an image without boxes, a box that is not finite or has no area.
    """
    if isinstance(boxes, Tensor):
        if boxes.shape != (count, 4):
            raise InputError(f"boxes must have shape ({count}, 4), one an image, got {tuple(boxes.shape)}")
        rows = list(boxes[:, None])
    else:
        rows = list(boxes)
        if len(rows) != count:
            raise InputError(f"boxes must be given for each of the {count} images, got {len(rows)}")
    for index, row in enumerate(rows):
        _check_row(index, row)
    most = max(len(row) for row in rows)
    padded = torch.zeros(count, most, 4, dtype=torch.float64, device=device)
    real = torch.zeros(count, most, dtype=torch.bool, device=device)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row.to(padded)
        real[index, : len(row)] = True
    return padded, real


def best_iou(estimates: Tensor, boxes: Tensor, real: Tensor) -> Tensor:
    """Largest intersection over union with any real box of the image: (B, N, 4) and (B, K, 4), (B, K) -> (B, N)."""
    left, right = estimates[:, :, None, :], boxes[:, None, :, :]
    sides = torch.minimum(left[..., 2:], right[..., 2:]) - torch.maximum(left[..., :2], right[..., :2])
    overlap = sides.clamp(min=0).prod(dim=-1)
    union = box_areas(left) + box_areas(right) - overlap
    return (overlap / union).masked_fill(~real[:, None, :], 0).amax(dim=2)


def box_areas(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...), in square pixels."""
    return (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)


def bounding_boxes(masks: Tensor) -> Tensor:
    """The tightest box around the True pixels of each mask; the whole image where there are none.

    (B, H, W) bool -> (B, 4) float64.
    """
    height, width = masks.shape[-2:]
    x0, x1 = _extent(masks.any(dim=1))
    y0, y1 = _extent(masks.any(dim=2))
    boxes = torch.stack([x0, y0, x1, y1], dim=1).double()
    whole = boxes.new_tensor([0, 0, width, height])
    return torch.where(masks.flatten(1).any(dim=1)[:, None], boxes, whole)


def box_masks(boxes: Boxes, count: int, height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """The union of each image's boxes as (B, H, W) bool: a pixel is in where its centre is."""
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


def _check_row(index: int, row: Tensor) -> None:
    if not isinstance(row, Tensor) or row.ndim != 2 or row.shape[1] != 4 or len(row) == 0:
        got = tuple(row.shape) if isinstance(row, Tensor) else type(row).__name__
        raise InputError(f"the boxes of image {index} must be (k, 4) with k at least 1, got {got}")
    if not bool(row.isfinite().all()):
        raise InputError(f"the boxes of image {index} must be finite, got {row.tolist()}")
    if not bool((row[:, 2:] > row[:, :2]).all()):
        raise InputError(f"the boxes of image {index} must have x0 < x1 and y0 < y1, got {row.tolist()}")
