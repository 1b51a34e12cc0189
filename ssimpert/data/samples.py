"""Photos and textures that are installed with scikit-image. Nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssimpert.errors import unknown_name


@dataclass(frozen=True)
class Sample:
    """A sample picture.

    Attributes:
        name: what :func:`ssimpert.data.load_image` calls the picture.
        description: what the picture shows.
        licence: terms and author, as scikit-image states them.
        kind: "photo" (shows an object that a classifier may know) or "texture" (a background).
    """

    name: str
    description: str
    licence: str
    kind: Literal["photo", "texture"]


_SAMPLES = (
    Sample("chelsea", "a tabby cat's face", "CC0, Stefan van der Walt", "photo"),
    Sample("coffee", "a cup of espresso on a wooden table", "CC0, Rachel Michetti", "photo"),
    Sample("camera", "a man at a camera on a tripod, grey", "CC0, Lav Varshney", "photo"),
    Sample("rocket", "the launch of a Falcon 9 rocket", "public domain, SpaceX", "photo"),
    Sample("astronaut", "the astronaut Eileen Collins", "public domain, NASA", "photo"),
    Sample(
        "motorcycle",
        "a motorcycle in a garage (left image of a stereo pair)",
        "Middlebury Stereo 2014, Scharstein et al., cite when publishing",
        "photo",
    ),
    Sample("grass", "a lawn from above, grey", "CC0, linolafett", "texture"),
    Sample("gravel", "gravel from above, grey", "CC0, CC0Textures", "texture"),
    Sample("brick", "a brick wall, grey", "CC0, CC0Textures", "texture"),
    Sample(
        "moon",
        "the surface of the Moon, low contrast, grey",
        "shipped by scikit-image, no terms stated",
        "texture",
    ),
    Sample("hubble_deep_field", "the Hubble eXtreme Deep Field", "public domain, NASA", "texture"),
)
_BY_NAME = {sample.name: sample for sample in _SAMPLES}


def samples() -> tuple[Sample, ...]:
    """All sample pictures, photos first."""
    return _SAMPLES


def is_sample(name: str) -> bool:
    """Whether a sample picture is called ``name``."""
    return name in _BY_NAME


def sample_array(name: str) -> NDArray[np.uint8]:
    """The pixels (H, W, 3), uint8, of the sample ``name``; grey pictures have three equal channels.

    Raises:
        InputError: there is no such sample; near names are listed.
    """
    if name not in _BY_NAME:
        raise unknown_name("sample", name, _BY_NAME)
    from skimage import data

    pixels = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else np.ascontiguousarray(pixels)
