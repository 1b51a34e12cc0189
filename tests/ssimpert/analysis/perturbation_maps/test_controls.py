"""The control maps against naive numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from solvers import Window
from ssimpert.analysis.perturbation_maps.controls import centred_gaussian, gradient_magnitude, local_std, local_variance
from ssimpert.errors import InputError


def test_local_std_is_the_root_of_the_mean_variance_around_each_pixel() -> None:
    """Population variance of the 7 x 7 neighbourhood, cut at the edge, averaged over channels; its root."""
    image = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    ours = local_std(image).numpy()
    assert ours.shape == (2, 12, 10)
    for b in range(2):
        for row in range(12):
            for column in range(10):
                patch = image[b, :, max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4].numpy()
                expected = np.sqrt(patch.reshape(3, -1).var(axis=1).mean())
                assert ours[b, row, column] == pytest.approx(expected, abs=1e-12)


def test_local_std_ignores_border_and_stride_and_keeps_the_dtype() -> None:
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(5))
    ours = local_std(image, Window.uniform(7, stride=7, border="valid"))
    assert ours.dtype == torch.float32
    assert torch.equal(ours, local_std(image))
    assert not torch.equal(local_std(image, Window.gaussian()), ours)
    with pytest.raises(InputError, match="window size must be odd"):
        local_std(image, Window.uniform(8))


def test_local_std_of_a_flat_image_is_zero() -> None:
    """Rounding noise would have a highest pixel."""
    for value in (0.1, 0.3, 0.7, 0.9):
        assert local_std(torch.full((1, 3, 16, 16), value)).max() == 0


def test_gradient_magnitude_is_the_smoothed_norm_over_channels() -> None:
    gradient = torch.randn(2, 3, 15, 14, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    norm = np.linalg.norm(gradient.numpy(), axis=1)
    assert np.abs(gradient_magnitude(gradient, sigma=0).numpy() - norm).max() < 1e-12
    smoothed = np.stack([gaussian_filter(v, 2.0, mode="reflect") for v in norm])
    assert np.abs(gradient_magnitude(gradient).numpy() - smoothed).max() < 1e-12


def test_local_variance_is_the_square_of_the_standard_deviation() -> None:
    image = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    torch.testing.assert_close(local_variance(image), local_std(image) ** 2, rtol=1e-12, atol=0)
    patch = image[1, :, 2:9, 1:8].numpy().reshape(3, -1)
    assert local_variance(image)[1, 5, 4].item() == pytest.approx(patch.var(axis=1).mean(), abs=1e-14)
    assert local_variance(image.float()).dtype == torch.float32
    with pytest.raises(InputError, match="window size must be odd"):
        local_variance(image, Window.uniform(8))


@pytest.mark.parametrize("size", [(6, 9), (7, 7), (1, 4)])
@pytest.mark.parametrize("sigma", [0.25, 0.1])
def test_centred_gaussian_is_the_formula_at_every_pixel(size: tuple[int, int], sigma: float) -> None:
    height, width = size
    ours = centred_gaussian(height, width, sigma, dtype=torch.float64)
    assert ours.shape == size
    for row in range(height):
        for column in range(width):
            down = (row - (height - 1) / 2) / (sigma * height)
            across = (column - (width - 1) / 2) / (sigma * width)
            assert ours[row, column].item() == pytest.approx(math.exp(-(down**2 + across**2) / 2), abs=1e-15)


def test_centred_gaussian_is_symmetric_and_its_default_is_a_quarter_of_each_side() -> None:
    ours = centred_gaussian(8, 11)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, ours.flip(0))
    assert torch.equal(ours, ours.flip(1))
    assert torch.equal(ours, centred_gaussian(8, 11, 0.25))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5), "height must be an integer of at least 1, got 0"),
        ((5, 2.5), r"width must be an integer of at least 1, got 2\.5"),
        ((5, 5, 0.0), r"sigma must be positive and finite, got 0\.0"),
        ((5, 5, math.nan), "sigma must be positive and finite, got nan"),
    ],
)
def test_centred_gaussian_names_what_it_refuses(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        centred_gaussian(*arguments)
    with pytest.raises(InputError, match=r"floating-point type, got torch\.int64"):
        centred_gaussian(5, 5, dtype=torch.int64)
