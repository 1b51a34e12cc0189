"""Tokens fold to the grid of the image; a feature map that is read can be put back."""

from __future__ import annotations

import pytest
import torch

from ssimpert.models.layouts import MapLayout, fold_tokens


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
