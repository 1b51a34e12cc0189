"""Grad-CAM against maps computed by hand and by an independent use of autograd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.grad_cam import grad_cam
from ssimpert.analysis.attributions.grad_cam_variants import layer_cam
from ssimpert.analysis.attributions.gradients import gradient
from ssimpert.analysis.map_agreement.agreement import pearson
from ssimpert.data import load_image
from ssimpert.errors import InputError
from ssimpert.models import Classifier, load_model
from tests.ssimpert.analysis.naive import bilinear, hooks


class Toy(nn.Module):
    """Convolution, ReLU, global mean, linear head: d logit_c / d A_k = head[c, k] / (h w) everywhere."""

    cam_layer = "features.1"

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(5, 4)
        self.unused = nn.Conv2d(3, 3, 1)
        self.twice, self.aside = nn.ReLU(), nn.Conv2d(3, 3, 1)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        self.aside(images)
        return self.head(self.features(self.twice(self.twice(images))).mean(dim=(2, 3)))


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 12, 16, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def lite0() -> Classifier:
    return load_model("efficientnet-lite0", device="cpu")


def toy_by_hand(toy: Toy, image: Tensor, target: int) -> np.ndarray:
    """The toy's unnormalised Grad-CAM in numpy float64, convolution and gradient included."""
    padded = np.pad(image.numpy().astype(float), ((0, 0), (1, 1), (1, 1)))
    kernel, bias = (p.numpy().astype(float) for p in toy.features[0].parameters())
    activation = np.empty((5, 6, 8))
    for k in range(5):
        for i in range(6):
            for j in range(8):
                patch = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
                activation[k, i, j] = max((kernel[k] * patch).sum() + bias[k], 0)
    weights = toy.head.weight[target].numpy().astype(float) / (6 * 8)
    coarse = np.maximum(np.tensordot(weights, activation, axes=1), 0)
    return bilinear(coarse, 12, 16)


def test_equals_the_map_by_hand(toy: Toy, images: Tensor) -> None:
    targets = torch.tensor([0, 1, 3])
    raw = grad_cam(toy, images, targets, normalize=False)
    scaled = grad_cam(toy, images, targets)
    assert raw.shape == scaled.shape == (3, 12, 16)
    alive = 0
    for index, target in enumerate(targets.tolist()):
        expected = toy_by_hand(toy, images[index], target)
        assert np.abs(raw[index].numpy() - expected).max() < 1e-6
        if expected.max() > 0:
            alive += 1
            span = (expected - expected.min()) / (expected.max() - expected.min())
            assert np.abs(scaled[index].numpy() - span).max() < 1e-5
            assert scaled[index].min() == 0
            assert scaled[index].max() == 1
    assert alive >= 2  # maps that are zero everywhere would prove nothing


def test_float64_equals_the_map_by_hand_to_rounding(toy: Toy, images: Tensor) -> None:
    raw = grad_cam(toy.double(), images.double(), 1, normalize=False)
    assert raw.dtype == torch.float64
    for index in range(3):
        assert np.abs(raw[index].numpy() - toy_by_hand(toy, images[index], 1)).max() < 1e-12


def test_pixels_of_another_type_than_the_models_are_converted(toy: Toy, images: Tensor) -> None:
    for function in (grad_cam, layer_cam, gradient):
        found = function(toy, images.double(), 1)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.float(), function(toy, images, 1))


def test_each_image_is_explained_by_itself(toy: Toy, images: Tensor) -> None:
    together = grad_cam(toy, images, torch.tensor([3, 1, 0]))
    alone = torch.cat([grad_cam(toy, images[i : i + 1], t) for i, t in enumerate((3, 1, 0))])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_a_map_without_a_highest_pixel_is_zero_and_agrees_with_nothing(toy: Toy, images: Tensor) -> None:
    toy.head.weight[2] = -1.0  # every feature speaks against class 2: the ReLU leaves nothing
    dead = grad_cam(toy, images, 2)
    assert (dead == 0).all()
    assert pearson(dead, images[:, 0]).isnan().all()


def test_a_constant_map_is_not_blown_up_by_rounding(images: Tensor) -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d((3, 5))
            self.eval()

        def forward(self, batch: Tensor) -> Tensor:
            return self.pool(batch).mean(dim=(2, 3))

    flat = torch.full((1, 3, 12, 16), 0.1)
    assert (grad_cam(Flat(), flat, 0, layer="pool") == 0).all()
    assert grad_cam(Flat(), images, 0, layer="pool").max() == 1


