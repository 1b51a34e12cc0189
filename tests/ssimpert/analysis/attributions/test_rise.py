"""RISE against a loop over the same masks, and its masks against scikit-image's resizing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.transform import resize
from torch import Tensor, nn

from ssimpert.analysis.attributions.rise import draw_masks, render_masks, rise
from ssimpert.errors import InputError
from tests.ssimpert.analysis.naive import TwoLayers, toy_images


@pytest.mark.parametrize(("height", "width", "cells"), [(28, 28, 7), (23, 30, 7), (9, 8, 2)])
def test_masks_are_the_released_codes(height: int, width: int, cells: int) -> None:
    draws = draw_masks(12, height, width, cells=cells, keep=0.5, seed=3)
    like = torch.empty(1, 3, height, width, dtype=torch.float64)
    masks = torch.cat(list(render_masks(draws, like, 5)))
    assert masks.shape == (12, height, width)
    cell = (int(np.ceil(height / cells)), int(np.ceil(width / cells)))
    for index in range(12):
        grid = draws.grids[index].numpy().astype(float)
        size = ((cells + 1) * cell[0], (cells + 1) * cell[1])
        large = resize(grid, size, order=1, mode="reflect", anti_aliasing=False)
        row, column = int(draws.rows[index]), int(draws.columns[index])
        assert 0 <= row < cell[0]
        assert 0 <= column < cell[1]
        expected = large[row : row + height, column : column + width]
        assert np.abs(masks[index].numpy() - expected).max() < 1e-6  # scikit-image's own rounding


def test_draws_have_the_stated_distribution() -> None:
    draws = draw_masks(4000, 28, 21, cells=7, keep=0.3, seed=0)
    share = draws.grids.double().mean(dim=0)
    assert (share - 0.3).abs().max() < 5 * (0.3 * 0.7 / 4000) ** 0.5
    for shifts, cell in ((draws.rows, 4), (draws.columns, 3)):
        counts = shifts.bincount(minlength=cell)
        assert len(counts) == cell
        assert (counts / 4000 - 1 / cell).abs().max() < 5 * (0.25 / 4000) ** 0.5


@pytest.mark.parametrize("paint", [None, 0.5])
def test_equals_the_loop_over_the_same_masks(paint: float | None) -> None:
    toy, images, targets = TwoLayers(scale=1.0), toy_images(), [0, 2, 1]
    raw = rise(toy, images, torch.tensor(targets), masks=17, cells=3, keep=0.4, seed=9, baseline=paint, normalize=False)
    masks = torch.cat(list(render_masks(draw_masks(17, 8, 10, cells=3, keep=0.4, seed=9), images, 1)))
    absent = 0.0 if paint is None else paint
    for index, target in enumerate(targets):
        total = np.zeros((8, 10))
        for mask in masks:
            masked = images[index].clone()
            for channel in range(3):
                masked[channel] = mask * masked[channel] + (1 - mask) * absent
            exponentials = np.exp(toy(masked[None])[0].numpy())
            total += exponentials[target] / exponentials.sum() * mask.numpy()
        assert np.abs(raw[index].numpy() - total / (17 * 0.4)).max() < 1e-12


def test_the_pixel_that_decides_is_found() -> None:
    class OnePixel(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen = images[:, 0, 20, 6]
            return torch.stack([6 * seen - 3, 3 - 6 * seen], dim=1)

    found = rise(OnePixel().eval(), torch.ones(1, 1, 28, 28), 0, masks=800)[0]
    row, column = divmod(int(found.argmax()), 28)
    assert abs(row - 20) <= 3
    assert abs(column - 6) <= 3


def test_a_constant_score_gives_the_mean_mask_over_keep() -> None:
    class Even(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.new_zeros(len(images), 4)

    flat = rise(Even().eval(), torch.ones(1, 1, 28, 28), 0, masks=2000, normalize=False)
    assert (flat - 0.25).abs().max() < 0.02  # E[M] = keep everywhere, up to the edge


def test_depends_on_the_seed_and_not_on_the_batch_size() -> None:
    toy, images = TwoLayers(scale=1.0), toy_images()
    first = rise(toy, images, 1, masks=30, cells=4)
    assert torch.equal(first, rise(toy, images, 1, masks=30, cells=4))
    for size in (1, 7, 64):
        other = rise(toy, images, 1, masks=30, cells=4, batch_size=size)
        torch.testing.assert_close(other, first, rtol=0, atol=1e-12)
    assert not torch.allclose(first, rise(toy, images, 1, masks=30, cells=4, seed=1), atol=1e-2)


def test_no_forward_pass_is_larger_than_the_batch_size() -> None:
    sizes: list[int] = []

    class Watched(TwoLayers):
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(len(images))
            return super().forward(images)

    rise(Watched(), toy_images(2), 1, masks=10, cells=4, batch_size=4)
    assert sizes == [4, 4, 4, 4, 2, 2]


def test_options_out_of_range_are_refused() -> None:
    for options, message in (
        ({"masks": 0}, "masks must be an integer of at least 1, got 0"),
        ({"cells": 1}, "cells must be an integer of at least 2, got 1"),
        ({"cells": 9}, "cells must be from 2 to 8 for images 8x10, got 9"),
        ({"keep": 1.0}, "keep must be a probability strictly between 0 and 1, got 1.0"),
        ({"keep": float("nan")}, "keep must be a probability .*, got nan"),
        ({"seed": 1.5}, "seed must be an integer .*, got 1.5"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
    ):
        with pytest.raises(InputError, match=message):
            rise(TwoLayers(), toy_images(), 0, **options)  # type: ignore[arg-type]
