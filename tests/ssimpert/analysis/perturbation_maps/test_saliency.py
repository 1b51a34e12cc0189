"""The three saliency maps against naive numpy, scipy and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from solvers import Window
from ssimpert.analysis.perturbation_maps.saliency import (
    SALIENCY_KINDS,
    contribution,
    perceptual_ball_saliency,
    rms,
    saliency,
    saliency_maps,
    ssim_saliency,
)
from ssimpert.errors import InputError
from ssimpert.models import Classifier


@pytest.fixture
def triple() -> tuple[Tensor, Tensor, Tensor]:
    """Image, perturbed image and gradient, (2, 3, 24, 20) float64."""
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(2, 3, 24, 20, generator=generator, dtype=torch.float64)
    delta = 0.05 * torch.randn(2, 3, 24, 20, generator=generator, dtype=torch.float64)
    gradient = torch.randn(2, 3, 24, 20, generator=generator, dtype=torch.float64)
    return image, image + delta, gradient


@pytest.mark.parametrize("sigma", [0, 2.0])
def test_rms_is_the_smoothed_root_of_the_channel_mean_of_squares(
    triple: tuple[Tensor, Tensor, Tensor], sigma: float
) -> None:
    delta = triple[1] - triple[0]
    ours = rms(delta, sigma=sigma)
    for index in range(2):
        raw = np.sqrt((delta[index].numpy() ** 2).mean(axis=0))
        expected = gaussian_filter(raw, 2.0, mode="reflect") if sigma else raw
        assert np.abs(ours[index].numpy() - expected).max() < 1e-12


def test_rms_of_signs_is_constant_though_pixels_round() -> None:
    image = 0.02 + 0.9 * torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    delta = (image + 0.011 * (image - 0.5).sign()) - image
    assert len(delta.abs().unique()) > 1
    found = rms(delta)
    assert torch.equal(found, found[:, :1, :1].expand_as(found))
    assert float(found.max()) == pytest.approx(0.011, abs=1e-6)


def test_perceptual_ball_saliency_is_the_papers_map_in_normalised_pixels(triple: tuple[Tensor, Tensor, Tensor]) -> None:
    image, adversarial, _ = triple
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.4)
    model = Classifier(nn.Identity(), name="none", input_size=24, labels=["a"], mean=mean, std=std)
    ours = perceptual_ball_saliency(model, image, adversarial)
    plain = perceptual_ball_saliency(nn.Identity(), image, adversarial)
    for index in range(2):
        x, y = (value[index].numpy().transpose(1, 2, 0) for value in (image, adversarial))
        normalised = ((y - mean) / std) - ((x - mean) / std)
        expected = gaussian_filter(np.sqrt((normalised**2).mean(axis=2)), 2.0, mode="reflect")
        assert np.abs(ours[index].numpy() - expected).max() < 1e-6  # a Classifier's std is float32
        expected = gaussian_filter(np.sqrt(((y - x) ** 2).mean(axis=2)), 2.0, mode="reflect")
        assert np.abs(plain[index].numpy() - expected).max() < 1e-12


@pytest.mark.parametrize("sigma", [0, 2.0])
def test_contribution_is_the_positive_part_of_the_channel_sum(
    triple: tuple[Tensor, Tensor, Tensor], sigma: float
) -> None:
    image, adversarial, gradient = triple
    delta = adversarial - image
    ours = contribution(gradient, delta, sigma=sigma)
    for index in range(2):
        raw = np.maximum((gradient[index] * delta[index]).numpy().sum(axis=0), 0)
        expected = gaussian_filter(raw, 2.0, mode="reflect") if sigma else raw
        assert np.abs(ours[index].numpy() - expected).max() < 1e-12
    assert (contribution(gradient, -gradient, sigma=0) == 0).all()


def test_smoothing_by_two_pixels_is_the_default(triple: tuple[Tensor, Tensor, Tensor]) -> None:
    image, adversarial, gradient = triple
    delta = adversarial - image
    assert torch.equal(rms(delta), rms(delta, sigma=2.0))
    assert torch.equal(contribution(gradient, delta), contribution(gradient, delta, sigma=2.0))
    assert not torch.allclose(rms(delta), rms(delta, sigma=0))


def test_ssim_map_is_the_standard_one_inside_and_covers_the_edge(
    triple: tuple[Tensor, Tensor, Tensor],
) -> None:
    image, adversarial, _ = triple
    ours = ssim_saliency(image, adversarial, data_range=1.0)
    assert ours.shape == (2, 24, 20)
    for index in range(2):
        _, full = structural_similarity(
            image[index].numpy(),
            adversarial[index].numpy(),
            data_range=1.0,
            channel_axis=0,
            gaussian_weights=True,
            use_sample_covariance=False,
            full=True,
        )
        expected = (1 - full).mean(axis=0)[5:-5, 5:-5]
        assert np.abs(ours[index, 5:-5, 5:-5].numpy() - expected).max() < 1e-10
    # a change of one corner pixel must show in the corner
    corner = image.clone()
    corner[:, :, 0, 0] += 0.3
    shown = ssim_saliency(image, corner, data_range=1.0)
    assert (shown.flatten(1).argmax(dim=1) == 0).all()


def test_ssim_map_ignores_the_windows_border_and_stride(triple: tuple[Tensor, Tensor, Tensor]) -> None:
    image, adversarial, _ = triple
    tiles = Window.uniform(7, stride=7, border="valid")
    expected = ssim_saliency(image, adversarial, data_range=1.0, window=Window.uniform(7))
    assert torch.equal(ssim_saliency(image, adversarial, data_range=1.0, window=tiles), expected)
    with pytest.raises(InputError, match="window size must be odd to be centred on a pixel, got 8"):
        ssim_saliency(image, adversarial, data_range=1.0, window=Window.uniform(8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_maps_are_nonnegative_and_zero_without_a_perturbation(
    triple: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype
) -> None:
    image, adversarial, gradient = (v.to(dtype) for v in triple)
    maps = saliency_maps(image, adversarial, gradient)
    assert tuple(maps) == SALIENCY_KINDS == ("rms", "ssim", "contribution")
    for values in maps.values():
        assert values.shape == (2, 24, 20)
        assert values.dtype == dtype
        assert values.min() >= 0
        assert values.max() > 0
    for values in saliency_maps(image, image.clone(), gradient).values():
        assert (values == 0).all()


def test_dispatcher_calls_the_map_of_that_name(triple: tuple[Tensor, Tensor, Tensor]) -> None:
    image, adversarial, gradient = triple
    delta = adversarial - image
    window = Window.uniform(5)
    assert torch.equal(saliency("rms", image, adversarial, sigma=1.0), rms(delta, sigma=1.0))
    assert torch.equal(
        saliency("ssim", image, adversarial, window=window, data_range=2.0),
        ssim_saliency(image, adversarial, window=window, data_range=2.0),
    )
    assert torch.equal(
        saliency("contribution", image, adversarial, gradient, sigma=1.0),
        contribution(gradient, delta, sigma=1.0),
    )


def test_errors_name_the_value(triple: tuple[Tensor, Tensor, Tensor]) -> None:
    image, adversarial, gradient = triple
    with pytest.raises(InputError, match="unknown saliency map 'rmss'; did you mean rms"):
        saliency("rmss", image, adversarial)
    with pytest.raises(InputError, match="'contribution' needs the margin's gradient"):
        saliency("contribution", image, adversarial)
    with pytest.raises(InputError, match=r"same shape, got \(2, 3, 24, 20\) and \(1, 3, 24, 20\)"):
        saliency("rms", image, adversarial[:1])
    with pytest.raises(InputError, match=r"gradient must have shape \(B, C, H, W\), got \(3, 24, 20\)"):
        contribution(gradient[0], gradient)
    with pytest.raises(InputError, match=r"delta must be float32 or float64, got torch\.float16"):
        rms(image.half())
