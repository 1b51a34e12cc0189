"""The pictures of one photo: the photo, the perturbed photo, the perturbation and the maps."""
# ruff: noqa: RUF001 - the multiplication sign is shown

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ssimpert.analysis.perturbation_maps.saliency import saliency
from ssimpert.display_scales import amplification
from ssimpert.report.drawing import Array
from ssimpert.report.html.map_meanings import map_meaning, map_unit
from ssimpert.report.html.numbers_in_words import number
from ssimpert.report.html.photo_words import label_text
from ssimpert.report.html.pictures import (
    COMPRESSIONS,
    Compression,
    difference_picture,
    map_picture,
    photo_picture,
)
from ssimpert.report.html.result_folder import StoredPhoto
from ssimpert.report.html.view import Difference, Layer, Picture
from ssimpert.report.names import CAM_NAMES, map_name, method_and_map

# Bytes of text for each value of a pixel below which no photo is tried without loss.
HOPELESS_BYTES = 2


@dataclass(frozen=True)
class Pixels:
    """The arrays of a photo.

    Attributes:
        clean: the photo (H, W, 3) in [0, 1]; None where it could not be read.
        perturbed: the perturbed photo (H, W, 3).
        maps: name, kind and values (H, W) of each map.
    """

    clean: Array | None
    perturbed: Array
    maps: tuple[tuple[str, str, Array], ...]


@dataclass(frozen=True)
class Pictures:
    """The pictures of a photo."""

    photo: Picture | None
    perturbed: Picture
    difference: Difference | None
    layers: tuple[Layer, ...]

    def size(self) -> int:
        """All pictures together, in bytes of text."""
        uris = {picture.uri for picture in (self.photo, self.perturbed) if picture is not None}
        uris |= {layer.picture.uri for layer in self.layers}  # one of them is the difference
        return sum(map(len, uris))


def pictures_within(stored: StoredPhoto, pixels: Pixels, most_bytes: int) -> tuple[Pictures, Compression]:
    """The pictures, compressed no further than ``most_bytes`` asks for."""
    # Three pictures without loss take about three bytes of text for each value of a pixel, and trying takes time.
    is_hopeless = most_bytes < HOPELESS_BYTES * pixels.perturbed.size
    for compression in COMPRESSIONS[1:] if is_hopeless else COMPRESSIONS:
        pictures = _pictures(stored, pixels, compression)
        if pictures.size() <= most_bytes:
            break
    return pictures, compression


def _pictures(stored: StoredPhoto, pixels: Pixels, compression: Compression) -> Pictures:
    difference = None if pixels.clean is None else _difference(pixels.perturbed - pixels.clean, compression)
    layers = [_map_layer(name, kind, values, compression) for name, kind, values in pixels.maps]
    if difference is not None:
        layers.append(_signed_layer(difference))
    before, after = label_text(stored.result, "before"), label_text(stored.result, "after")
    return Pictures(
        photo=None if pixels.clean is None else photo_picture(pixels.clean, f"Photo: {before}", compression),
        perturbed=photo_picture(pixels.perturbed, f"Perturbed photo: {after}", compression),
        difference=difference,
        layers=tuple(layers),
    )


def _difference(delta: Array, compression: Compression) -> Difference:
    factor = amplification(delta)
    powers = [step * 10.0**power for power in range(9) for step in (1, 2, 5)]
    levels = tuple(level for level in powers if level <= max(1.0, factor))
    alt = f"The perturbation, amplified {factor:g} times; grey means no change"
    return Difference(difference_picture(delta, factor, alt, compression), factor, levels)


def maps_of(stored: StoredPhoto, clean: Array | None, perturbed: Array) -> tuple[tuple[str, str, Array], ...]:
    """The class activation map first, then the other stored maps; without stored maps those of the perturbation."""
    stored_maps = stored.maps()
    if stored_maps is not None:
        cam, maps = stored_maps
        kind = str(stored.record.get("cam", "grad_cam"))
        others = [
            (method_and_map(method, kind), kind, values[0].double().numpy())
            for method, kinds in maps.items()
            for kind, values in kinds.items()
        ]
        return ((CAM_NAMES.get(kind, map_name(kind)), kind, cam), *others)
    if clean is None:
        return ()
    image, adversarial = (torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None] for pixels in (clean, perturbed))
    return tuple((map_name(kind), kind, saliency(kind, image, adversarial)[0].numpy()) for kind in ("rms", "ssim"))


def _map_layer(name: str, kind: str, values: Array, compression: Compression) -> Layer:
    unit = map_unit(kind)
    alt = f"{name} as colours over the photo, from dark for 0 to yellow for high values"
    picture, top = map_picture(values, alt, compression)
    missing = " The map has values that are not finite; they are shown as 0." if not np.isfinite(values).all() else ""
    return Layer(name, picture, "viridis", "0", number(top, unit, 3), map_meaning(kind) + missing)


def _signed_layer(difference: Difference) -> Layer:
    factor = difference.factor
    limit = 0.5 / factor
    return Layer(
        f"perturbation ×{factor:g}",
        difference.picture,
        "signed",
        number(-limit, "of the pixel range", 3),
        number(limit, "", 3),
        f"The perturbation itself, amplified {factor:g} times. Grey means no change.",
    )
