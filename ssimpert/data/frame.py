"""The part of a photo that a model sees: where its boxes, points and masks lie in the model's pixels, and back.

Coordinates are continuous. Pixel (row, column) covers [column, column + 1) x [row, row + 1), so its centre lies at
x = column + 0.5, y = row + 0.5. The resampling of :func:`ssimpert.load_image` has the same convention: the centre of
pixel (row, column) of the model is computed from the photo around the point that :meth:`Frame.points_to_photo` gives
for this centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.validation import check_count

Coordinates = Tensor | NDArray[Any] | Sequence[Sequence[float]]
"""Rows of numbers: a tensor, an array or a list of lists."""


@dataclass(frozen=True)
class FramedBoxes:
    """Boxes that were carried to another image.

    Attributes:
        boxes: (k, 4) float64: (x0, y0, x1, y1), ends exclusive, clipped to the image.
        kept: for each of these boxes its number among the given boxes, rising.
        clipped: the numbers of the given boxes that lie partly outside of the image.
        vanished: the numbers of the given boxes that lie wholly outside. They are not among ``boxes``.
    """

    boxes: Tensor
    kept: tuple[int, ...]
    clipped: tuple[int, ...]
    vanished: tuple[int, ...]


@dataclass(frozen=True)
class Frame:
    """How a photo becomes a model's image: the shorter side is resized to ``size``, and the central square cut out.

    Attributes:
        width: the photo's width in pixels, after a camera's EXIF rotation.
        height: the photo's height in pixels.
        size: the side of the model's square images in pixels; None for a photo that is kept as it is.

    Raises:
        InputError: a side that is no integer of at least 1.
    """

    width: int
    height: int
    size: int | None = None

    def __post_init__(self) -> None:
        for name in ("width", "height", "size"):
            value = getattr(self, name)
            if value is not None or name != "size":
                object.__setattr__(self, name, check_count(name, value))

    @property
    def resized_width(self) -> int:
        """The width in pixels of the whole photo, resized."""
        return self._resized(self.width)

    @property
    def resized_height(self) -> int:
        """The height in pixels of the whole photo, resized."""
        return self._resized(self.height)

    @property
    def model_width(self) -> int:
        """The width in pixels of the model's image."""
        return self.width if self.size is None else self.size

    @property
    def model_height(self) -> int:
        """The height in pixels of the model's image."""
        return self.height if self.size is None else self.size

    @property
    def left(self) -> int:
        """How many columns of the resized photo are cut off on the left."""
        return (self.resized_width - self.model_width) // 2

    @property
    def top(self) -> int:
        """How many rows of the resized photo are cut off at the top."""
        return (self.resized_height - self.model_height) // 2

    @property
    def seen_box(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1): the part of the photo that the model sees, in the photo's pixels."""
        right, bottom = self.left + self.model_width, self.top + self.model_height
        # Multiplied first, so that whole numbers stay whole.
        x0, x1 = (column * self.width / self.resized_width for column in (self.left, right))
        y0, y1 = (row * self.height / self.resized_height for row in (self.top, bottom))
        return x0, y0, x1, y1

    def notes(self) -> tuple[str, ...]:
        """What is done to the photo's geometry, in words; nothing where the photo is kept as it is."""
        resized = (self.resized_width, self.resized_height)
        is_resized, is_cut = resized != (self.width, self.height), resized != (self.model_width, self.model_height)
        resizing = f"resized from {self.width}x{self.height} to {resized[0]}x{resized[1]} pixels"
        cutting = f"cut to the central {self.model_width}x{self.model_height} pixels"
        return tuple(note for note, is_done in ((resizing, is_resized), (cutting, is_cut)) if is_done)

    def points_to_model(self, points: Coordinates) -> Tensor:
        """Points (n, 2), (x, y) in the photo's pixels, in the model's pixels: (n, 2) float64.

        Points outside of the model's image are not clipped: their coordinates are negative, or beyond ``size``.

        Raises:
            InputError: another shape, or a number that is not finite.
        """
        return _rows("points", points, 2) * self._scale() - self._offset()

    def points_to_photo(self, points: Coordinates) -> Tensor:
        """Points (n, 2), (x, y) in the model's pixels, in the photo's pixels: (n, 2) float64.

        Raises:
            InputError: another shape, or a number that is not finite.
        """
        return (_rows("points", points, 2) + self._offset()) / self._scale()

    def boxes_to_model(self, boxes: Coordinates) -> FramedBoxes:
        """Boxes (n, 4), (x0, y0, x1, y1) in the photo's pixels with exclusive ends, in the model's pixels.

        Raises:
            InputError: another shape, a number that is not finite, or a box without x0 < x1 and y0 < y1.
        """
        corners = self.points_to_model(_checked_boxes(boxes).reshape(-1, 2))
        return _clipped(corners.reshape(-1, 4), self.model_width, self.model_height)

    def boxes_to_photo(self, boxes: Coordinates) -> FramedBoxes:
        """Boxes (n, 4), (x0, y0, x1, y1) in the model's pixels with exclusive ends, in the photo's pixels.

        Raises:
            InputError: another shape, a number that is not finite, or a box without x0 < x1 and y0 < y1.
        """
        corners = self.points_to_photo(_checked_boxes(boxes).reshape(-1, 2))
        return _clipped(corners.reshape(-1, 4), self.width, self.height)

    def mask_to_model(self, mask: Tensor) -> Tensor:
        """A mask of the photo, (height, width), as a mask of the model's image, by nearest neighbours.

        A pixel of the model's image has the value of the photo's pixel that its centre lies in.

        Raises:
            InputError: a mask of another shape.
        """
        self._check_mask(mask, self.height, self.width)
        rows = _photo_pixels(self.model_height, self.top, self.height, self.resized_height)
        columns = _photo_pixels(self.model_width, self.left, self.width, self.resized_width)
        return mask[rows.to(mask.device)][:, columns.to(mask.device)]

    def mask_to_photo(self, mask: Tensor) -> Tensor:
        """A mask of the model's image as a mask (height, width) of the photo, by nearest neighbours.

        Pixels of the photo that the model does not see are 0 (False).

        Raises:
            InputError: a mask of another shape.
        """
        self._check_mask(mask, self.model_height, self.model_width)
        rows = _model_pixels(self.height, self.top, self.resized_height)
        columns = _model_pixels(self.width, self.left, self.resized_width)
        row_seen = (rows >= 0) & (rows < self.model_height)
        column_seen = (columns >= 0) & (columns < self.model_width)
        result = mask.new_zeros(self.height, self.width)
        seen = mask[rows[row_seen].to(mask.device)][:, columns[column_seen].to(mask.device)]
        result[row_seen.nonzero().to(mask.device), column_seen.nonzero().T.to(mask.device)] = seen
        return result

    def _resized(self, side: int) -> int:
        if self.size is None:
            return side
        return max(self.size, round(side * (self.size / min(self.width, self.height))))

    def _scale(self) -> Tensor:
        """(2,) float64: the model's pixels for each pixel of the photo, along x and y."""
        return torch.tensor([self.resized_width / self.width, self.resized_height / self.height], dtype=torch.float64)

    def _offset(self) -> Tensor:
        return torch.tensor([self.left, self.top], dtype=torch.float64)

    def _check_mask(self, mask: Tensor, height: int, width: int) -> None:
        if not isinstance(mask, Tensor) or tuple(mask.shape) != (height, width):
            got = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            raise InputError(f"mask must be a tensor ({height}, {width}), height and width, got {got}")


