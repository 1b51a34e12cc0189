"""Outlines of objects in COCO JSON, as pixels: polygons and run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssimpert.data.frame import Frame
from ssimpert.errors import InputError


def outline_pixels(outline: Any, what: str, frame: Frame) -> np.ndarray:
    """The pixels within one outline, (height, width) bool: polygons, or run lengths, plain or compressed.

    Args:
        outline: the entry "segmentation" of an annotation.
        what: which annotation it is, for errors.
        frame: of the photo, for its size.

    Raises:
        InputError: the outline is none of these, or of a photo of another size; a corner lies more than the photo's
            side beside the photo, or is not finite; pycocotools is not installed.
    """
    coco = require_pycocotools()
    fault = InputError(f"{what} has no usable 'segmentation'; polygons or run lengths (RLE) are valid")
    try:
        if isinstance(outline, list):
            polygons = [[float(value) for value in polygon] for polygon in outline]
            if not polygons or any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
                raise fault
            _check_corners(polygons, what, frame)
            codes = coco.frPyObjects(polygons, frame.height, frame.width)
        else:
            if list(outline["size"]) != [frame.height, frame.width]:
                raise InputError(
                    f"{what} has run lengths of {outline['size'][1]}x{outline['size'][0]} pixels, its photo has "
                    f"{frame.width}x{frame.height}"
                )
            counts = outline["counts"]
            lengths = [int(count) for count in counts] if isinstance(counts, list) else _run_lengths(counts)
            # pycocotools fills what the run lengths leave over with whatever is in memory.
            if sum(lengths) != frame.height * frame.width or min(lengths, default=0) < 0:
                raise fault
            plain = {"size": [frame.height, frame.width], "counts": lengths}
            codes = [coco.frPyObjects(plain, frame.height, frame.width)]
        pixels: np.ndarray = coco.decode(coco.merge(codes)).astype(bool)
    except InputError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise fault from error
    return pixels


def _check_corners(polygons: list[list[float]], what: str, frame: Frame) -> None:
    """Raise :class:`InputError` for a corner that lies more than the photo's side beside the photo.

    pycocotools walks along the edges in steps of a fifth of a pixel: a far corner takes all memory, and a corner that
    is not finite ends the process.
    """
    for polygon in polygons:
        for x, y in zip(polygon[0::2], polygon[1::2], strict=True):
            if not (-frame.width <= x <= 2 * frame.width and -frame.height <= y <= 2 * frame.height):
                raise InputError(
                    f"{what} has a corner at ({x:g}, {y:g}), far outside of its photo of {frame.width}x{frame.height} "
                    "pixels"
                )


def _run_lengths(counts: str) -> list[int]:
    """The run lengths that COCO compresses to characters: 5 bits in each, the lowest first, as differences.

    From the third run on a number is the difference to the run before the last (cocoapi, maskApi.c, rleFrString).
    """
    lengths: list[int] = []
    value = shift = 0
    for character in counts:
        code = ord(character) - 48
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:  # more characters follow
            continue
        if code & 0x10:  # negative
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    return lengths


def require_pycocotools() -> Any:
    """The module ``pycocotools.mask``; :class:`InputError` where pycocotools is not installed."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError("outlines in COCO JSON need pycocotools: pip install 'ssimpert[coco]'") from error
    return mask
