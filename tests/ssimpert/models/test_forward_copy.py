"""Copies for many forward passes: equal to the model, gone where they may not be, and sound on any way through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ssimpert.models import Classifier
from ssimpert.models.forward_copy import LEAST_IMAGES, forward_copy
from ssimpert.models.forward_passes import Model

EXAMPLE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 0.3
OTHERS = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 0.3
BRIGHT = OTHERS + 0.7


class Norms(TorchFunctionMode):
    """Counts batch norms that are really computed."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is nn.functional.batch_norm
        return func(*args, **(kwargs or {}))


def norms(forward: Model, images: Tensor = OTHERS) -> int:
    with Norms() as counted:
        forward(images)
    return counted.count


class Layers(nn.Module):
    """Convolutions with every kind of batch norm that can be folded, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, groups=8), BatchNormAct2d(8, act_layer=nn.ReLU6, inplace=False)
        self.conv3, self.norm3 = nn.Conv2d(8, 8, 1, padding_mode="reflect"), nn.BatchNorm2d(8, affine=False)
        self.head = nn.Linear(8, 4)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for module in self.modules():
                for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                    if tensor.is_floating_point():
                        tensor.copy_(torch.randn(tensor.shape, generator=generator))
                if isinstance(module, nn.BatchNorm2d):
                    module.running_var.abs_().add_(0.1)
        self.eval().requires_grad_(False)

    def start(self, images: Tensor) -> Tensor:
        return self.norm1(self.conv1(images)).relu()

    def end(self, features: Tensor) -> Tensor:
        return self.head(self.norm3(self.conv3(self.norm2(self.conv2(features)))).mean(dim=(2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        return self.end(self.start(images))


class SkipsOnBright(Layers):
    """Takes no norm where the image is bright."""

    def start(self, images: Tensor) -> Tensor:
        features = self.conv1(images)
        return features if bool(images.mean() > 0.5) else self.norm1(features)


class NormalisesOtherThings(Layers):
    """Norms a bright image's features, not the convolution's output, though that is computed as ever."""

    def start(self, images: Tensor) -> Tensor:
        features = self.conv1(images)
        return self.norm1(2 * features if bool(images.mean() > 0.5) else features)


class FailsOnBright(Layers):
    """Reads a weight's bias, which the model has not and a folded convolution has."""

    def start(self, images: Tensor) -> Tensor:
        if bool(images.mean() > 0.5) and self.conv1.bias is not None:
            raise AttributeError("bias")
        return super().start(images)


class UsesTheOutputTwice(Layers):
    def start(self, images: Tensor) -> Tensor:
        features = self.conv1(images)
        return features + self.norm1(features)


class StandardisesItsWeight(Layers):
    """As timm's StdConv2d: scales the weight to one size, which would undo the folding."""

    def __init__(self) -> None:
        super().__init__()

        class Standard(nn.Conv2d):
            def forward(self, images: Tensor) -> Tensor:
                return self._conv_forward(images, self.weight / self.weight.norm(), self.bias)

        standard = Standard(3, 8, 3, padding=1, bias=False)
        standard.weight = self.conv1.weight
        self.conv1 = standard.eval().requires_grad_(False)


class RunsTwice(Layers):
    def start(self, images: Tensor) -> Tensor:
        return super().start(images) + super().start(images.flip(3))


class SharesItsActivation(Layers):
    """With one activation behind a folded norm and on features that are needed afterwards."""

    def start(self, images: Tensor) -> Tensor:
        features = self.norm1(self.conv1(images))
        return self.norm2.act(features) + features


class Remembers(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        return super().forward(images)


class Draws(Layers):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + torch.rand(1)


class Jagged(Layers):
    def forward(self, images: Tensor) -> Any:
        return [super().forward(images)]


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) <= 64 * 2.0**-23 * float(expected.abs().max())


def test_every_kind_of_norm_is_folded_and_the_logits_stay() -> None:
    model = Layers()
    copy = forward_copy(model, EXAMPLE, LEAST_IMAGES)
    assert norms(model) == 3
    assert norms(copy) == 0
    for images in (EXAMPLE, OTHERS, BRIGHT):
        assert close(copy(images), model(images))
        assert not copy(images.clone().requires_grad_()).requires_grad


def test_the_embedded_models_copy_equals_it(model: Classifier) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = torch.rand(3, 3, 224, 224, generator=torch.Generator().manual_seed(4))
    copy = forward_copy(model, images[:1] / 2, LEAST_IMAGES)
    assert norms(copy, images) == 0
    assert close(copy(images), model(images))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert norms(model, images) == 49
    assert not any(module._forward_hooks or "forward" in module.__dict__ for module in model.modules())
    assert not any(getattr(module, "inplace", False) for module in model.modules())