def _photo_pixels(count: int, offset: int, photo_side: int, resized_side: int) -> Tensor:
    """For each of the model's pixels along one axis, the photo's pixel that its centre lies in; in whole numbers."""
    centres = 2 * (torch.arange(count) + offset) + 1
    return centres * photo_side // (2 * resized_side)


def _model_pixels(photo_side: int, offset: int, resized_side: int) -> Tensor:
    """For each of the photo's pixels along one axis, the model's pixel that its centre lies in, perhaps outside."""
    centres = 2 * torch.arange(photo_side) + 1
    return centres * resized_side // (2 * photo_side) - offset


def _rows(name: str, values: Coordinates, length: int) -> Tensor:
    """``values`` as (n, length) float64 on the CPU."""
    try:
        array = values if isinstance(values, Tensor) else np.asarray(values, dtype=np.float64)
        rows = torch.as_tensor(array, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} must be rows of {length} numbers, got {type(values).__name__} ({error})") from error
    if rows.numel() == 0 and rows.ndim <= 2:
        return rows.reshape(0, length)
    if rows.ndim != 2 or rows.shape[1] != length:
        raise InputError(f"{name} must have shape (n, {length}), got {tuple(rows.shape)}")
    unusable = (~rows.isfinite()).any(dim=1).nonzero()
    if len(unusable):
        index = int(unusable[0])
        raise InputError(f"{name} must be finite, got {rows[index].tolist()} in row {index}")
    return rows.detach()


def _checked_boxes(boxes: Coordinates) -> Tensor:
    rows = _rows("boxes", boxes, 4)
    empty = (rows[:, 2:] <= rows[:, :2]).any(dim=1).nonzero()
    if len(empty):
        index = int(empty[0])
        raise InputError(f"boxes must have x0 < x1 and y0 < y1, got {rows[index].tolist()} in row {index}")
    return rows


def _clipped(boxes: Tensor, width: int, height: int) -> FramedBoxes:
    limits = torch.tensor([width, height, width, height], dtype=torch.float64)
    inside = torch.minimum(boxes.clamp(min=0), limits)
    remains = (inside[:, 2:] > inside[:, :2]).all(dim=1)
    is_clipped = remains & (inside != boxes).any(dim=1)
    return FramedBoxes(
        boxes=inside[remains],
        kept=_numbers(remains),
        clipped=_numbers(is_clipped),
        vanished=_numbers(~remains),
    )


def _numbers(chosen: Tensor) -> tuple[int, ...]:
    return tuple(chosen.nonzero().flatten().tolist())
