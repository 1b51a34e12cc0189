"""The image that stands for "nothing there"."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ssimpert.analysis.attributions.baseline_image import baseline_image, mean_colour
from ssimpert.errors import InputError

IMAGES = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))


class WithBuffer(nn.Module):
    def __init__(self, mean: Any) -> None:
        super().__init__()
        self.mean = mean
        self.eval()


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (1, 3, 1, 1)])
def test_absent_is_the_mean_of_whatever_model_has_one(shape: tuple[int, ...]) -> None:
    mean = torch.tensor([0.5, 0.25, 0.125])
    found = baseline_image(WithBuffer(mean.reshape(shape)), IMAGES)
    assert torch.equal(found, mean[None, :, None, None].expand(IMAGES.shape))
    assert torch.equal(baseline_image(WithBuffer(torch.tensor(0.5)), IMAGES), torch.full_like(IMAGES, 0.5))


def test_absent_is_zero_for_a_model_without_a_mean() -> None:
    for model in (nn.Flatten(), WithBuffer("grey"), WithBuffer(0.5)):
        assert mean_colour(model, 3) is None
        assert torch.equal(baseline_image(model, IMAGES), torch.zeros_like(IMAGES))


def test_a_mean_that_is_no_colour_is_refused() -> None:
    with pytest.raises(InputError, match="the model's mean must be 1 or 3 finite numbers, got "):
        baseline_image(WithBuffer(torch.zeros(2)), IMAGES)
    with pytest.raises(InputError, match="finite numbers, got "):
        baseline_image(WithBuffer(torch.full((3,), float("nan"))), IMAGES)
