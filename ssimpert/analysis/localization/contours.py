"""Boxes of the contours in a binary image, as OpenCV's ``findContours`` gives them, without OpenCV.

``cv2.findContours`` (Suzuki, Abe, 1985; mode ``RETR_TREE``) traces the border of every 8-connected component and of
every hole, a 4-connected background region that doesn't reach the edge. What is needed of a contour is its box and its
area, and both follow from the pixels:

* The contour runs through the border pixels of the component, so its ``boundingRect`` is the component's. A hole's
  contour runs through the pixels around the hole, so its box is the hole's, one pixel larger on each side.
* ``cv2.contourArea`` is the area of the polygon through pixel *centres*, holes filled, and not a count of pixels: a
  single pixel or a thin line has area 0. A block of 2x2 pixels adds 1 where all four belong to the filled component,
  1/2 where three do, else nothing.
* A hole's contour lies inside its component's, which precedes it in OpenCV's list, so the first of the largest
  contours is always a component's. Among components of equal area the first in the list is the one whose own first
  pixel comes last in row-major order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]
BoxArray = NDArray[np.int64]

_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class ContourBoxes:
    """The boxes of a binary image's contours.

    Attributes:
        all: (k, 4) int64, (x, y, x + width, y + height) for every contour, ends exclusive, components first.
        largest: index into ``all`` of the contour with the largest area; -1 where there is none.
    """

    all: BoxArray
    largest: int


def contour_boxes(mask: Mask) -> ContourBoxes:
    """The boxes of every contour of ``mask`` (H, W)."""
    labels, count = ndimage.label(mask, structure=_EIGHT_CONNECTED)
    components = _label_boxes(labels, count)
    return ContourBoxes(np.concatenate([components, _hole_boxes(mask)]), _largest(labels, components))


def _largest(labels: Labels, components: BoxArray) -> int:
    # No polygon is larger than its box through pixel centres, which decides most components without their pixels.
    bounds = (components[:, 2:] - components[:, :2] - 1).prod(axis=1)
    best, best_area = -1, -1.0
    for index in np.argsort(-bounds, kind="stable").tolist():
        if bounds[index] < best_area:
            break
        if bounds[index] == 0:  # single pixels and lines: all that is left, and all of area 0
            return max(best, int(np.flatnonzero(bounds == 0)[-1]))
        x0, y0, x1, y1 = components[index]
        area = _area(labels[y0:y1, x0:x1] == index + 1)
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


def _hole_boxes(mask: Mask) -> BoxArray:
    # A ring of background around the image joins what reaches the edge. It comes first in row-major order: label 1.
    background, count = ndimage.label(~np.pad(mask, 1))
    holes = _label_boxes(background, count)[1:]
    holes[:, :2] -= 2  # 1 for the padding and, on each side, 1 for the pixels around the hole
    return holes


def _label_boxes(labels: Labels, count: int) -> BoxArray:
    """The box of each label 1...count: (count, 4), ends exclusive. ``find_objects`` takes 10 times as long on noise."""
    height, width = labels.shape
    # The ends of a label's runs in the rows have its extremes, and are few in large regions.
    ends = labels > 0
    ends[:, 1:-1] &= (labels[:, 1:-1] != labels[:, :-2]) | (labels[:, 1:-1] != labels[:, 2:])
    places = np.flatnonzero(ends)
    which = labels.ravel()[places] - 1
    rows, columns = np.divmod(places, width)
    boxes = np.tile(np.array([[width], [height], [0], [0]]), count)
    np.minimum.at(boxes[0], which, columns)
    np.minimum.at(boxes[1], which, rows)
    np.maximum.at(boxes[2], which, columns + 1)
    np.maximum.at(boxes[3], which, rows + 1)
    return boxes.T
