"""Grad-CAM's relatives against maps from finite differences of the network's tail, and against captum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum.attr import GuidedGradCam, LayerGradCam, LayerGradientXActivation
from torch import Tensor, nn

from ssimpert.analysis.attributions.grad_cam import grad_cam
from ssimpert.analysis.attributions.grad_cam_variants import grad_cam_plus_plus, guided_grad_cam, hires_cam, layer_cam
from ssimpert.errors import InputError
from ssimpert.models import Classifier
from tests.ssimpert.analysis.naive import TwoLayers, bilinear, conv, finite_differences, toy_images

FAMILY = [grad_cam, grad_cam_plus_plus, hires_cam, layer_cam]


@pytest.fixture
def toy() -> TwoLayers:
    return TwoLayers(scale=1.0)


def by_hand(name: str, activation: np.ndarray, slopes: np.ndarray, logit: float) -> np.ndarray:
    """The layer's map by loops over its values, from the formulas as the papers print them."""
    channels, height, width = activation.shape
    total = np.zeros((height, width))
    for k in range(channels):
        weight = 0.0
        for i in range(height):
            for j in range(width):
                slope = slopes[k, i, j]
                if name == "grad_cam":
                    weight += slope / (height * width)
                if name == "grad_cam_plus_plus" and slope != 0:
                    alpha = slope**2 / (2 * slope**2 + activation[k].sum() * slope**3)
                    weight += alpha * max(np.exp(logit) * slope, 0) / np.exp(logit)
                if name == "hires_cam":
                    total[i, j] += slope * activation[k, i, j]
                if name == "layer_cam":
                    total[i, j] += max(slope, 0) * activation[k, i, j]
        total += weight * activation[k]
    return np.maximum(total, 0)


@pytest.mark.parametrize("method", FAMILY)
def test_equals_the_map_by_hand(method: Callable[..., Tensor], toy: TwoLayers) -> None:
    images, targets = toy_images(), [0, 2, 1]
    raw = method(toy, images, torch.tensor(targets), normalize=False)
    scaled = method(toy, images, torch.tensor(targets))
    assert raw.shape == scaled.shape == (3, 8, 10)
    alive = 0
    for index, target in enumerate(targets):
        activation = np.maximum(conv(images[index].numpy(), toy.conv1), 0)

        def logit(values: Tensor, target: int = target) -> Tensor:
            return toy.tail(values[None])[0, target]

        slopes = finite_differences(logit, torch.from_numpy(activation)).numpy()
        coarse = by_hand(method.__name__, activation, slopes, float(logit(torch.from_numpy(activation))))
        expected = bilinear(coarse, 8, 10)
        assert np.abs(raw[index].numpy() - expected).max() < 1e-8
        if coarse.max() > coarse.min():
            alive += 1
            span = (expected - expected.min()) / (expected.max() - expected.min())
            assert np.abs(scaled[index].numpy() - span).max() < 1e-6
    assert alive >= 2  # maps that are zero everywhere would prove nothing


def test_the_methods_differ(toy: TwoLayers) -> None:
    maps = [method(toy, toy_images(), 2) for method in FAMILY]
    for first in range(4):
        for second in range(first):
            assert not torch.allclose(maps[first], maps[second], atol=1e-3)


def test_grad_cam_and_hires_cam_equal_captum(toy: TwoLayers) -> None:
    images, targets = toy_images(), torch.tensor([0, 2, 1])
    for ours, coarse in (
        (grad_cam, LayerGradCam(toy, toy.rectified).attribute(images, targets)[:, 0]),
        (hires_cam, LayerGradientXActivation(toy, toy.rectified).attribute(images, targets).sum(dim=1)),
    ):
        for index, values in enumerate(coarse.clamp(min=0).detach().numpy()):
            raw = ours(toy, images, targets, normalize=False)[index].numpy()
            assert np.abs(raw - bilinear(values, 8, 10)).max() < 1e-6


