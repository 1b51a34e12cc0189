"""The SSIM index of one 3x224x224 pair by this library and three others, at equal settings and on one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_msssim import ssim as msssim
from skimage.metrics import structural_similarity

import ssimpert
from ssimpert import metrics

torch.set_num_threads(1)
Benchmark = Callable[..., Any]


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    image = ssimpert.load_image("chelsea", size=224)
    noise = 0.02 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return image, (image + noise).clamp(0, 1)


def ours(x: torch.Tensor, y: torch.Tensor) -> float:
    return float(metrics.ssim(x, y, data_range=1.0))


def scikit_image(x: torch.Tensor, y: torch.Tensor) -> float:
    return float(
        structural_similarity(
            x[0].numpy(),
            y[0].numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def pytorch_msssim(x: torch.Tensor, y: torch.Tensor) -> float:
    return float(msssim(x, y, data_range=1.0, win_size=11, win_sigma=1.5))


def torchmetrics(x: torch.Tensor, y: torch.Tensor) -> float:
    from torchmetrics.functional.image import structural_similarity_index_measure

    return float(structural_similarity_index_measure(x, y, data_range=1.0, sigma=1.5, kernel_size=11))


@pytest.mark.parametrize("library", [ours, scikit_image, pytorch_msssim, torchmetrics], ids=lambda f: f.__name__)
def test_ssim(benchmark: Benchmark, pair: tuple[torch.Tensor, torch.Tensor], library: Callable[..., float]) -> None:
    value = benchmark(library, *pair)
    # torchmetrics pads by reflection and cuts the padding off again, so all four average whole windows.
    assert value == pytest.approx(ours(*pair), abs=2e-4)
