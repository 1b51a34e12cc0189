"""Boxes of the contours in a binary image, as OpenCV's ``findContours`` gives them, without OpenCV.

``cv2.findContours`` (Suzuki, Abe, 1985; mode ``RETR_TREE``) traces the border of every 8-connected component and of
every hole, a 4-connected background region that doesn't reach the edge. What is needed of a contour is its box and its
area, and both follow from the pixels:

* The contour runs through the border pixels of the component, so its ``boundingRect`` is the component's. A hole's
  contour runs through the pixels around the hole, so its box is the hole's, one pixel larger on each side.
* ``cv2.contourArea`` is the area of the polygon through pixel *centres*, holes filled, and not a count of pixels: a
  single pixel or a thin line has area 0. A block of 2x2 pixels adds 1 where all four belong to the filled component,
  1/2 where three do, else nothing.
* A hole's contour lies inside its component's, so the largest contour is always a component's. Among equal areas
  OpenCV's list has the component first whose uppermost row's first pixel comes last in row-major order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Slices = tuple[slice, slice]

_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class ContourBoxes:
    """Attributes:
    all: (k, 4) int64, the box (x, y, x + width, y + height) of every contour, ends exclusive, components first.
    largest: index into ``all`` of the contour with the largest area; meaningless where there is none.
    """

    all: NDArray[np.int64]
    largest: int


def contour_boxes(mask: Mask) -> ContourBoxes:
    """The boxes of every contour of ``mask`` (H, W)."""
    labels, _ = ndimage.label(mask, structure=_EIGHT_CONNECTED)
    components: list[Slices] = ndimage.find_objects(labels)
    if not components:
        return ContourBoxes(np.zeros((0, 4), dtype=np.int64), 0)
    boxes = [_box(place) for place in components] + _hole_boxes(mask)
    return ContourBoxes(np.array(boxes, dtype=np.int64), _largest(labels, components))


def _largest(labels: NDArray[np.int32], components: list[Slices]) -> int:
    # No polygon is larger than its box through pixel centres, which decides most components without their pixels.
    bounds = [(rows.stop - rows.start - 1) * (columns.stop - columns.start - 1) for rows, columns in components]
    best, best_area = -1, -1.0
    for index in sorted(range(len(components)), key=lambda index: -bounds[index]):
        if bounds[index] < best_area:
            break
        area = _area(labels[components[index]] == index + 1) if bounds[index] else 0.0
        # scipy numbers components by their first pixel in row-major order.
        if area > best_area or (area == best_area and index > best):
            best, best_area = index, area
    return best


def _area(component: Mask) -> float:
    """Area of the outer contour's polygon through pixel centres; ``component``: (h, w), its own box."""
    background, _ = ndimage.label(~np.pad(component, 1))
    filled = (background != background[0, 0])[1:-1, 1:-1].astype(np.int8)
    corners = filled[:-1, :-1] + filled[1:, :-1] + filled[:-1, 1:] + filled[1:, 1:]
    return float(np.count_nonzero(corners == 4) + np.count_nonzero(corners == 3) / 2)


def _hole_boxes(mask: Mask) -> list[tuple[int, int, int, int]]:
    # A ring of background around the image joins what reaches the edge; its label is that of the corner.
    background, _ = ndimage.label(~np.pad(mask, 1))
    outside = int(background[0, 0])
    boxes = []
    for label, place in enumerate(ndimage.find_objects(background), start=1):
        if label != outside:
            x0, y0, x1, y1 = _box(place)
            boxes.append((x0 - 2, y0 - 2, x1, y1))  # 1 for the padding, 1 for the pixels around the hole
    return boxes


def _box(place: Slices) -> tuple[int, int, int, int]:
    rows, columns = place
    return columns.start, rows.start, columns.stop, rows.stop
