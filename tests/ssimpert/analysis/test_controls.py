"""The control maps against naive numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from solvers import Window
from ssimpert.analysis.controls import gradient_magnitude, local_std
from ssimpert.errors import InputError


def test_local_std_pixel_by_pixel() -> None:
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


def test_local_std_of_a_flat_bright_image_is_zero_up_to_rounding() -> None:
    """float32 arithmetic would show 1e-4 here."""
    for value in (0.1, 0.3, 0.7, 0.9):
        assert local_std(torch.full((1, 3, 16, 16), value)).max() < 1e-7


def test_gradient_magnitude() -> None:
    gradient = torch.randn(2, 3, 15, 14, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    norm = np.linalg.norm(gradient.numpy(), axis=1)
    assert np.abs(gradient_magnitude(gradient, sigma=0).numpy() - norm).max() < 1e-12
    smoothed = np.stack([gaussian_filter(v, 2.0, mode="reflect") for v in norm])
    assert np.abs(gradient_magnitude(gradient).numpy() - smoothed).max() < 1e-12
