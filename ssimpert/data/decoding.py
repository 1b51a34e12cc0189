"""Picture files into RGB pixels: which files are read, which are refused, and why."""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ssimpert.data.colour import (
    conversion_to_srgb,
    converted,
    embedded_profile,
    grey_curve,
    has_transparent_pixels,
)
from ssimpert.data.deep_colour import decode_deep_colour, decodes_deeply, is_deep_colour, raw_modes
from ssimpert.data.pixel_limit import MAX_PIXELS, check_pixel_count, too_many_pixels
from ssimpert.data.resizing import DEEP_WHITE
from ssimpert.errors import InputError

_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr"}
_REFUSED = {
    "F": "32-bit float pixels have no fixed range; save them as a .npy array in [0, 1]",
    "LAB": "Lab colours need a white point to become RGB; convert it to RGB first",
}
# Parts of the errors by which Pillow refuses to unpack the texts of a PNG that would fill the memory.
_TEXT_TOO_LARGE = ("MAX_TEXT_CHUNK", "MAX_TEXT_MEMORY", "Decompressed Data Too Large")

_ORIENTATION_TAG = 0x0112
# EXIF 2.3: what undoes each orientation, for pictures and for arrays (H, W, 3).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDES_SWAPPED = {5, 6, 7, 8}
_TRANSPARENT = "transparent pixels shown on white"


@dataclass(frozen=True)
class DecodedPicture:
    """A picture in sRGB, in its own size.

    Attributes:
        pixels: an RGB picture for files of 8 bits; (H, W, 3) uint16 for files of 16 bits, white at 65535; (H, W, 3) in
            floating point in [0, 1] for arrays.
        notes: what was done to the pixels, in words.
    """

    pixels: Image.Image | NDArray[Any]
    notes: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        if isinstance(self.pixels, Image.Image):
            return self.pixels.size
        return self.pixels.shape[1], self.pixels.shape[0]


