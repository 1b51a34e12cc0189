"""Files into pixel arrays: which files are read, which are refused, and why."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ssimpert.errors import InputError

_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"}
_REFUSED = {
    "F": "32-bit float pixels have no fixed range; save them as a .npy array in [0, 1]",
    "CMYK": "ink colours need the printer's profile to become RGB; convert it to RGB first",
    "LAB": "Lab colours need a white point to become RGB; convert it to RGB first",
}


# Parts of the errors by which Pillow refuses to unpack the texts of a PNG that would fill the memory.
_TEXT_TOO_LARGE = ("MAX_TEXT_CHUNK", "MAX_TEXT_MEMORY", "Decompressed Data Too Large")


def decode_picture(path: Path) -> NDArray[np.uint8] | NDArray[np.float32]:
    """The picture in the file ``path``, rotated as its EXIF data say.

    Returns:
        (H, W, 3), uint8 from 8-bit pictures, float32 in [0, 1] from 16-bit grey.

    Raises:
        InputError: the file is no picture, is damaged, holds a text that Pillow does not unpack, or has pixels that
            can't become RGB in [0, 1]; the message says which.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            return _to_rgb(ImageOps.exif_transpose(picture), path)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{str(path)!r} is not an image file that Pillow can read") from error
    except PermissionError as error:
        raise InputError(f"{str(path)!r} may not be read (permission denied)") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{str(path)!r} has too many pixels ({error})") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error) as error:
        if any(words in str(error) for words in _TEXT_TOO_LARGE):
            raise InputError(
                f"{str(path)!r} holds a text or a colour profile beyond Pillow's limit ({_first_line(error)}); "
                "save the picture again without it"
            ) from error
        # The decoders of damaged files raise all of these.
        raise InputError(f"{str(path)!r} is truncated or damaged ({_first_line(error)})") from error


def decode_array(path: Path) -> NDArray[np.floating]:
    """The float array in the ``.npy`` file ``path`` as (H, W, 3), from any layout that ``load_image`` takes.

    Raises:
        InputError: the file holds no such array, or the array has values that are NaN or outside [0, 1].
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{str(path)!r} is not a readable .npy array ({error})") from error
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.floating):
        kind = getattr(array, "dtype", type(array).__name__)
        raise InputError(f"{str(path)!r} holds {kind} values; floating-point pixels in [0, 1] are valid")
    shape = array.shape
    if array.ndim == 4 and shape[:2] == (1, 3):
        array = array[0].transpose(1, 2, 0)
    elif array.ndim == 3 and shape[2] != 3 and shape[0] == 3:
        array = array.transpose(1, 2, 0)
    elif array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    elif not (array.ndim == 3 and shape[2] == 3):
        raise InputError(f"{str(path)!r} has shape {shape}; valid: (H,W), (H,W,3), (3,H,W), (1,3,H,W)")
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise InputError(f"{str(path)!r} holds values from {array.min():.6g} to {array.max():.6g}; [0, 1] is valid")
    # torch has no long doubles and no foreign byte order.
    native = np.dtype(f"f{min(array.dtype.itemsize, 8)}")
    return array.astype(native, copy=False)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _to_rgb(picture: Image.Image, path: Path) -> NDArray[np.uint8] | NDArray[np.float32]:
    mode = picture.mode
    if mode == "I" or mode.startswith("I;16"):
        return _grey_16_bit(picture, path)
    if mode not in _EIGHT_BIT:
        reason = _REFUSED.get(mode, "convert it to 8-bit RGB first")
        raise InputError(f"{str(path)!r} has Pillow's pixel mode {mode!r}: {reason}")
    if mode in {"LA", "PA", "RGBA"} or "transparency" in picture.info:
        picture = _on_white(picture)
    return np.asarray(picture.convert("RGB"))


def _on_white(picture: Image.Image) -> Image.Image:
    """``picture`` on a white background. Opaque pixels keep their colour exactly."""
    layered = picture.convert("RGBA")
    white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layered)


def _grey_16_bit(picture: Image.Image, path: Path) -> NDArray[np.float32]:
    if "transparency" in picture.info:
        raise InputError(f"{str(path)!r} is 16-bit grey with a transparent level; flatten it first")
    levels = np.asarray(picture).astype(np.int64)
    low, high = int(levels.min()), int(levels.max())
    if low < 0 or high > 65535:
        raise InputError(f"{str(path)!r} holds 32-bit integers from {low} to {high}; valid: 0 to 65535 (16 bits)")
    grey = (levels / 65535).astype(np.float32)
    return np.repeat(grey[:, :, None], 3, axis=2)
