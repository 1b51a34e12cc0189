"""Arrays as pictures within the page: WebP as data URIs, compressed as far as the size of the page asks for."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssimpert.display_scales import coloured_map, eight_bits
from ssimpert.report.drawing import Array
from ssimpert.report.html.view import Picture

# All pictures of a page together, in bytes of text. With script and tables a page of 200 photos stays under 60 MB.
BYTES_OF_ALL_PICTURES = 55_000_000


@dataclass(frozen=True)
class Compression:
    """The qualities of WebP, from 1 to 100; None for no loss.

    Attributes:
        photo: of photos and perturbed photos.
        difference: of perturbations.
        map: of maps.
    """

    photo: int | None
    difference: int | None
    map: int | None

    def words(self) -> str:
        """What the page says of its pictures."""
        if self.photo is None:
            return "Photos, perturbed photos and perturbations are exact to 8 bits; maps are compressed with loss."
        return (
            f"Pictures are compressed with loss, so that the page stays small (WebP, photos at quality {self.photo} or "
            f"higher, maps at {self.map} or higher). The numbers are of the exact arrays."
        )


# From exact to coarse. The last one is taken even if it is too large.
COMPRESSIONS = (
    Compression(None, None, 80),
    Compression(92, 85, 80),
    Compression(85, 70, 60),
    Compression(75, 50, 40),
)


def bytes_of_a_photo(count: int) -> int:
    """How many bytes the pictures of one of ``count`` photos may take."""
    return BYTES_OF_ALL_PICTURES // max(1, count)


def photo_picture(pixels: Array, alt: str, compression: Compression) -> Picture:
    """A picture (H, W, 3) in [0, 1], rounded to 8 bits."""
    return _picture(eight_bits(pixels), alt, compression.photo)


def difference_picture(delta: Array, factor: float, alt: str, compression: Compression) -> Picture:
    """0.5 + ``factor`` d for a perturbation d (H, W, 3), cut to [0, 1]: grey where nothing changed."""
    return _picture(eight_bits(0.5 + factor * delta), alt, compression.difference)


def map_picture(values: Array, alt: str, compression: Compression) -> tuple[Picture, float]:
    """A map (H, W), nonnegative, in colours from 0 to its 99.9th percentile; also this value. NaN is shown as 0."""
    colours, top = coloured_map(values)
    return _picture(eight_bits(colours), alt, compression.map), top


def _picture(pixels: NDArray[np.uint8], alt: str, quality: int | None) -> Picture:
    content = BytesIO()
    # Without loss the quality is the effort.
    options = {"lossless": True, "quality": 60} if quality is None else {"quality": quality}
    Image.fromarray(pixels).save(content, "WEBP", method=2, **options)
    height, width = pixels.shape[:2]
    uri = f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
    return Picture(uri, width, height, alt)
