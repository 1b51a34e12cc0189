"""Where a layer's output has its rows, columns and channels, and its feature map (B, C, h, w).

Networks hold a feature map in one of three layouts:

* ``channels_first``: (B, C, H, W), the convolutional networks;
* ``channels_last``: (B, H, W, C), Swin transformers and the inside of ConvNeXt blocks;
* ``tokens``: (B, N, C), one token for each patch in reading order, N = H W. Prefix tokens may stand in front of them: a
  class token (ViT), a distillation token (DeiT), register tokens. They have no place in the image.

A caller gives the layout of a layer, or :mod:`ssimpert.models.layout_search` finds it out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ssimpert.errors import InputError, unknown_name
from ssimpert.models.layer_outputs import describe_output
from ssimpert.validation import check_count

Layout = Literal["channels_first", "channels_last", "tokens"]

Grid = tuple[int, int]
"""Rows and columns."""


@dataclass(frozen=True)
class MapLayout:
    """Where the outputs of one layer have their feature map.

    Attributes:
        kind: see :data:`Layout`.
        prefix_tokens: how many tokens stand in front of those of the patches; 0 for the other kinds.
    """

    kind: Layout
    prefix_tokens: int = 0

    def feature_map(self, output: Tensor, images_shape: Sequence[int]) -> Tensor:
        """The feature map (B, C, h, w) in ``output``, a view where possible; prefix tokens are left out.

        Args:
            output: what the layer gave, in this layout.
            images_shape: the shape (B, C, H, W) of the images. H and W say how tokens fold to rows and columns.

        Raises:
            InputError: an output that is not in this layout.
        """
        axes = 3 if self.kind == "tokens" else 4
        if output.ndim != axes:
            raise InputError(f"which does not have the {axes} axes of {self.kind!r}")
        if output.shape[0] != images_shape[0]:
            raise InputError(f"whose first axis is not that of the {images_shape[0]} images")
        if self.kind == "channels_first":
            return output
        if self.kind == "channels_last":
            return output.permute(0, 3, 1, 2)
        grid = fold_tokens(output.shape[1] - self.prefix_tokens, (images_shape[-2], images_shape[-1]))
        if grid is None:
            raise InputError(
                f"of which {self.prefix_tokens} are prefix tokens; the others don't fold to rows and columns of an "
                f"image of {images_shape[-2]}x{images_shape[-1]} pixels"
            )
        return output[:, self.prefix_tokens :].unflatten(1, grid).permute(0, 3, 1, 2)

    def with_feature_map(self, output: Tensor, feature_map: Tensor) -> Tensor:
        """``output`` with ``feature_map`` (B, C, h, w) in the place of its own: what the next layer expects."""
        if self.kind == "channels_first":
            return feature_map
        last = feature_map.permute(0, 2, 3, 1)
        if self.kind == "channels_last":
            return last
        patches = last.flatten(1, 2)
        return torch.cat([output[:, : self.prefix_tokens], patches], dim=1) if self.prefix_tokens else patches


def fold_tokens(count: int, image_size: Grid) -> Grid | None:
    """Rows and columns of ``count`` tokens of an image (H, W): both less than 1 from the image's proportions, or None.

    Of several such grids the one is taken whose proportions are nearest to those of the image. A square image has
    square grids, up to a patch that is cut off at one side.
    """
    height, width = image_size
    if count < 1:
        return None
    rows = math.sqrt(count * height / width)
    near = [
        (h, count // h)
        for h in range(max(1, math.floor(rows)), math.ceil(rows) + 1)
        if count % h == 0 and abs(h - rows) < 1 and abs(count // h - count / rows) < 1
    ]
    return min(near, key=lambda grid: abs(math.log(grid[0] / rows)), default=None)


def read_feature_map(
    layout: MapLayout, output: object, images_shape: Sequence[int], *, layer: str, owner: str
) -> Tensor:
    """The feature map (B, C, h, w) in the output of a layer.

    Args:
        layout: where the output has its feature map.
        output: what the layer gave.
        images_shape: the shape (B, C, H, W) of the images.
        layer: the layer's name, for errors.
        owner: what errors call the model.

    Raises:
        InputError: an output that is no tensor in this layout.
    """
    given = f"layer {layer!r} of {owner} gives {describe_output(output)}"
    if not isinstance(output, Tensor):
        raise InputError(f"{given}; name a layer that gives one tensor with a feature map")
    try:
        return layout.feature_map(output, images_shape)
    except InputError as error:
        raise InputError(f"{given}, {error}") from error


def check_layout(layout: Layout | None, prefix_tokens: int | None) -> tuple[Layout | None, int | None]:
    """The layout and the number of prefix tokens that a caller gave, each ``None`` where it has to be found out.

    ``prefix_tokens`` alone means "tokens".

    Raises:
        InputError: an unknown layout, a number of tokens that is no integer from 0, or prefix tokens of a layout that
            has none.
    """
    if layout is not None and layout not in get_args(Layout):
        raise unknown_name("layout", str(layout), get_args(Layout))
    if prefix_tokens is None:
        return layout, None
    count = check_count("prefix_tokens", prefix_tokens, 0)
    if layout not in (None, "tokens"):
        raise InputError(f"prefix_tokens={count} is for layout='tokens', got layout={layout!r}")
    return "tokens", count
