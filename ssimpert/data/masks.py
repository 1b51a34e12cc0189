"""Pictures as masks: which pixels are bright."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ssimpert.data.decoding import decode_picture
from ssimpert.data.resizing import resize_and_crop
from ssimpert.errors import InputError
from ssimpert.validation import check_count

BRIGHT = 128
"""The least grey level, of 255, that counts as bright."""


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
    if not path.is_file():
        raise InputError(f"mask {str(path)!r} is not a file; give a picture file")
    bright = _bright(decode_picture(path))
    if size is not None:
        bright = resize_and_crop(bright, size, Image.Resampling.NEAREST)
    return torch.from_numpy(bright > 0)


def _bright(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W, 3) to (H, W): 255 where bright, else 0."""
    # Floating-point pixels come from 16-bit grey: three equal channels in [0, 1].
    is_eight_bit = pixels.dtype == np.uint8
    grey = np.asarray(Image.fromarray(pixels).convert("L")) if is_eight_bit else 255 * pixels[:, :, 0]
    return np.where(grey >= BRIGHT, 255, 0).astype(np.uint8)
