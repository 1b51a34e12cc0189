"""What the class of a module, or its number of channels, tells of its output's layout."""

from __future__ import annotations

from torch import nn

from ssimpert.models.layer_outputs import LayerCall
from ssimpert.models.layouts import Layout

CHANNELS_FIRST_MODULES = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.LocalResponseNorm, nn.Dropout2d),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.FractionalMaxPool2d),
    *(nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.GroupNorm),
)
# Where a module keeps the number of its output's channels. nn.LayerNorm has a tuple.
_CHANNEL_COUNTS = ("out_channels", "num_features", "num_channels", "out_features", "normalized_shape")


def fixed_kind(call: LayerCall) -> Layout | None:
    """The layout of an output whose module's class settles it, and which shows a grid."""
    shape = call.shape
    if shape is None:
        return None
    if len(shape) == 4 and isinstance(call.module, CHANNELS_FIRST_MODULES):
        return "channels_first"
    if isinstance(call.module, nn.LayerNorm) and channel_axis(call) == len(shape) - 1:
        return {3: "tokens", 4: "channels_last"}.get(len(shape))  # type: ignore[return-value]
    return None


def told_kind(call: LayerCall) -> Layout | None:
    """The layout that a module tells. nn.Linear tells nothing: a mixer applies it to transposed tokens."""
    axis = None if isinstance(call.module, nn.Linear) else channel_axis(call)
    fixed = fixed_kind(call)
    if fixed is not None or axis is None or call.shape is None:
        return fixed
    return {(3, 2): "tokens", (4, 1): "channels_first", (4, 3): "channels_last"}.get((len(call.shape), axis))  # type: ignore[return-value]


def channel_axis(call: LayerCall) -> int | None:
    """The axis of the channels as the module's class or its number of channels tells; ``None`` where neither does."""
    module, shape = call.module, call.shape
    if shape is None:
        return None
    last = len(shape) - 1
    if isinstance(module, nn.LayerNorm):
        # Classes named LayerNorm2d, of torchvision and timm, normalise the second axis.
        return 1 if "2d" in type(module).__name__ else last
    if isinstance(module, nn.Linear):
        return last
    if next(module.children(), None) is not None:
        return None
    counts = [getattr(module, attribute, None) for attribute in _CHANNEL_COUNTS]
    counts = [count[0] if isinstance(count, tuple) and len(count) == 1 else count for count in counts]
    numbers = {count for count in counts if isinstance(count, int)}
    axes = [axis for axis in (1, last) if shape[axis] in numbers]
    return axes[0] if len(numbers) == 1 and len(axes) == 1 else None
