"""Maps brought to the size of the image and to the range [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate


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
        constant |= origin.amax(dim=(1, 2), keepdim=True) == origin.amin(dim=(1, 2), keepdim=True)
    return torch.where(constant, torch.zeros_like(maps), (maps - low) / torch.where(constant, 1.0, high - low))
