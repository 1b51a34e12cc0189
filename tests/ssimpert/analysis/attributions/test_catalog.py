"""What every attribution promises, whatever its name, and the front door to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.catalog import ATTRIBUTIONS, attribution
from ssimpert.analysis.attributions.rise import rise
from ssimpert.errors import InputError
from ssimpert.models import Classifier
from tests.ssimpert.analysis.naive import TwoLayers, hooks, toy_images

NAMES = [
    "grad_cam",
    "grad_cam_plus_plus",
    "hires_cam",
    "layer_cam",
    "guided_grad_cam",
    "gradient",
    "input_x_gradient",
    "smooth_grad",
    "integrated_gradients",
    "occlusion",
    "deconvolution",
    "guided_backprop",
    "rise",
]
SMALL: dict[str, dict[str, Any]] = {
    "smooth_grad": {"samples": 3},
    "integrated_gradients": {"steps": 4},
    "occlusion": {"window": 4, "stride": 2},
    "rise": {"masks": 10, "cells": 3},
}
every = pytest.mark.parametrize("name", NAMES)


def run(name: str, model: nn.Module, images: Tensor, target: int | Tensor, **options: Any) -> Tensor:
    return attribution(name, model, images, target, **SMALL.get(name, {}), **options)


@pytest.fixture
def toy() -> TwoLayers:
    return TwoLayers(nn.ReLU6(), nn.ReLU(), scale=1.0)


def test_the_table_has_all_names() -> None:
    assert list(ATTRIBUTIONS) == NAMES


@every
def test_a_map_an_image_between_0_and_1(name: str, toy: TwoLayers) -> None:
    maps = run(name, toy, toy_images(8), 2)
    assert maps.shape == (8, 8, 10)
    assert maps.dtype == torch.float64
    assert not maps.requires_grad
    assert maps.isfinite().all()
    spans = torch.stack([maps.amin(dim=(1, 2)), maps.amax(dim=(1, 2))], dim=1).tolist()
    assert all(span in ([0.0, 1.0], [0.0, 0.0]) for span in spans)
    assert spans.count([0.0, 1.0]) >= 6


@every
def test_a_batch_gives_what_its_images_give_alone(name: str, toy: TwoLayers) -> None:
    images, targets = toy_images(8).float(), torch.arange(8) % 3
    together = run(name, toy.float(), images, targets)
    alone = torch.cat([run(name, toy, images[i : i + 1], int(targets[i])) for i in range(8)])
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-5)


@every
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_without_gradients(name: str, context: Callable[[], Any], toy: TwoLayers) -> None:
    expected = run(name, toy, toy_images(), 1)
    with context():
        maps = run(name, toy, toy_images(), torch.tensor([1, 1, 1]))
    assert torch.equal(maps, expected)
    expected.requires_grad_()  # an inference tensor would refuse


@every
def test_leaves_nothing_behind(name: str, toy: TwoLayers) -> None:
    images = toy_images().requires_grad_()
    toy.requires_grad_(True)
    state, pixels = torch.get_rng_state(), images.detach().clone()
    maps = run(name, toy, images, 1)
    with pytest.raises(InputError, match="target class 3 does not exist; the model has classes 0 to 2"):
        run(name, toy, images, 3)
    with pytest.raises(RuntimeError):
        run(name, toy, images[:, :2], 1)  # fails inside the model
    assert not maps.requires_grad
    assert hooks(toy) == 0
    assert images.grad is None
    assert all(parameter.grad is None for parameter in toy.parameters())
    assert torch.equal(images.detach(), pixels)
    assert torch.equal(torch.get_rng_state(), state)


@every
def test_nan_stays_in_its_image(name: str, toy: TwoLayers) -> None:
    images = toy_images()
    images[1] = float("nan")
    assert run(name, toy, images, 1).isnan().flatten(1).any(dim=1).tolist() == [False, True, False]


@every
def test_a_constant_map_is_zero(name: str) -> None:
    """Nothing depends on the image but through a weight of zero."""
    toy = TwoLayers(scale=1.0)
    toy.head.weight.zero_()
    maps = run(name, toy, toy_images(), 1)
    if name != "rise":  # its map of a constant score is the mean of the masks
        assert (maps == 0).all()


@every
def test_normalising_is_min_max(name: str, toy: TwoLayers) -> None:
    raw, scaled = (run(name, toy, toy_images(), 2, normalize=normalize) for normalize in (False, True))
    low, high = raw.amin(dim=(1, 2), keepdim=True), raw.amax(dim=(1, 2), keepdim=True)
    alive = (high > low)[:, 0, 0]
    assert alive.sum() >= 2
    torch.testing.assert_close(scaled[alive], ((raw - low) / (high - low))[alive], rtol=0, atol=1e-12)


def test_seed_and_layer_reach_the_method(toy: TwoLayers) -> None:
    images = toy_images()
    assert torch.equal(run("rise", toy, images, 1, seed=4), rise(toy, images, 1, masks=10, cells=3, seed=4))
    assert torch.equal(run("gradient", toy, images, 1, seed=4), run("gradient", toy, images, 1))
    by_name = run("layer_cam", toy, images, 2, layer="conv2")
    assert torch.equal(by_name, run("layer_cam", toy, images, 2, layer=toy.conv2))
    assert not torch.allclose(by_name, run("layer_cam", toy, images, 2))


def test_errors_name_what_is_valid(toy: TwoLayers) -> None:
    images = toy_images()
    with pytest.raises(InputError, match=f"unknown attribution 'gradcam'; known: {', '.join(NAMES)}"):
        attribution("gradcam", toy, images, 0)
    with pytest.raises(InputError, match="attribution 'gradient' has no option 'layer'; it has normalize, channels"):
        attribution("gradient", toy, images, 0, layer="conv1")
    with pytest.raises(InputError, match="attribution 'rise' has no option 'steps'; it has masks, cells, keep"):
        attribution("rise", toy, images, 0, steps=3)
    with pytest.raises(InputError, match=r"images must have shape \(B, C, H, W\), got \(3, 8, 10\)"):
        attribution("rise", toy, images[0], 0)


def test_the_embedded_classifier_has_every_map(model: Classifier) -> None:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()
    for name in NAMES:
        options = {"window": 32, "stride": 32} if name == "occlusion" else SMALL.get(name, {})
        maps = attribution(name, model, image, 282, **options)
        assert maps.shape == (1, 64, 64)
        assert maps.dtype == torch.float64  # the images', though the model computes in float32
        assert maps.min() == 0
        assert maps.max() == 1
