"""The layout of one layer is found by a larger image where one pass leaves it open, or refused with the remedy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.layer_layouts import build
from ssimpert.errors import InputError
from ssimpert.models.layout_search import find_layout
from ssimpert.models.layouts import MapLayout


def test_a_shape_that_could_be_either_is_settled_by_a_larger_image() -> None:
    """At 96 pixels the first stage has 24 channels of 24x24, in both layouts."""
    network = build("timm:test_convnext", None)
    for name, kind in (("norm", "channels_last"), ("mlp.act", "channels_last"), ("", "channels_first")):
        full_name = f"stages.0.blocks.0.{name}".removesuffix(".")
        found = find_layout(
            network, full_name, network.get_submodule(full_name), torch.zeros(1, 3, 96, 96), owner="model ConvNeXt"
        )
        assert found == MapLayout(kind)  # type: ignore[arg-type]


class Stack(nn.Module):
    """A convolution without a module around it, so that modules tell nothing; ``layer`` gets its output in a layout."""

    def __init__(self, channels: int, view: Any, fixed: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 3, 4, 4))
        self.layer, self.view, self.fixed = nn.Identity(), view, fixed
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        assert not self.fixed or images.shape[-2:] == (32, 32)
        maps = nn.functional.conv2d(images, self.weight, stride=4)
        return self.layer(self.view(maps)).flatten(1)


LAST = staticmethod(lambda maps: maps.permute(0, 2, 3, 1))
FIRST = staticmethod(lambda maps: maps)
TOKENS = staticmethod(lambda maps: maps.flatten(2).transpose(1, 2))
CHANNELS_FIRST_TOKENS = staticmethod(lambda maps: maps.flatten(2))
ATTENTION = staticmethod(lambda maps: maps.flatten(2).transpose(1, 2)[:, None] @ maps.flatten(2)[:, None])


def _found(network: nn.Module, size: tuple[int, int] = (32, 32), **given: Any) -> MapLayout:
    images = torch.zeros(2, 3, *size)
    return find_layout(network, "layer", network.layer, images, owner="model Stack", **given)


@pytest.mark.parametrize(
    ("channels", "view", "layout"),
    [
        (5, LAST, MapLayout("channels_last")),
        (5, FIRST, MapLayout("channels_first")),
        (8, LAST, MapLayout("channels_last")),  # (1, 8, 8, 8): the shape says nothing, a larger image does
        (8, FIRST, MapLayout("channels_first")),
        (5, TOKENS, MapLayout("tokens", 0)),
        (36, TOKENS, MapLayout("tokens", 0)),  # 36 channels could be 6x6 tokens
    ],
)
def test_where_no_module_tells_the_image_does(channels: int, view: Any, layout: MapLayout) -> None:
    assert _found(Stack(channels, view)) == layout


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            Stack(8, LAST, fixed=True),
            r"'layer' of model Stack is ambiguous: .* \(1, 8, 8, 8\) may be channels_first",
        ),
        (
            Stack(36, TOKENS, fixed=True),
            r"ambiguous: its output \(1, 64, 36\) may be tokens, or have its tokens",
        ),
        (Stack(5, CHANNELS_FIRST_TOKENS), r"has no feature maps .*: its output is \(1, 5, 64\)"),
        (Stack(5, ATTENTION), r"has no feature maps .*: its output is \(1, 1, 64, 64\)"),
        (Stack(5, lambda maps: maps.flatten(0, 1)[:, None]), r"has no feature maps .*: its output is \(5, 1, 8, 8\)"),
    ],
)
def test_a_layout_that_nothing_tells_is_refused_with_the_ways_to_say_it(network: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        _found(network)
    assert "layout=" in str(caught.value)
    assert "prefix_tokens=" in str(caught.value)


def test_an_ambiguous_layout_can_be_given() -> None:
    network = Stack(8, LAST, fixed=True)
    for kind in ("channels_first", "channels_last"):
        assert _found(network, layout=kind) == MapLayout(kind)
    assert _found(Stack(36, TOKENS, fixed=True), layout="tokens") == MapLayout("tokens", 0)
