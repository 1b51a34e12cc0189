"""Antialiased resizing, on 8-bit pixels or in floating point."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssimpert.data.frame import Frame

_Pixels = TypeVar("_Pixels", NDArray[np.uint8], NDArray[np.floating])

DEEP_WHITE = 65535
"""The largest level of 16 bits."""

_MAX_RESIZED_SHARE = 4
"""A photo whose resized sides are at most this many times the model's side is resized whole, and cut afterwards."""

_CUBIC_SUPPORT = 2
"""In pixels of the smaller image: how far Pillow's bicubic kernel reaches to each side."""

_STRIP_PIXELS = 4_000_000
"""How many pixels of a channel are brought to floating point at a time."""

_BICUBIC = Image.Resampling.BICUBIC

Box = tuple[float, float, float, float]


def resize_and_crop(picture: Image.Image | NDArray[Any], frame: Frame) -> NDArray[Any]:
    """The model's image (S, S, 3) of an RGB ``picture``, or of pixels (H, W, 3), as ``frame`` says.

    Bicubic, antialiased; first the rows are resized, then the columns. A picture gives uint8. Pixels in floating point
    in [0, 1], or 16-bit levels (uint16), give float32 in [0, 1]. A picture that has this size already, or keeps its
    size, is returned unchanged.

    A picture that is much longer than broad is cut before it is resized: else a picture of 100000x16 pixels would be
    resized to 1400000x224. Both orders give the same image up to single precision in the coordinates of Pillow's
    resampling.
    """
    if frame.size is None or (frame.width, frame.height) == (frame.size, frame.size):
        return np.asarray(picture)
    if max(frame.resized_width, frame.resized_height) <= _MAX_RESIZED_SHARE * frame.size:
        part, seen = (0, 0, frame.width, frame.height), (0.0, 0.0, float(frame.width), float(frame.height))
        size, left, top = (frame.resized_width, frame.resized_height), frame.left, frame.top
    else:
        part, seen = _part_with_neighbours(frame)
        size, left, top = (frame.size, frame.size), 0, 0
    if isinstance(picture, Image.Image):
        cropped = picture if part == (0, 0, *picture.size) else picture.crop(part)
        # In one call Pillow would choose which direction comes first, by rules of its version.
        rows = cropped.resize((size[0], cropped.height), _BICUBIC, box=(seen[0], 0, seen[2], cropped.height))
        resized = np.asarray(rows.resize(size, _BICUBIC, box=(0, seen[1], size[0], seen[3])))
    else:
        x0, y0, x1, y1 = part
        resized = _resized_in_floating_point(picture[y0:y1, x0:x1], size, _BICUBIC, seen)
    return resized[top : top + frame.size, left : left + frame.size]


def resize(pixels: _Pixels, height: int, width: int, filter: Image.Resampling = Image.Resampling.BICUBIC) -> _Pixels:
    """Resize ``pixels`` (H, W, 3) to (height, width, 3) with antialiasing, bicubic or by another Pillow ``filter``.

    Pixels that have this size already are returned unchanged. uint8 pixels may have opacity as a fourth channel, which
    then weights the colours. uint8 gives uint8. Floating point in [0, 1] gives float32 in [0, 1].

    Bicubic interpolation overshoots. 8-bit pixels are clipped after the rows are resized, and again after the columns
    are. Floating point is clipped at both places, too: so one photo gives one image at any depth, up to rounding.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize((width, height), filter))
    whole = (0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0]))
    return _resized_in_floating_point(pixels, (width, height), filter, whole)


def _resized_in_floating_point(
    pixels: NDArray[Any], size: tuple[int, int], filter: Image.Resampling, seen: Box
) -> NDArray[Any]:
    """The part ``seen`` (x0, y0, x1, y1) of ``pixels`` (H, W, C) in [0, 1], resized to ``size``, width and height."""
    width, height = size
    channels = []
    for channel in range(pixels.shape[2]):
        rows = Image.fromarray(_with_resized_rows(pixels[:, :, channel], width, filter, seen))
        resized = rows.resize((width, height), filter, box=(0, seen[1], width, seen[3]))
        channels.append(np.clip(np.asarray(resized), 0, 1))
    return np.stack(channels, axis=2)


def _with_resized_rows(channel: NDArray[Any], width: int, filter: Image.Resampling, seen: Box) -> NDArray[np.float32]:
    """``channel`` (H, W) with each row resized to ``width``, (H, width) in [0, 1]; computed strip by strip."""
    strip_rows = max(1, _STRIP_PIXELS // channel.shape[1])
    strips = []
    for top in range(0, channel.shape[0], strip_rows):
        strip = channel[top : top + strip_rows]
        unit = strip / np.float64(DEEP_WHITE) if strip.dtype == np.uint16 else strip
        layer = Image.fromarray(unit.astype(np.float32))
        strips.append(layer.resize((width, layer.height), filter, box=(seen[0], 0, seen[2], layer.height)))
    return np.clip(np.concatenate([np.asarray(strip) for strip in strips]), 0, 1)


def _part_with_neighbours(frame: Frame) -> tuple[tuple[int, int, int, int], Box]:
    """What the model's image is computed from: the part of the photo in whole pixels, and the seen box within it."""
    x0, y0, x1, y1 = frame.seen_box
    reach_x = _CUBIC_SUPPORT * max(1, frame.width / frame.resized_width) + 1
    reach_y = _CUBIC_SUPPORT * max(1, frame.height / frame.resized_height) + 1
    left, top = max(0, math.floor(x0 - reach_x)), max(0, math.floor(y0 - reach_y))
    right, bottom = min(frame.width, math.ceil(x1 + reach_x)), min(frame.height, math.ceil(y1 + reach_y))
    return (left, top, right, bottom), (x0 - left, y0 - top, x1 - left, y1 - top)
