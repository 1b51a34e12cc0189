"""What each kind of map says, in a sentence, and the unit of its values."""

from __future__ import annotations

from ssimpert.report.names import CAM_NAMES, map_name

_MEANINGS = {
    "rms": ("of the pixel range", "Where the perturbation is large: the root mean square over channels, smoothed."),
    "ssim": ("", "Where the structure changed: 1 minus SSIM in the 11x11 Gaussian window around each pixel."),
    "contribution": ("logits", "Each pixel's share of the first-order gain in margin, smoothed."),
    "gradient_magnitude": ("logits", "A control: the magnitude of the margin's gradient at the photo."),
    "local_std": ("of the pixel range", "A control: the photo's own local standard deviation. No model is asked."),
    "local_variance": ("", "A control: the photo's own local variance. No model is asked."),
    "centred_gaussian": ("", "A control: the middle of the picture. Neither photo nor model is asked."),
}


def map_unit(kind: str) -> str:
    """The unit of a map's values; empty for numbers without a unit."""
    return _MEANINGS.get(kind, ("", ""))[0]


def map_meaning(kind: str) -> str:
    """What a kind of map says, in a sentence."""
    if kind in _MEANINGS:
        return _MEANINGS[kind][1]
    if kind in CAM_NAMES:
        return f"{CAM_NAMES[kind]}: where the network looks for the label of the clean photo."
    return f"{map_name(kind)}: an attribution of the clean photo's label to the pixels."
