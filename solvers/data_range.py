"""Whether a data range can be that of given pixels.

SSIM takes its constants ``C1 = (0.01 L)^2`` and ``C2 = (0.03 L)^2`` from L, the range of the values that pixels can
take (Wang et al., TIP 2004). With an L far below the true range, such as 1 for pixels of 16 bits, both constants
vanish. The index is then another one than the user asked for.

By that definition the values of a channel spread over L at most. Nothing is asked of the values themselves: pixels may
have any offset, and may be negative (CT numbers, detectors with a pedestal). So the rule is one on the *spread*, the
largest value less the smallest one. A few times L is let pass: pixels in [-1, 1] are often given with L = 1, and
resampling overshoots. An L that is too *large* can't be told from an image with little contrast, and is let pass, too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.errors import ProblemError

MAX_RANGES = 4.0
"""Pixels that spread over more than so many data ranges are refused. Depths of 8, 12 and 16 bits differ 16-fold."""

VALID_RANGES = "1 for pixels in [0, 1], 255 for 8 bits, 4095 for 12, 65535 for 16"
"""What errors say of data ranges that are valid."""


def widest_spread(values: Tensor) -> Tensor:
    """The widest spread of an image's groups of values, (B,) float64; not finite where a value isn't.

    Args:
        values: (B, G, N): G groups of N values for each image. A group is a channel where windows lie within channels.
    """
    lowest, highest = torch.aminmax(values.detach(), dim=2)
    return (highest.double() - lowest.double()).amax(dim=1)


def first_beyond(spread: Tensor, data_range: float, counts: Tensor | bool = True) -> int | None:
    """The first image whose spread is too wide for a data range, or ``None``. A spread that isn't finite is none.

    Args:
        spread: (B,), from :func:`widest_spread`.
        data_range: L.
        counts: (B,) bool, which images count; default all.
    """
    beyond = (spread.isfinite() & (spread > MAX_RANGES * data_range) & counts).nonzero()
    return int(beyond[0]) if len(beyond) else None


def check_spread(values: Tensor, data_range: float, sound: Tensor, *, option: str, group: str, remedy: str) -> None:
    """Refuse a data range that can't be that of ``values``.

    Args:
        values: (B, G, N), as for :func:`widest_spread`.
        data_range: L.
        sound: (B,) bool, which images count.
        option: what the error says of the option that gave L, with its value.
        group: where the values of a group lie, such as " in a channel"; empty for a whole image.
        remedy: what the error advises to give instead.

    Raises:
        ProblemError: the values of a group spread over more than 4 L.
    """
    spread = widest_spread(values)
    image = first_beyond(spread, data_range, sound)
    if image is not None:
        raise ProblemError(
            f"{option}, but the pixels of image {image} lie up to {float(spread[image]):.6g} apart{group}; give "
            f"{remedy}, or scale the images"
        )
