"""Antialiased resizing, on 8-bit pixels or in floating point."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_Pixels = TypeVar("_Pixels", NDArray[np.uint8], NDArray[np.floating], NDArray[np.uint8] | NDArray[np.floating])


def resize_and_crop(pixels: _Pixels, size: int, filter: Image.Resampling = Image.Resampling.BICUBIC) -> _Pixels:
    """Resize ``pixels`` (H, W, 3) so that the shorter side has ``size`` pixels, then cut out the central square."""
    height, width = pixels.shape[:2]
    scale = size / min(height, width)
    resized = resize(pixels, max(size, round(height * scale)), max(size, round(width * scale)), filter)
    top, left = (resized.shape[0] - size) // 2, (resized.shape[1] - size) // 2
    return resized[top : top + size, left : left + size]


def resize(pixels: _Pixels, height: int, width: int, filter: Image.Resampling = Image.Resampling.BICUBIC) -> _Pixels:
    """Resize ``pixels`` (H, W, 3) to (height, width, 3) with antialiasing, bicubic or by another Pillow ``filter``.

    Pixels that have this size already are returned unchanged. A mask may be (H, W) uint8. uint8 pixels may have opacity
    as a fourth channel, which then weights the colours. uint8 gives uint8. Floating point in [0, 1] gives float32,
    clipped to [0, 1], since bicubic interpolation overshoots.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize((width, height), filter))
    channels = [
        Image.fromarray(pixels[:, :, c].astype(np.float32)).resize((width, height), filter)
        for c in range(pixels.shape[2])
    ]
    return np.clip(np.stack([np.asarray(channel) for channel in channels], axis=2), 0, 1)
