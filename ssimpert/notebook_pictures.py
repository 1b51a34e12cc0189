"""Small pictures below the tables that results show in notebooks.

The pictures are PNG within the HTML: no widget, no script, nothing from elsewhere. So they stay where a notebook is
read, exported or sent. Only the first images are shown, each at most :data:`SIDE` pixels wide and high. Every word is
escaped.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ssimpert.display_scales import amplification, coloured_map, eight_bits

Pixels = NDArray[np.uint8]

IMAGES_WITH_PICTURES = 3
# Pictures are made smaller than this, and shown at least so wide.
SIDE, LEAST_WIDTH = 96, 72


@dataclass(frozen=True)
class Thumbnail:
    """A small picture and the words below it.

    Attributes:
        pixels: (H, W, 3), 8 bits.
        caption: what it shows.
    """

    pixels: Pixels
    caption: str


def rows_of_pictures(rows: Iterable[Sequence[Thumbnail]]) -> str:
    """HTML with a row of thumbnails for each image; empty without rows."""
    cells = ["".join(_cell(thumbnail) for thumbnail in row) for row in rows]
    return f"<table><tbody>{''.join(f'<tr>{row}</tr>' for row in cells)}</tbody></table>" if cells else ""


def perturbation_pictures(adversarial: Tensor, delta: Tensor) -> str:
    """For the first images: the photo, the perturbed photo, and the perturbation, amplified.

    Args:
        adversarial: (B, C, H, W) in [0, 1].
        delta: (B, C, H, W), the perturbations.

    Returns:
        HTML; empty where images are neither grey nor RGB.
    """
    return rows_of_pictures(
        (
            Thumbnail(_photo(perturbed - change), f"photo {index}"),
            Thumbnail(_photo(perturbed), "perturbed"),
            Thumbnail(_photo(0.5 + (factor := amplification(change)) * change), f"amplified {factor:g} times"),
        )
        for index, (perturbed, change) in enumerate(zip(_shown(adversarial), _shown(delta), strict=True))
    )


def photo_pictures(images: Tensor, captions: Sequence[str]) -> str:
    """The first images (B, C, H, W) in [0, 1] side by side; empty where images are neither grey nor RGB."""
    row = [Thumbnail(_photo(image), caption) for image, caption in zip(_shown(images), captions, strict=False)]
    return rows_of_pictures([row] if row else [])


def map_pictures(named_maps: Sequence[tuple[str, Tensor]]) -> str:
    """For the first images: every map in colours, dark for 0, bright for its own 99.9th percentile.

    Args:
        named_maps: a caption and a map (B, H, W) each.
    """
    count = min((len(values) for _, values in named_maps), default=0)
    return rows_of_pictures(
        [Thumbnail(_coloured(values[index]), f"{name}, image {index}") for name, values in named_maps]
        for index in range(min(count, IMAGES_WITH_PICTURES))
    )


def _shown(images: Tensor) -> list[NDArray[np.float64]]:
    """The first images as arrays (H, W, C); none where they are neither grey nor RGB."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        return []
    first = images[:IMAGES_WITH_PICTURES].detach().double().cpu().numpy()
    return list(np.nan_to_num(first.transpose(0, 2, 3, 1), nan=0.0, posinf=1.0, neginf=0.0))


def _photo(values: NDArray[np.float64]) -> Pixels:
    grey_or_rgb = eight_bits(values)
    return np.repeat(grey_or_rgb, 3, axis=2) if grey_or_rgb.shape[2] == 1 else grey_or_rgb


def _coloured(values: Tensor) -> Pixels:
    colours, _ = coloured_map(values.detach().double().cpu().numpy())
    return eight_bits(colours)


def _cell(thumbnail: Thumbnail) -> str:
    from PIL import Image

    picture = Image.fromarray(thumbnail.pixels)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    content = BytesIO()
    picture.save(content, "PNG", optimize=True)
    encoded = base64.b64encode(content.getvalue()).decode("ascii")
    words = html.escape(thumbnail.caption)
    return (
        f'<td style="text-align:center"><img src="data:image/png;base64,{encoded}" alt="{words}" '
        f'width="{max(picture.width, LEAST_WIDTH)}"><br><small>{words}</small></td>'
    )