def test_guided_grad_cam_equals_captum_on_plain_relus(toy: TwoLayers) -> None:
    images, targets = toy_images(), torch.tensor([0, 2, 1])
    expected = GuidedGradCam(toy, toy.rectified).attribute(images, targets, interpolate_mode="bilinear").detach()
    assert expected.abs().amax(dim=(1, 2, 3)).count_nonzero() >= 2
    for channels, reduced in (("max", expected.abs().amax(dim=1)), ("signed", expected.sum(dim=1))):
        raw = guided_grad_cam(toy, images, targets, normalize=False, channels=channels)
        torch.testing.assert_close(raw, reduced, rtol=0, atol=1e-10)


def test_grad_cam_plus_plus_survives_tiny_gradients(toy: TwoLayers) -> None:
    """g^3 would underflow in float32; alpha tends to 1/2 there."""
    small = TwoLayers(scale=1.0).float()
    images = toy_images().float()
    small.head.weight *= 1e-18
    tiny = grad_cam_plus_plus(small, images, 2, normalize=False)
    expected = 1e-18 * 0.5 * _positive_gradient_map(toy, toy_images(), 2)
    assert tiny.max() > 0
    torch.testing.assert_close(tiny.double() * 1e18, expected * 1e18, rtol=1e-4, atol=1e-4)


def _positive_gradient_map(toy: TwoLayers, images: Tensor, target: int) -> Tensor:
    activation = toy.first(toy.conv1(images)).requires_grad_()
    (slopes,) = torch.autograd.grad(toy.tail(activation)[:, target].sum(), activation)
    coarse = (slopes.clamp(min=0).sum(dim=(2, 3), keepdim=True) * activation.detach()).sum(dim=1)
    return torch.stack([torch.from_numpy(bilinear(values.numpy(), 8, 10)) for values in coarse])


class InPlace(nn.Module):
    """An in-place ReLU follows the convolution whose output is explained."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.toy = TwoLayers(scale=1.0)
        self.relu = nn.ReLU(inplace=inplace)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.toy.tail(self.relu(self.toy.conv1(images)))


@pytest.mark.parametrize("method", [grad_cam_plus_plus, hires_cam, layer_cam])
def test_an_in_place_activation_after_the_layer_changes_nothing(method: Callable[..., Tensor]) -> None:
    for layer in ("toy.conv1", "relu"):
        there, apart = (method(InPlace(inplace), toy_images(), 2, layer) for inplace in (True, False))
        assert torch.equal(there, apart)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu, self.beside = nn.ReLU(), nn.Conv2d(3, 3, 1)
        self.flat = nn.Flatten()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        self.beside(images)
        return self.flat(self.relu(self.relu(images) - 0.5).mean(dim=(2, 3)))


@pytest.mark.parametrize("method", [grad_cam_plus_plus, hires_cam, layer_cam])
def test_layers_that_have_no_map_are_refused(method: Callable[..., Tensor]) -> None:
    images = torch.rand(2, 3, 5, 5)
    for layer, message in (
        ("relu", r"layer 'relu' runs 2 times in one forward pass"),
        ("beside", r"the logits do not depend on layer 'beside'"),
        ("flat", r"layer 'flat' of model Twice has no feature maps .*: its output is \(1, 3\)"),
        ("flut", r"unknown layer 'flut'; the model has relu, "),
    ):
        with pytest.raises(InputError, match=message):
            method(Twice(), images, 0, layer)
    with pytest.raises(InputError, match="does not run"):
        method(Twice(), images, 0, nn.ReLU())


def test_efficientnet_has_all_of_them(model: Classifier) -> None:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for method in (*FAMILY, guided_grad_cam):
        raw = method(model, image, 282, normalize=False)
        assert raw.shape == (1, 64, 64)
        assert raw.min() >= 0
        assert raw.max() > 0
