"""How an attribution to colour channels becomes one number a pixel.

The literature differs, and the choice changes every metric, so it is an option of each method and never hidden:

* ``max``: largest magnitude over the channels (Simonyan et al., ICLR workshop 2014; TorchRay);
* ``sum``: sum of the magnitudes;
* ``signed``: sum of the values, which keeps their sign and what attributions add up to;
* ``positive``: positive part of that sum: the pixels that speak for the class, as Grad-CAM's ReLU keeps them.
"""

from __future__ import annotations

from torch import Tensor

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
