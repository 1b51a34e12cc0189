"""Pictures as masks: which pixels are bright."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssimpert.data.decoding import decode_picture
from ssimpert.data.file_kinds import path_fault
from ssimpert.data.frame import Frame
from ssimpert.data.resizing import DEEP_WHITE
from ssimpert.errors import InputError
from ssimpert.validation import check_count

BRIGHT = 128
"""The least grey level, of 255, that counts as bright."""

LUMA = (19595, 38470, 7471)
"""The weights of red, green and blue (ITU-R BT.601: 0.299, 0.587, 0.114) times 65536, as Pillow has them."""

ASPECT_TOLERANCE = 0.01
"""The relative difference of proportions, width over height, that rounding a size may cause."""


def load_mask(path: str | Path, size: int | None = None) -> Tensor:
    """The bright pixels of a picture, bool (H, W), on the CPU.

    Args:
        path: any picture file that :func:`~ssimpert.data.load_image` reads. A pixel is bright if its grey level (luma
            of ITU-R BT.601) is at least 128 of 255. Transparent pixels are shown on white, so they are bright.
        size: side of the square result in pixels. The mask is resized and cut as :func:`~ssimpert.data.load_image`
            does, but by nearest neighbours. So a mask of a photo's own size stays in register with the photo. None
            (default) keeps the mask as it is.

    Raises:
        InputError: there is no such file, it is no readable picture, or ``size`` is no integer of at least 1.
    """
    path = Path(path)
    size = None if size is None else check_count("size", size)
    fault = path_fault(path)
    if fault is not None:
        raise InputError(f"mask {str(path)!r} is not a file: it {fault}; give a picture file")
    picture = decode_picture(path).pixels
    if isinstance(picture, Image.Image):
        is_bright = np.asarray(picture.convert("L")) >= BRIGHT
    else:  # 16-bit levels
        is_bright = picture.astype(np.int64) @ np.array(LUMA) >= BRIGHT * (DEEP_WHITE // 255) * sum(LUMA)
    bright = torch.from_numpy(is_bright)
    height, width = bright.shape
    return Frame(width, height, size).mask_to_model(bright)


def check_proportions(path: str | Path, mask: Tensor, name: str, frame: Frame) -> None:
    """Raise :class:`InputError` unless the ``mask`` (H, W) in the file ``path`` fits the image ``name``.

    A mask of the image's proportions fits, and so does a square one: a mask of the central square. ``frame`` has the
    image's size.
    """
    height, width = mask.shape
    difference = abs(width * frame.height - frame.width * height)
    if width != height and difference > ASPECT_TOLERANCE * frame.width * height:
        raise InputError(
            f"mask {str(path)!r} is {width}x{height} pixels, image {name!r} {frame.width}x{frame.height}; give a mask "
            "of the image's proportions, or a square one for the central square"
        )
