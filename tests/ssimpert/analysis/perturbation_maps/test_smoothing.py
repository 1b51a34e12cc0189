"""Gaussian smoothing against scipy."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter

from ssimpert.analysis.perturbation_maps.smoothing import gaussian_smooth
from ssimpert.errors import InputError


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("size", [(40, 31), (5, 3), (1, 7)])
def test_equals_scipy_with_the_reflecting_border(size: tuple[int, int], sigma: float) -> None:
    """Also for maps far smaller than the kernel, which mirror several times over."""
    maps = torch.rand(2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = gaussian_smooth(maps, sigma)
    for index in range(2):
        expected = gaussian_filter(maps[index].numpy(), sigma, mode="reflect")
        assert abs(ours[index].numpy() - expected).max() < 1e-12


def test_zero_turns_it_off_and_the_mean_is_kept() -> None:
    maps = torch.rand(1, 20, 20, generator=torch.Generator().manual_seed(1))
    assert torch.equal(gaussian_smooth(maps, 0), maps)
    smooth = gaussian_smooth(maps, 2.0)
    assert smooth.dtype == torch.float32
    assert smooth.mean().item() == pytest.approx(maps.mean().item(), rel=1e-5)
    assert smooth.std() < 0.5 * maps.std()


def test_a_constant_map_has_no_highest_pixel_afterwards() -> None:
    maps = torch.full((2, 9, 13), 2 / 255)
    maps[1, 4, 4] = 0.5
    smooth = gaussian_smooth(maps, 2.0)
    assert torch.equal(smooth[0], maps[0])
    assert not torch.equal(smooth[1], maps[1])


def test_a_kernel_made_under_inference_mode_still_differentiates() -> None:
    maps = torch.rand(1, 9, 9, dtype=torch.float64)
    with torch.inference_mode():
        gaussian_smooth(maps, 1.234)
    maps.requires_grad_()
    gaussian_smooth(maps, 1.234).sum().backward()
    torch.testing.assert_close(maps.grad, torch.ones(1, 9, 9, dtype=torch.float64))


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf"), "2", True])
def test_sigma_must_be_a_number_of_pixels(sigma: object) -> None:
    with pytest.raises(InputError, match="sigma must be a number of pixels"):
        gaussian_smooth(torch.zeros(1, 4, 4), sigma)  # type: ignore[arg-type]
