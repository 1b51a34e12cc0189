"""How many pixels a photo may have. The number is looked at before a file is decoded."""

from __future__ import annotations

from pathlib import Path

from ssimpert.errors import InputError

MAX_PIXELS = 89_478_485
"""The number of pixels beyond which Pillow warns of a decompression bomb. Decoding a photo of so many pixels takes
less than 1 GB of memory, and 1.6 GB at 16 bits."""


def check_pixel_count(path: Path, width: int, height: int) -> None:
    """Raise :class:`InputError` if ``width`` times ``height`` exceeds :data:`MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise too_many_pixels(path, width * height, f"{width}x{height}")


def too_many_pixels(path: Path, count: int, size: str | None = None) -> InputError:
    """The error for a photo of ``count`` pixels; ``size`` is its width and height, where they are known."""
    sides = f"{size} = " if size else ""
    return InputError(f"{str(path)!r} has {sides}{count} pixels; the limit is {MAX_PIXELS}; give a smaller copy")
