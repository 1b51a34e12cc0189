"""The layouts that are found from one pass, against those that two images of different sizes show."""

from __future__ import annotations

import pytest
import torch

from benchmarks.layer_layouts import layouts_beside_the_truth
from ssimpert.models.layer_outputs import observable_layers, watch_layers
from ssimpert.models.layout_candidates import LayoutCandidates
from ssimpert.models.layouts import MapLayout
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


def test_a_number_of_prefix_tokens_that_a_network_declares_decides() -> None:
    toy = ToyTransformer(1)
    calls = watch_layers(toy, observable_layers(toy), torch.zeros(1, 3, 32, 32))
    norm = next(call for call in calls if call.name == "blocks.1.norm1")
    assert LayoutCandidates(toy, calls, (1, 3, 32, 32)).of(norm) == [MapLayout("tokens", 1)]
    toy.num_prefix_tokens = 3  # so 65 tokens are no 8x8 patches behind them
    assert LayoutCandidates(toy, calls, (1, 3, 32, 32)).of(norm) == []
