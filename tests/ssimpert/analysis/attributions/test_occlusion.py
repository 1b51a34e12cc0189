"""Occlusion against a loop that paints windows one by one."""

from __future__ import annotations

import pytest
import torch
from captum.attr import Occlusion

from ssimpert.analysis.attributions.occlusion import occlusion
from ssimpert.errors import InputError
from tests.ssimpert.analysis.naive import TwoLayers, toy_images


@pytest.mark.parametrize(("window", "stride"), [(3, 2), (4, 4), (8, 1)])
@pytest.mark.parametrize("paint", [None, 0.5])
def test_equals_the_loop(window: int, stride: int, paint: float | None) -> None:
    toy, images, targets = TwoLayers(scale=1.0), toy_images(), [0, 2, 1]
    raw = occlusion(
        toy, images, torch.tensor(targets), window=window, stride=stride, baseline=paint, batch_size=3, normalize=False
    )
    for index, target in enumerate(targets):
        image = images[index]
        clean = toy(image[None]).softmax(1)[0, target]
        falls, covers = torch.zeros(2, 8, 10, dtype=torch.float64)
        top = 0
        while True:
            left = 0
            while True:
                painted = image.clone()
                painted[:, top : top + window, left : left + window] = 0.0 if paint is None else paint
                fall = clean - toy(painted[None]).softmax(1)[0, target]
                falls[top : top + window, left : left + window] += fall
                covers[top : top + window, left : left + window] += 1
                if left + window >= 10:
                    break
                left += stride
            if top + window >= 8:
                break
            top += stride
        assert covers.min() >= 1
        assert falls.abs().max() > 1e-3
        torch.testing.assert_close(raw[index], falls / covers, rtol=0, atol=1e-12)


def test_equals_captum() -> None:
    toy, images, targets = TwoLayers(scale=1.0), toy_images(), torch.tensor([0, 2, 1])
    captum = Occlusion(lambda batch: toy(batch).softmax(1)).attribute(
        images, sliding_window_shapes=(3, 4, 4), strides=(3, 3, 3), target=targets
    )
    raw = occlusion(toy, images, targets, window=4, stride=3, normalize=False)
    torch.testing.assert_close(raw.float(), captum[:, 0], rtol=0, atol=1e-6)


def test_no_forward_pass_is_larger_than_the_batch_size() -> None:
    sizes: list[int] = []

    class Watched(TwoLayers):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            return super().forward(images)

    occlusion(Watched(), toy_images(2), 1, window=4, stride=4, batch_size=4)  # 2 x 3 windows
    assert sizes == [1, 4, 2] * 2


def test_options_out_of_range_are_refused() -> None:
    for options, message in (
        ({}, "window must be at most 8 for images 8x10, got 32"),
        ({"window": 4, "stride": 5}, "stride must be at most the window's 4, or pixels are left out, got 5"),
        ({"window": 0}, "window must be an integer of at least 1, got 0"),
        ({"window": 4, "stride": 2, "batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
    ):
        with pytest.raises(InputError, match=message):
            occlusion(TwoLayers(), toy_images(), 0, **options)  # type: ignore[arg-type]
