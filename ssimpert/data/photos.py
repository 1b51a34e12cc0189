"""A photo as a classifier gets it: its pixels, where they lie in the photo, and what was done to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from solvers.validation import as_integer, shown
from ssimpert.data.array_files import array_size, decode_array
from ssimpert.data.decoding import DecodedPicture, decode_picture, picture_size
from ssimpert.data.file_kinds import path_exists, path_fault
from ssimpert.data.frame import Frame
from ssimpert.data.resizing import DEEP_WHITE, resize_and_crop
from ssimpert.data.samples import is_sample, sample_array, samples
from ssimpert.device import resolve_device
from ssimpert.errors import InputError, unknown_name

SMALLEST_IMAGE_SIDE = 16
"""In pixels. A smaller image has no room for the 11x11 windows of the SSIM index, and shows nothing."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo, loaded.

    Attributes:
        name: the sample's name, or the path, as it was given.
        image: (1, 3, H, W), RGB in [0, 1].
        frame: which part of the photo the image shows. It carries boxes, points and masks to the image and back.
        notes: what was done to the photo, in words: frames left out, colours converted, transparency shown on white,
            rotation, resizing, cutting. Empty where the image has the file's own pixels.
    """

    name: str
    image: Tensor
    frame: Frame
    notes: tuple[str, ...]


def load_photo(
    name_or_path: str | Path,
    size: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Photo:
    """A photo as :func:`ssimpert.load_image` loads it, with its frame and with notes of what was done.

    The parameters, and the errors, are those of :func:`ssimpert.load_image`.
    """
    size = check_size(size)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(f"dtype {dtype!r} is not valid; give a floating type such as torch.float32")
    target = resolve_device(device)
    return framed_photo(name_or_path, decode_photo(name_or_path), size, dtype, target)


def decode_photo(name_or_path: str | Path, *, upright: bool = True) -> DecodedPicture:
    """The pixels of a photo in its own size: of a sample, an image file or a ``.npy`` array.

    Args:
        name_or_path: as for :func:`ssimpert.load_image`.
        upright: whether a camera's EXIF rotation is applied. Default True. Annotations of many data sets are of the
            pixels as they are stored.

    Raises:
        InputError: as :func:`ssimpert.load_image`.
    """
    path = _file(name_or_path)
    if path is None:
        return DecodedPicture(Image.fromarray(sample_array(str(name_or_path))), ())
    if path.suffix == ".npy":
        return DecodedPicture(decode_array(path), ())
    return decode_picture(path, upright=upright)


def framed_photo(
    name_or_path: str | Path,
    decoded: DecodedPicture,
    size: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Photo:
    """A photo from its decoded pixels, resized and cut.

    Args:
        name_or_path: what the photo and errors are called.
        decoded: what :func:`decode_photo` gives.
        size: as for :func:`ssimpert.load_image`, like ``dtype`` and ``device``.
        dtype: of the image.
        device: of the image.

    Raises:
        InputError: a side has under 16 pixels, or ``device`` is unusable.
    """
    target = resolve_device(device)
    frame = _frame(name_or_path, *decoded.size, size)
    pixels = resize_and_crop(decoded.pixels, frame)
    if pixels.dtype == np.uint16:
        pixels = pixels / np.float64(DEEP_WHITE)
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).unsqueeze(0)
    tensor = tensor.to(dtype) / 255 if pixels.dtype == np.uint8 else tensor.to(dtype)
    return Photo(str(name_or_path), tensor.to(target), frame, (*decoded.notes, *frame.notes()))


def photo_frame(name_or_path: str | Path, size: int | None = None) -> Frame:
    """The frame that a photo has when it is loaded at ``size``. Of a file only the header is read.

    Raises:
        InputError: as :func:`ssimpert.load_image`, for what a header shows.
    """
    size = check_size(size)
    path = _file(name_or_path)
    if path is None:
        height, width = sample_array(str(name_or_path)).shape[:2]
    else:
        width, height = array_size(path) if path.suffix == ".npy" else picture_size(path)
    return _frame(name_or_path, width, height, size)


def check_size(size: int | None) -> int | None:
    """``size`` as an int, or ``None``; :class:`InputError` unless it is a side in pixels that a picture can have."""
    if size is None:
        return None
    side = as_integer(size)
    if side is None or side < SMALLEST_IMAGE_SIDE:
        raise InputError(
            f"size {shown(size)} is not valid; give an integer of at least {SMALLEST_IMAGE_SIDE} pixels, or None"
        )
    return side


def _frame(name_or_path: str | Path, width: int, height: int, size: int | None) -> Frame:
    if min(height, width) < SMALLEST_IMAGE_SIDE:
        raise InputError(
            f"{str(name_or_path)!r} is {width}x{height} pixels; each side must have at least {SMALLEST_IMAGE_SIDE}"
        )
    return Frame(width, height, size)


def _file(name_or_path: str | Path) -> Path | None:
    """The file that ``name_or_path`` means; None for a sample.

    Raises:
        InputError: there is neither such a file nor such a sample.
    """
    if not isinstance(name_or_path, str | Path):
        raise InputError(f"an image must be a sample's name or a path, got {type(name_or_path).__name__}")
    name = str(name_or_path)
    if name.startswith(("http://", "https://")):
        raise InputError(f"{name!r} is an address; download the picture and give its file")
    path = Path(name_or_path)
    fault = path_fault(path)
    if fault is None:
        return path
    if isinstance(name_or_path, str) and is_sample(name):
        return None
    is_word = isinstance(name_or_path, str) and not path.suffix and len(path.parts) == 1
    if fault == "does not exist" and is_word and not path_exists(path):
        raise unknown_name("sample or file", name, [sample.name for sample in samples()])
    raise InputError(f"{name!r} {fault}; give an image file or a sample's name")
