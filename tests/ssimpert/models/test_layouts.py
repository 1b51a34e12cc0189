"""The layouts that are found, against those that two images of different sizes show."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.layer_layouts import build, layouts_beside_the_truth
from ssimpert.errors import InputError
from ssimpert.models.layer_outputs import observable_layers
from ssimpert.models.layouts import Layouts, MapLayout, find_layout, fold_tokens, watch_layers
from tests.ssimpert.toy_transformer import ToyTransformer

# timm's tiny networks, and the smallest of torchvision; in the whole list of benchmarks/layer_layouts.py nothing fails.
# The sides are chosen so that no map has as many channels as rows and columns.
ANY_SIZE = {
    "timm:test_resnet": ((64, 64), (96, 160)),
    "timm:test_efficientnet": ((64, 64), (96, 160)),
    "timm:test_convnext": ((64, 64), (96, 160)),
    "timm:test_mambaout": ((96, 96), (128, 160)),
    "torchvision:swin_t": ((64, 64), (96, 160)),
}
BUILT_FOR_A_SIZE = {
    "timm:test_vit": ((160, 160), (192, 224)),
    "timm:test_vit2": ((160, 160), (192, 224)),  # 64 channels, which would fold to 8x8 tokens
    "timm:test_vit4": ((160, 160), (192, 224)),  # with registers, and with norms of queries and keys
}


@pytest.mark.parametrize(("name", "sizes"), [*ANY_SIZE.items(), *BUILT_FOR_A_SIZE.items()])
def test_every_layer_of_a_network_is_read_as_two_sizes_show(
    name: str, sizes: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    rows = layouts_beside_the_truth(name, sizes, rebuilt=name in BUILT_FOR_A_SIZE)
    assert len(rows) > 50
    for row in rows:
        assert row.found == row.true, row


@pytest.mark.parametrize(
    ("count", "image_size", "grid"),
    [
        (196, (224, 224), (14, 14)),
        (35, (80, 112), (5, 7)),
        (8, (30, 50), (2, 4)),  # 16-pixel patches, the last of which are cut off
        (12, (32, 32), (3, 4)),
        (197, (224, 224), None),
        (35, (224, 112), None),
        (0, (32, 32), None),
    ],
)
def test_tokens_fold_to_rows_and_columns_in_the_proportions_of_the_image(
    count: int, image_size: tuple[int, int], grid: tuple[int, int] | None
) -> None:
    assert fold_tokens(count, image_size) == grid


@pytest.mark.parametrize("layout", [MapLayout("channels_first"), MapLayout("channels_last"), MapLayout("tokens", 2)])
def test_a_feature_map_that_is_put_back_leaves_the_output_as_it_was(layout: MapLayout) -> None:
    output = torch.rand(2, 14, 5) if layout.kind == "tokens" else torch.rand(2, 3, 4, 5)
    feature_map = layout.feature_map(output, (2, 3, 12, 16))
    assert torch.equal(layout.with_feature_map(output, feature_map), output)
    changed = layout.with_feature_map(output, feature_map + 1)
    assert torch.equal(changed[:, layout.prefix_tokens :], output[:, layout.prefix_tokens :] + 1)
    assert torch.equal(changed[:, : layout.prefix_tokens], output[:, : layout.prefix_tokens])


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


def test_a_number_of_prefix_tokens_that_a_network_declares_decides() -> None:
    toy = ToyTransformer(1)
    calls = watch_layers(toy, observable_layers(toy), torch.zeros(1, 3, 32, 32))
    norm = next(call for call in calls if call.name == "blocks.1.norm1")
    assert Layouts(toy, calls, (1, 3, 32, 32)).of(norm) == [MapLayout("tokens", 1)]
    toy.num_prefix_tokens = 3  # so 65 tokens are no 8x8 patches behind them
    assert Layouts(toy, calls, (1, 3, 32, 32)).of(norm) == []