def decode_picture(path: Path, *, upright: bool = True) -> DecodedPicture:
    """The picture in the file ``path``, in sRGB, rotated as its EXIF data say.

    With ``upright=False`` the EXIF rotation is not applied: annotations of many data sets are of the pixels as they are
    stored.

    The number of pixels is looked at before any pixel is decoded. A colour profile, the file's own, is applied.
    Printing inks without a profile are converted by the plain formula (1 - ink)(1 - black). Transparent pixels are
    shown on white. The first frame of an animation is read.

    Raises:
        InputError: the file is no picture, is damaged, has too many pixels, holds a text that Pillow does not unpack,
            or has pixels that can't become RGB in [0, 1]; the message says which.
    """
    with opened_picture(path) as picture:
        notes = ("the first of several frames",) if getattr(picture, "is_animated", False) else ()
        if is_deep_colour(picture) and decodes_deeply(picture, path):
            return _deep_colour(picture, path, notes, upright=upright)
        before = _orientation(picture) if upright else 1
        picture.load()
        orientation = _orientation(picture) if upright else 1  # Pillow itself turns TIFF files
        mode = picture.mode
        if mode == "I" or mode.startswith("I;16"):
            grey, grey_notes = _grey_16_bit(picture, path)
            return DecodedPicture(_turned(grey, orientation), (*notes, *grey_notes, *_turn_notes(before)))
        if mode not in _EIGHT_BIT:
            reason = _REFUSED.get(mode, "convert it to 8-bit RGB first")
            raise InputError(f"{str(path)!r} has Pillow's pixel mode {mode!r}: {reason}")
        conversion, colour_notes = conversion_to_srgb(picture)
        if has_transparent_pixels(picture):
            colour_notes = (*colour_notes, _TRANSPARENT)
        pixels = _turned(picture if conversion is None else converted(picture, conversion), orientation)
        return DecodedPicture(pixels, (*notes, *colour_notes, *_turn_notes(before)))


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the picture in the file ``path``, after the EXIF rotation; from its header.

    Raises:
        InputError: the file is no picture, or has too many pixels.
    """
    with opened_picture(path) as picture:
        width, height = picture.size
        # Pillow itself swaps the sides of TIFF files.
        swapped = picture.format != "TIFF" and _orientation(picture) in _SIDES_SWAPPED
        return (height, width) if swapped else (width, height)


@contextmanager
def opened_picture(path: Path) -> Iterator[Image.Image]:
    """The picture in the file ``path``, with its number of pixels checked; what goes wrong becomes an InputError."""
    try:
        with warnings.catch_warnings():
            # Above its own limit Pillow warns; here such a picture is refused. It also warns of damaged EXIF data.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            with Image.open(path) as picture:
                if picture.format == "EPS":
                    raise InputError(f"{str(path)!r} is PostScript, a program that draws; save it as a PNG")
                check_pixel_count(path, *picture.size)
                yield picture
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{str(path)!r} is not an image file that Pillow can read") from error
    except PermissionError as error:
        raise InputError(f"{str(path)!r} may not be read (permission denied)") from error
    except Image.DecompressionBombError as error:
        counts = re.findall(r"\d+", str(error))
        raise too_many_pixels(path, int(counts[0]) if counts else MAX_PIXELS + 1) from error
    # The decoders of damaged files raise all of these.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, OverflowError, struct.error) as error:
        if any(words in str(error) for words in _TEXT_TOO_LARGE):
            raise InputError(
                f"{str(path)!r} holds a text or a colour profile beyond Pillow's limit ({_first_line(error)}); "
                "save the picture again without it"
            ) from error
        raise InputError(f"{str(path)!r} is truncated or damaged ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _deep_colour(picture: Image.Image, path: Path, notes: tuple[str, ...], *, upright: bool) -> DecodedPicture:
    """A picture of 16-bit colours. LittleCMS converts 8 bits only, so a picture with a profile is rounded to 8 bits."""
    premultiplied = "RGBa" in raw_modes(picture)
    _check_whole(path)
    orientation = _orientation(picture) if upright else 1
    pixels, is_transparent = decode_deep_colour(path, premultiplied=premultiplied)
    profile, colour_notes = embedded_profile(picture, "L" if picture.mode == "LA" else "RGB")
    if is_transparent:
        colour_notes = (*colour_notes, _TRANSPARENT)
    if profile is not None and profile.transform is not None:
        colour_notes = (*colour_notes, f"rounded to 8 bits and converted from the colours of {profile.name!r} to sRGB")
        rounded = Image.fromarray(np.rint(pixels / (DEEP_WHITE / 255)).astype(np.uint8)).convert(profile.mode)
        return DecodedPicture(
            _turned(converted(rounded, profile.to_srgb), orientation),
            (*notes, *colour_notes, *_turn_notes(orientation)),
        )
    return DecodedPicture(_turned(pixels, orientation), (*notes, *colour_notes, *_turn_notes(orientation)))


def _grey_16_bit(picture: Image.Image, path: Path) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    levels = np.asarray(picture)
    low, high = int(levels.min()), int(levels.max())
    if low < 0 or high > 65535:
        raise InputError(f"{str(path)!r} holds 32-bit integers from {low} to {high}; valid: 0 to 65535 (16 bits)")
    grey = levels.astype(np.uint16)
    profile, notes = embedded_profile(picture, "L")
    if profile is not None and profile.transform is not None:
        notes = (*notes, f"converted from the colours of {profile.name!r} to sRGB")
        curve = np.interp(np.arange(DEEP_WHITE + 1) / DEEP_WHITE, np.arange(256) / 255, grey_curve(profile))
        grey = np.rint(curve * DEEP_WHITE).astype(np.uint16)[grey]
    transparent_level = picture.info.get("transparency")
    if isinstance(transparent_level, int):
        is_transparent = levels == transparent_level
        if bool(is_transparent.any()):
            notes = (*notes, _TRANSPARENT)
            grey = np.where(is_transparent, np.uint16(DEEP_WHITE), grey)
    return np.broadcast_to(grey[:, :, None], (*grey.shape, 3)), notes


def _check_whole(path: Path) -> None:
    """Let Pillow decode the file, since Pillow says what is wrong with a damaged file, and OpenCV does not."""
    with Image.open(path) as picture:
        picture.load()


def _orientation(picture: Image.Image) -> int:
    orientation = picture.getexif().get(_ORIENTATION_TAG, 1)
    return orientation if orientation in _TURNS else 1


def _turn_notes(orientation: int) -> tuple[str, ...]:
    return () if orientation == 1 else (f"turned upright by its EXIF orientation {orientation}",)


def _turned(pixels: Image.Image | NDArray[np.uint16], orientation: int) -> Image.Image | NDArray[np.uint16]:
    if orientation == 1:
        return pixels
    if isinstance(pixels, Image.Image):
        return pixels.transpose(_TURNS[orientation])
    swapped = pixels.transpose(1, 0, 2) if orientation in _SIDES_SWAPPED else pixels
    # After the swap: 5 is done, 6 and 7 mirror the columns, 7 and 8 mirror the rows.
    rows = slice(None, None, -1 if orientation in {3, 4, 7, 8} else 1)
    columns = slice(None, None, -1 if orientation in {2, 3, 6, 7} else 1)
    return swapped[rows, columns]
