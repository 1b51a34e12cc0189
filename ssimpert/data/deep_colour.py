"""Colour pictures of 16 bits, which Pillow reads with 8: PNG and TIFF files, decoded by OpenCV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssimpert.data.resizing import DEEP_WHITE
from ssimpert.errors import InputError

_ORIENTATION_TAG, _BITS_TAG, _PLANES_TAG = 274, 258, 284
_SEPARATE_PLANES = 2


def is_deep_colour(picture: Image.Image) -> bool:
    """Whether the file behind ``picture``, opened but not loaded, holds colours or opacity of 16 bits."""
    if picture.mode not in {"RGB", "RGBA", "RGBX", "LA"}:
        return False
    if picture.format == "PNG":
        return "16" in raw_modes(picture)
    if picture.format == "TIFF":
        return 16 in picture.tag_v2.get(_BITS_TAG, ())  # type: ignore[attr-defined]
    return False


def raw_modes(picture: Image.Image) -> str:
    """How the pixels of ``picture``, opened but not loaded, lie in the file, in Pillow's words."""
    return " ".join(str(tile.args) for tile in getattr(picture, "tile", []))


def decodes_deeply(picture: Image.Image, path: Path) -> bool:
    """Whether :func:`decode_deep_colour` takes this picture: OpenCV would turn a turned TIFF, or fail at it.

    Raises:
        InputError: a TIFF of 16 bits whose channels lie in separate planes, which Pillow reads wrongly.
    """
    if picture.format == "PNG":
        return True
    tags = picture.tag_v2  # type: ignore[attr-defined]
    if tags.get(_PLANES_TAG) == _SEPARATE_PLANES:
        raise InputError(f"{str(path)!r} is a 16-bit TIFF with separate planes; save it with interleaved channels")
    return tags.get(_ORIENTATION_TAG, 1) == 1


def decode_deep_colour(path: Path, *, premultiplied: bool) -> tuple[NDArray[np.uint16], bool]:
    """The levels (H, W, 3), uint16, of a 16-bit colour file, on white, and whether some pixel was not opaque.

    ``premultiplied``: whether the file's colours are already multiplied by their opacity.

    Raises:
        InputError: OpenCV can't decode the file.
    """
    import cv2

    # OpenCV crashes at file names that are no UTF-8, so the file is read here.
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    try:
        levels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        levels = None
    if levels is None or levels.dtype != np.uint16 or levels.ndim != 3:
        raise InputError(f"{str(path)!r} holds 16-bit colours that OpenCV can't decode; save it as a 16-bit PNG")
    colours = levels[:, :, 2::-1]
    if levels.shape[2] == 3:
        return colours, False
    is_transparent = bool(levels[:, :, 3].min() < DEEP_WHITE)
    if is_transparent:
        for row, opacity in zip(colours, levels[:, :, 3:], strict=True):
            light = row if premultiplied else row * (opacity / DEEP_WHITE)
            row[:] = np.clip(np.rint(light + (DEEP_WHITE - opacity.astype(np.float64))), 0, DEEP_WHITE)
    return colours, is_transparent
