"""The contours of a binary image, and their boxes, as OpenCV finds them.

``cv2.findContours`` (Suzuki, Abe, "Topological structural analysis of digitized binary images by border following",
1985) follows the border of every 8-connected component and the border of every hole. A hole is a 4-connected region of
background that does not reach the image's edge. Three conventions of OpenCV decide the figures of MaxBoxAcc:

* A hole's contour runs through the pixels around the hole. Its box is therefore one pixel larger than the hole on each
  side.
* ``cv2.contourArea`` is the area of the polygon through the pixels' *centres*, with holes filled. It is not a count of
  pixels: a single pixel and a thin line have area 0.
* The list of contours has an order. Among contours of equal area the released evaluator takes the first of the list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
BoxArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ContourBoxes:
    """The boxes of a binary image's contours.

    Attributes:
        all: (k, 4) int64, (x, y, x + width, y + height) for every contour, ends exclusive, in OpenCV's order.
        largest: index into ``all`` of the contour with the largest area; -1 where the image has no contour.
    """

    all: BoxArray
    largest: int


def contour_boxes(mask: Mask) -> ContourBoxes:
    """The boxes of every contour of ``mask`` (H, W), components and holes, as the released evaluator takes them."""
    import cv2  # here, so that the command line starts without OpenCV

    contours, _ = cv2.findContours(mask.astype(np.uint8), mode=cv2.RETR_TREE, method=cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return ContourBoxes(np.zeros((0, 4), dtype=np.int64), -1)
    boxes = np.array([cv2.boundingRect(contour) for contour in contours], dtype=np.int64)
    boxes[:, 2:] += boxes[:, :2]
    return ContourBoxes(boxes, int(np.argmax([cv2.contourArea(contour) for contour in contours])))
