"""Arrays as pictures within the page: WebP as data URIs."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssimpert.report.drawing import COLOUR_MAP, Array
from ssimpert.report.html.view import Picture

# Up to so many photos, photo and perturbed photo are stored without loss. 200 photos with loss take about 30 MB.
MOST_WITHOUT_LOSS = 50
PHOTO_QUALITY, DIFFERENCE_QUALITY, MAP_QUALITY = 92, 85, 80
# The part of the pixels of a map that may lie above its colours, so that a single pixel does not darken all others.
TOP_PERCENTILE = 99.9


@dataclass(frozen=True)
class PictureStorage:
    """How the pictures of a report are stored.

    Attributes:
        without_loss: whether photos, perturbed photos and perturbations are exact to 8 bits.
    """

    without_loss: bool

    def photo(self, pixels: Array, alt: str) -> Picture:
        """A picture (H, W, 3) in [0, 1], rounded to 8 bits."""
        return _picture(_bytes_of(pixels), alt, None if self.without_loss else PHOTO_QUALITY)

    def difference(self, delta: Array, factor: float, alt: str) -> Picture:
        """0.5 + ``factor`` d for a perturbation d (H, W, 3), cut to [0, 1]: grey where nothing changed."""
        return _picture(_bytes_of(0.5 + factor * delta), alt, None if self.without_loss else DIFFERENCE_QUALITY)

    def words(self) -> str:
        """What the page says of its pictures."""
        if self.without_loss:
            return "Photos, perturbed photos and perturbations are exact to 8 bits; maps are compressed with loss."
        return (
            f"All pictures are compressed with loss (WebP; photos at quality {PHOTO_QUALITY}, maps at {MAP_QUALITY}). "
            "The numbers are of the exact arrays."
        )


def picture_storage(count: int) -> PictureStorage:
    """How to store the pictures of ``count`` photos, so that a report of 200 photos stays under 60 MB."""
    return PictureStorage(without_loss=count <= MOST_WITHOUT_LOSS)


def map_picture(values: Array, alt: str) -> tuple[Picture, float]:
    """A map (H, W), nonnegative, in colours from 0 to its 99.9th percentile; also this value. NaN is shown as 0."""
    finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    top = float(np.percentile(finite, TOP_PERCENTILE))
    scaled = np.clip(finite / top, 0, 1) if top > 0 else np.zeros_like(finite)
    coloured = matplotlib.colormaps[COLOUR_MAP](scaled)[..., :3]
    return _picture(_bytes_of(coloured), alt, MAP_QUALITY), top


def _bytes_of(pixels: Array) -> NDArray[np.uint8]:
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def _picture(pixels: NDArray[np.uint8], alt: str, quality: int | None) -> Picture:
    """``quality`` from 1 to 100; None for no loss."""
    content = BytesIO()
    options = {"lossless": True, "quality": 60} if quality is None else {"quality": quality}
    Image.fromarray(pixels).save(content, "WEBP", method=4, **options)
    height, width = pixels.shape[:2]
    uri = f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
    return Picture(uri, width, height, alt)