def test_a_copy_under_inference_mode_works_outside() -> None:
    model = Layers()
    with torch.inference_mode():
        copy = forward_copy(model, EXAMPLE, LEAST_IMAGES)
        inside = copy(OTHERS)
    assert norms(copy) == 0
    assert torch.equal(copy(OTHERS), inside)
    model.conv1.weight.requires_grad_()
    (gradient,) = torch.autograd.grad(model(OTHERS).sum(), model.conv1.weight)
    assert bool(gradient.isfinite().all())


def _hooked(register: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = Layers()
        getattr(model.conv2, register)(lambda *_: None)
        return model

    return make


@pytest.mark.parametrize(
    "make",
    [
        _hooked("register_forward_hook"),
        _hooked("register_forward_pre_hook"),
        lambda: Layers().train(),
        lambda: Layers().double(),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 16), nn.Flatten()).eval(),
        lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 16), nn.Flatten()).eval(),
        UsesTheOutputTwice,
        StandardisesItsWeight,
        Jagged,
    ],
    ids=[
        "hook",
        "pre-hook",
        "training",
        "float64",
        "no norm",
        "norm first",
        "output twice",
        "own weights",
        "no tensor",
    ],
)
def test_models_that_may_not_be_copied_stay_themselves(make: Callable[[], nn.Module]) -> None:
    model = make()
    example = EXAMPLE.to(next(model.parameters()).dtype)
    assert forward_copy(model, example, LEAST_IMAGES) is model


def test_a_model_in_training_mode_keeps_its_statistics() -> None:
    model = Layers()
    model.norm1.train()
    before = model.norm1.running_mean.clone()
    assert forward_copy(model, EXAMPLE, LEAST_IMAGES) is model
    assert torch.equal(model.norm1.running_mean, before)


def test_hooks_on_all_modules_act() -> None:
    model, seen = Layers(), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
    try:
        assert forward_copy(model, EXAMPLE, LEAST_IMAGES) is model
    finally:
        handle.remove()
    assert seen == []


def test_few_images_functions_and_other_devices_get_the_model() -> None:
    model = Layers()
    assert forward_copy(model, EXAMPLE, LEAST_IMAGES - 1) is model
    function: Any = lambda images: model(images)  # noqa: E731
    assert forward_copy(function, EXAMPLE, LEAST_IMAGES) is function
    remembers = Remembers().to("meta")
    assert forward_copy(remembers, EXAMPLE.to("meta"), LEAST_IMAGES) is remembers
    assert remembers.seen == []


@pytest.mark.parametrize("kind", [SkipsOnBright, NormalisesOtherThings, FailsOnBright])
def test_another_way_through_the_network_is_the_models(kind: type[Layers]) -> None:
    model = kind()
    copy = forward_copy(model, EXAMPLE, LEAST_IMAGES)
    assert norms(copy) == 0
    assert torch.equal(copy(BRIGHT), model(BRIGHT))
    assert torch.equal(copy(OTHERS), model(OTHERS))  # from then on
    assert norms(copy) == 3


def test_an_activation_used_elsewhere_overwrites_nothing() -> None:
    model = SharesItsActivation()
    copy = forward_copy(model, EXAMPLE, LEAST_IMAGES)
    assert norms(copy) == 0
    assert close(copy(OTHERS), model(OTHERS))


def test_what_a_forward_appends_to_is_the_models_own() -> None:
    model = Remembers()
    copy = forward_copy(model, EXAMPLE, LEAST_IMAGES)
    copy(OTHERS)
    assert model.seen == [1, 1, 5]


def test_a_layer_that_runs_twice_keeps_its_norm() -> None:
    model = RunsTwice()
    copy = forward_copy(model, EXAMPLE, LEAST_IMAGES)
    assert norms(copy) == 2
    assert close(copy(OTHERS), model(OTHERS))


def test_a_models_own_random_numbers_are_the_same() -> None:
    model = Draws()
    torch.manual_seed(5)
    expected = model(OTHERS)
    torch.manual_seed(5)
    assert torch.equal(forward_copy(model, EXAMPLE, LEAST_IMAGES)(OTHERS), expected)


def test_a_failing_model_fails_where_it_is_called() -> None:
    class Broken(Layers):
        def forward(self, images: Tensor) -> Tensor:
            raise ValueError("broken")

    forward = forward_copy(Broken(), EXAMPLE, LEAST_IMAGES)
    with pytest.raises(ValueError, match="broken"):
        forward(OTHERS)


def test_weights_changed_meanwhile_are_in_the_next_copy() -> None:
    model = Layers()
    forward_copy(model, EXAMPLE, LEAST_IMAGES)
    for change in (lambda: model.conv1.weight.data.mul_(-2), lambda: model.norm2.running_mean.add_(1)):
        old = model(OTHERS)
        change()
        assert not close(model(OTHERS), old)
        assert close(forward_copy(model, EXAMPLE, LEAST_IMAGES)(OTHERS), model(OTHERS))
