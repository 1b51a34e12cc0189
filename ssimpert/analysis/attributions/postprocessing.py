"""How an attribution becomes a map: one number a pixel, the size of the image, the range [0, 1].

How to reduce the colour channels, the literature does not agree. The choice changes every metric, so it is an option of
each method and never hidden:

* ``max``: largest magnitude over the channels (Simonyan et al., ICLR workshop 2014; TorchRay);
* ``sum``: sum of the magnitudes;
* ``signed``: sum of the values, which keeps their sign and what attributions add up to;
* ``positive``: positive part of that sum: the pixels that speak for the class, as Grad-CAM's ReLU keeps them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ssimpert.analysis.degenerate_maps import is_constant
from ssimpert.errors import unknown_name

CHANNEL_REDUCTIONS = ("max", "sum", "signed", "positive")


def check_channels(channels: str) -> None:
    """Raise :class:`InputError` unless ``channels`` is in :data:`CHANNEL_REDUCTIONS`."""
    if channels not in CHANNEL_REDUCTIONS:
        raise unknown_name("reduction over channels", str(channels), CHANNEL_REDUCTIONS)


def reduce_channels(attributions: Tensor, channels: str) -> Tensor:
    """Attributions (B, C, H, W) as maps (B, H, W), in the same units, by a name in :data:`CHANNEL_REDUCTIONS`."""
    check_channels(channels)
    if channels == "max":
        return attributions.abs().amax(dim=1)
    if channels == "sum":
        return attributions.abs().sum(dim=1)
    total = attributions.sum(dim=1)
    return total.clamp(min=0) if channels == "positive" else total


def image_sized(coarse: Tensor, images: Tensor, normalize: bool) -> Tensor:
    """A layer's maps (B, h, w) upsampled to (B, H, W), the size and dtype of ``images`` (B, C, H, W), and then
    min-max scaled where ``normalize``. Bilinear, ``align_corners=False``: pixel centres at half integers, the edge
    repeated."""
    size = (images.shape[-2], images.shape[-1])
    maps = interpolate(coarse[:, None].to(images.dtype), size=size, mode="bilinear", align_corners=False)[:, 0]
    return min_max(maps, coarse) if normalize else maps


def min_max(maps: Tensor, origin: Tensor | None = None) -> Tensor:
    """Each map (B, H, W) scaled to [0, 1]; zeros where it is constant, since it has no highest pixel. NaN stays NaN.

    ``origin``: the maps (B, h, w) before upsampling, which then decide what is constant: upsampling a constant leaves
    rounding noise, which would be blown up to a full-range map.
    """
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    constant = high == low
    if origin is not None:
        constant |= is_constant(origin)[:, None, None]
    return torch.where(constant, torch.zeros_like(maps), (maps - low) / torch.where(constant, 1.0, high - low))