def test_nan_stays_nan(toy: Toy, images: Tensor) -> None:
    images[1] = float("nan")
    assert grad_cam(toy, images, 1).isnan().flatten(1).all(dim=1).tolist() == [False, True, False]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_works_in_any_gradient_mode(toy: Toy, images: Tensor, context: Callable[[], object]) -> None:
    expected = grad_cam(toy, images, 1)
    with context():  # type: ignore[attr-defined]
        cam = grad_cam(toy, images.clone(), 1)
    assert torch.equal(cam, expected)
    assert not cam.requires_grad


def test_leaves_nothing_behind(toy: Toy, images: Tensor) -> None:
    toy.requires_grad_(True)
    images.requires_grad_()
    grad_cam(toy, images, 1)
    with pytest.raises(InputError):
        grad_cam(toy, images, 99)
    with pytest.raises(RuntimeError):
        grad_cam(toy, images[:, :2], 1)  # fails inside the model
    assert hooks(toy) == 0
    assert images.grad is None
    assert all(parameter.grad is None for parameter in toy.parameters())


def test_layer_by_name_by_module_and_by_default(toy: Toy, images: Tensor) -> None:
    expected = grad_cam(toy, images, 1)
    assert torch.equal(grad_cam(toy, images, 1, layer="features"), expected)
    assert torch.equal(grad_cam(toy, images, 1, layer=toy.features[1]), expected)
    assert not torch.allclose(grad_cam(toy, images, 1, layer="features.0"), expected)


def test_errors_name_the_value(toy: Toy, images: Tensor) -> None:
    cases: list[tuple[str, dict]] = [
        (r"target class 4 does not exist; the model has classes 0 to 3", {"target": 4}),
        (r"target class -1 does not exist", {"target": torch.tensor([0, -1, 2])}),
        (r"target must have shape \(3,\), one class an image, got \(2,\)", {"target": torch.tensor([0, 1])}),
        (r"3 integers, got torch.float32", {"target": torch.zeros(3)}),
        (r"3 integers, got '1'", {"target": "1"}),
        (r"unknown layer 'feature'; the model has features, ", {"target": 1, "layer": "feature"}),
        (r"layer 'head' of model Toy has no feature maps", {"target": 1, "layer": "head"}),
        (r"layer 'unused' does not run", {"target": 1, "layer": "unused"}),
        (r"layer 'twice' runs 2 times in one forward pass of model Toy", {"target": 1, "layer": "twice"}),
        (r"the logits do not depend on layer 'aside'", {"target": 1, "layer": "aside"}),
    ]
    for message, arguments in cases:
        with pytest.raises(InputError, match=message) as caught:
            grad_cam(toy, images, **arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="Sequential has no cam_layer"):
        grad_cam(nn.Sequential(nn.Flatten()).eval(), images, 0)
    with pytest.raises(InputError, match=r"images must have shape \(B, C, H, W\), got \(3, 12, 16\)"):
        grad_cam(toy, images[0], 0)


def test_efficientnet_equals_an_independent_grad_cam(lite0: Classifier) -> None:
    """Weights by autograd through the rest of the network, from a copy of the layer's output."""
    batch = torch.cat([load_image(name, size=128) for name in ("chelsea", "coffee")])
    labels = lite0.predict(batch)
    ours = grad_cam(lite0, batch, labels, normalize=False)

    kept: list[Tensor] = []

    def replace(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0]

    handle = lite0.layer(lite0.cam_layer).register_forward_hook(replace)
    logits = lite0(batch)
    handle.remove()
    logits.gather(1, labels[:, None]).sum().backward()
    activation, gradient = kept[0].detach(), kept[0].grad
    assert gradient is not None
    coarse = torch.einsum("bk,bkhw->bhw", gradient.mean(dim=(2, 3)), activation).clamp(min=0)
    assert coarse.shape == (2, 4, 4)
    for index in range(2):
        expected = bilinear(coarse[index].double().numpy(), 128, 128)
        assert expected.max() > 0
        assert np.abs(ours[index].numpy() - expected).max() < 1e-6 * max(1.0, expected.max())
    assert hooks(lite0) == 0
