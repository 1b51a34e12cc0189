"""Guided backpropagation and deconvolution against a way back written by hand, and against captum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop
from torch import Tensor, nn
from torch.nn import functional as F

from ssimpert.analysis.attributions.gradients import gradient
from ssimpert.analysis.attributions.guided_backprop import deconvolution, guided_backprop, rectified_gradient
from ssimpert.errors import InputError
from ssimpert.models import Classifier
from tests.ssimpert.analysis.naive import TwoLayers, conv, conv_back, toy_images

SIX, NONE = 6.0, np.inf


def by_hand(toy: TwoLayers, image: np.ndarray, target: int, uppers: tuple[float, float], guided: bool) -> np.ndarray:
    """Forward and the changed way back, in numpy."""
    before_first = conv(image, toy.conv1)
    after_first = np.clip(before_first, 0, uppers[0])
    before_second = conv(after_first, toy.conv2)
    signal = np.empty_like(before_second)
    for k in range(len(signal)):
        signal[k] = toy.head.weight.numpy()[target, k] / signal[k].size
    signal = np.maximum(signal, 0)
    if guided:
        signal = signal * ((before_second > 0) & (before_second < uppers[1]))
    signal = np.maximum(conv_back(signal, toy.conv2, after_first.shape), 0)
    if guided:
        signal = signal * ((before_first > 0) & (before_first < uppers[0]))
    return conv_back(signal, toy.conv1, image.shape)


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize(
    ("first", "second", "uppers"),
    [
        (nn.ReLU(), nn.ReLU(), (NONE, NONE)),
        (nn.ReLU6(), nn.ReLU(), (SIX, NONE)),
        (nn.ReLU6(inplace=True), nn.ReLU6(inplace=True), (SIX, SIX)),
        (F.relu6, torch.relu, (SIX, NONE)),
        (nn.Hardtanh(0, 2), Tensor.relu, (2.0, NONE)),
    ],
)
def test_equals_the_signal_by_hand(
    first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor], uppers: tuple[float, float], guided: bool
) -> None:
    toy, images, targets = TwoLayers(first, second), toy_images(), [0, 2, 1]
    signal = rectified_gradient(toy, images, torch.tensor(targets), guided=guided)
    maps = (guided_backprop if guided else deconvolution)(toy, images, torch.tensor(targets), normalize=False)
    for index, target in enumerate(targets):
        expected = by_hand(toy, images[index].numpy(), target, uppers, guided)
        assert np.abs(expected).max() > 0
        assert np.abs(signal[index].numpy() - expected).max() < 1e-10
        assert np.abs(maps[index].numpy() - np.abs(expected).max(axis=0)).max() < 1e-10
    saturated = conv(images[0].numpy(), toy.conv1) > uppers[0]
    assert bool(saturated.any()) == (uppers[0] < NONE)  # else the upper bound would not be tested


@pytest.mark.parametrize("guided", [True, False])
def test_equals_captum_on_plain_relus(guided: bool) -> None:
    toy, images, targets = TwoLayers(), toy_images(), torch.tensor([0, 2, 1])
    expected = (GuidedBackprop if guided else Deconvolution)(toy).attribute(images.requires_grad_(), targets)
    ours = rectified_gradient(toy, images, targets, guided=guided)
    torch.testing.assert_close(ours, expected.detach(), rtol=0, atol=1e-12)


class InPlaceStatement(TwoLayers):
    """Rectifies in place and goes on with the tensor that was given, not with the one returned."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.conv1(images)
        F.relu(hidden, inplace=True)
        hidden = self.conv2(hidden)
        hidden.relu_()
        return self.head(hidden.mean(dim=(2, 3)))


class Reused(TwoLayers):
    """One in-place ReLU for both layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.second = nn.ReLU(inplace=True).eval()


@pytest.mark.parametrize("method", [guided_backprop, deconvolution])
@pytest.mark.parametrize("other", [InPlaceStatement, Reused])
def test_in_place_and_reused_relus_give_the_same(method: Callable[..., Tensor], other: type[TwoLayers]) -> None:
    expected = method(TwoLayers(), toy_images(), 2, normalize=False)
    torch.testing.assert_close(method(other(), toy_images(), 2, normalize=False), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", [guided_backprop, deconvolution])
def test_a_model_without_a_rule_is_refused(method: Callable[..., Tensor]) -> None:
    images = toy_images()
    for activation, message in (
        (nn.SiLU(), "defined for ReLU and ReLU6; the model uses silu"),
        (nn.GELU(), "the model uses gelu"),
        (nn.Hardswish(), "the model uses hardswish"),
        (nn.LeakyReLU(inplace=True), "the model uses leaky_relu"),
        (nn.PReLU().double(), "the model uses prelu"),
        (nn.ELU(), "the model uses elu"),
        (nn.Softplus(), "the model uses softplus"),
        (nn.Threshold(0.1, 0.0), "the model uses _?threshold"),
        (nn.Hardtanh(), r"the model uses hardtanh from -1.0 to 1.0"),
    ):
        for other in (nn.ReLU(), activation):  # beside a ReLU as much as alone
            with pytest.raises(InputError, match=message):
                method(TwoLayers(other, activation), images, 0)
    with pytest.raises(InputError, match="change the way back through ReLU, and the model has none"):
        method(TwoLayers(torch.tanh, torch.sigmoid), images, 0)


def test_the_rule_ends_with_the_call() -> None:
    toy, images = TwoLayers(nn.ReLU6()), toy_images()
    before = gradient(toy, images, 1, normalize=False)
    guided_backprop(toy, images, 1)
    with pytest.raises(InputError):
        guided_backprop(TwoLayers(nn.SiLU()), images, 1)
    with pytest.raises(InputError):
        guided_backprop(toy, images, 7)
    assert torch.equal(gradient(toy, images, 1, normalize=False), before)


def test_efficientnets_relu6_are_caught(model: Classifier) -> None:
    """Against backward hooks on its modules, clipping what each ReLU6 sends back."""
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    plain = gradient(model, image, 282, normalize=False)
    guided = rectified_gradient(model, image, torch.tensor([282]), guided=True)
    assert guided.isfinite().all()
    assert not torch.allclose(guided.abs().amax(dim=1), plain)
    handles = [
        module.register_full_backward_hook(lambda _module, into, out: (into[0].clamp(min=0),))
        for module in model.modules()
        if isinstance(module, nn.ReLU6)
    ]
    try:
        leaf = image.clone().requires_grad_()
        model(leaf)[0, 282].backward()
    finally:
        for handle in handles:
            handle.remove()
    assert len(handles) > 30
    assert leaf.grad is not None
    torch.testing.assert_close(guided, leaf.grad, rtol=1e-4, atol=1e-5 * float(leaf.grad.abs().max()))
