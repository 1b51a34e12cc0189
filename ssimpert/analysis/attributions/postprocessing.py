"""How an attribution becomes a map: one number a pixel, the size of the image, the range [0, 1].

The literature does not agree on how to reduce the colour channels to one number. The choice changes every metric.
Therefore the choice is an option of each method, and it is never hidden:

* ``max``: the largest magnitude over the channels (Simonyan et al., ICLR workshop 2014; TorchRay);
* ``sum``: the sum of the magnitudes;
* ``signed``: the sum of the values, which keeps their sign and their total;
* ``positive``: the positive part of that sum. The pixels that speak for the class are kept, as by Grad-CAM's ReLU.
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
    """Attributions (B, C, H, W) as maps (B, H, W), in the same units.

    ``channels``: a name in :data:`CHANNEL_REDUCTIONS`; another name raises :class:`InputError`.
    """
    check_channels(channels)
    if channels == "max":
        return attributions.abs().amax(dim=1)
    if channels == "sum":
        return attributions.abs().sum(dim=1)
    total = attributions.sum(dim=1)
    return total.clamp(min=0) if channels == "positive" else total


def image_sized(coarse: Tensor, images: Tensor, normalize: bool) -> Tensor:
    """The maps of a layer (B, h, w) upsampled to (B, H, W), the size and the dtype of ``images`` (B, C, H, W).

    Upsampling is bilinear, ``align_corners=False``: pixel centres are at half integers, and the edge is repeated. Then
    the maps are min-max scaled if ``normalize``.
    """
    size = (images.shape[-2], images.shape[-1])
    maps = interpolate(coarse[:, None].to(images.dtype), size=size, mode="bilinear", align_corners=False)[:, 0]
    return min_max(maps, coarse) if normalize else maps


def min_max(maps: Tensor, origin: Tensor | None = None) -> Tensor:
    """Each map (B, H, W) scaled to [0, 1] by its minimum and maximum. NaN stays NaN.

    A constant map has no highest pixel and becomes zeros. ``origin``: the maps (B, h, w) before upsampling, which then
    also decide which maps are constant. Upsampling a constant leaves rounding noise, and scaling would make a map of
    the full range of this noise.
    """
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    constant = high == low
    if origin is not None:
        constant |= is_constant(origin)[:, None, None]
    return torch.where(constant, torch.zeros_like(maps), (maps - low) / torch.where(constant, 1.0, high - low))
