"""Colours into sRGB: ICC profiles, printing inks, opacity.

A profile says what colours the numbers of a file mean. LittleCMS converts by it, in Pillow's ``ImageCms``, to the
nearest colours (relative colorimetric, with black point compensation). sRGB is what classifiers are trained on.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Conversion = Callable[[Image.Image], Image.Image]
"""Pixels of a picture's own mode -> RGB. Each pixel is converted for itself, so a picture may be converted in parts."""

_STRIP_PIXELS = 4_000_000
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
# LittleCMS approximates transforms by coarse tables; that of a grey curve is off by several levels in the shadows.
_PRECISE = {
    "RGB": ImageCms.Flags.HIGHRESPRECALC,
    "L": ImageCms.Flags.NOOPTIMIZE,
    "CMYK": ImageCms.Flags.HIGHRESPRECALC,
}
_TRANSPARENT_MODES = {"LA", "PA", "RGBA", "RGBa"}
_GREY_MODES = {"1", "L", "LA"}
_LARGEST_ROUNDING = 1
"""In levels of 8 bits. A profile that moves no colour by more is sRGB, and the pixels are left as they are."""


@dataclass(frozen=True)
class Profile:
    """A colour profile that fits the picture that embeds it.

    Attributes:
        name: what the profile calls itself.
        mode: the mode of Pillow that the profile's numbers have: "RGB", "L" or "CMYK".
        transform: the conversion to sRGB; None for a profile that is sRGB up to rounding.
    """

    name: str
    mode: str
    transform: Any | None

    def to_srgb(self, picture: Image.Image) -> Image.Image:
        """``picture``, of the profile's mode, in RGB."""
        if self.transform is None:
            return picture if picture.mode == "RGB" else picture.convert("RGB")
        converted = ImageCms.applyTransform(picture, self.transform)
        assert converted is not None
        return converted


def embedded_profile(picture: Image.Image, mode: str) -> tuple[Profile | None, tuple[str, ...]]:
    """The colour profile in ``picture`` for pixels of ``mode``, and notes: why a profile that is there is not used."""
    content = picture.info.get("icc_profile")
    if not content:
        return None, ()
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(content))
        name = " ".join(ImageCms.getProfileDescription(opened).split()) or "without a name"
        space = opened.profile.xcolor_space.strip()
        if _PROFILE_MODES.get(space) != mode:
            wanted = {"L": "grey", "CMYK": "inks"}.get(mode, mode)
            return None, (f"its colour profile {name!r} is for {space}, not for {wanted}, and was not used",)
        transform = ImageCms.buildTransform(
            opened,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION | _PRECISE[mode],
        )
        profile = Profile(name, mode, transform)
        return (Profile(name, mode, None) if _is_srgb(profile) else profile), ()
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return None, (f"its colour profile is damaged ({reason}) and was not used",)


def grey_curve(profile: Profile) -> NDArray[np.float64]:
    """The levels in [0, 1] of sRGB that a grey profile gives to the 256 levels 0, 1/255, ..., 1."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels: NDArray[np.float64] = np.asarray(profile.to_srgb(ramp))[0, :, 0] / 255
    return levels


def conversion_to_srgb(picture: Image.Image) -> tuple[Conversion | None, tuple[str, ...]]:
    """How the 8-bit pixels of ``picture`` become sRGB, and notes that say it; None for a picture that is in sRGB.

    Transparent pixels are shown on white. Opaque pixels keep their colour exactly.
    """
    if picture.mode == "CMYK":
        profile, notes = embedded_profile(picture, "CMYK")
        if profile is not None:
            return profile.to_srgb, (f"converted from the inks of {profile.name!r} to sRGB",)
        how = "converted from inks (CMYK) by the plain formula (1 - ink)(1 - black)"
        return lambda part: part.convert("RGB"), (*notes, f"{how}, since it has no usable profile")

    mode = "L" if picture.mode in _GREY_MODES else "RGB"
    profile, notes = embedded_profile(picture, mode)
    if profile is not None and profile.transform is not None:
        notes = (*notes, f"converted from the colours of {profile.name!r} to sRGB")
    if picture.mode in _TRANSPARENT_MODES or "transparency" in picture.info:
        return lambda part: _on_white(part, profile), notes
    if picture.mode == "RGB" and (profile is None or profile.transform is None):
        return None, notes

    def opaque(part: Image.Image) -> Image.Image:
        # A grey picture needs no profile to become RGB.
        own = part if part.mode == mode or profile is None else part.convert(mode)
        if profile is not None:
            return profile.to_srgb(own)
        return own if own.mode == "RGB" else own.convert("RGB")

    return opaque, notes


def converted(picture: Image.Image, conversion: Conversion) -> Image.Image:
    """``picture`` in RGB, converted strip by strip, so that no more than one copy of the picture is made."""
    rows = max(1, _STRIP_PIXELS // picture.width)
    if rows >= picture.height:
        return conversion(picture)
    result = Image.new("RGB", picture.size)
    for top in range(0, picture.height, rows):
        box = (0, top, picture.width, min(top + rows, picture.height))
        result.paste(conversion(picture.crop(box)), box)
    return result


def has_transparent_pixels(picture: Image.Image) -> bool:
    """Whether some pixel of ``picture`` is not opaque."""
    return picture.has_transparency_data and _least_opacity(picture) < 255


def _least_opacity(picture: Image.Image) -> int:
    rows = max(1, _STRIP_PIXELS // picture.width)
    strips = ((0, top, picture.width, min(top + rows, picture.height)) for top in range(0, picture.height, rows))
    return min(int(np.asarray(picture.crop(box).convert("RGBA").getchannel("A")).min()) for box in strips)


def _on_white(part: Image.Image, profile: Profile | None) -> Image.Image:
    layered = part.convert("RGBA")
    if profile is not None and profile.transform is not None:
        opacity = layered.getchannel("A")
        colours = profile.to_srgb(layered.convert(profile.mode))
        layered = Image.merge("RGBA", [*colours.split(), opacity])
    white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layered).convert("RGB")


def _is_srgb(profile: Profile) -> bool:
    """Whether the profile moves no colour by more than rounding. Inks are never sRGB."""
    if profile.mode == "CMYK":
        return False
    steps = np.round(np.linspace(0, 255, 17)).astype(np.uint8)
    if profile.mode == "L":
        levels = np.arange(256, dtype=np.uint8)[None]
        grid, expected = levels, np.repeat(levels[:, :, None], 3, axis=2)
    else:
        grid = expected = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(17, 289, 3)
    moved = np.asarray(profile.to_srgb(Image.fromarray(grid))).astype(int) - expected
    return bool(np.abs(moved).max() <= _LARGEST_ROUNDING)
