"""The feature distance against a loop over positions, and against the Jacobian that bounds it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ssimpert
from ssimpert.errors import InputError
from ssimpert.linearization import deep_features, feature_jacobian
from ssimpert.metrics import feature_distance
from ssimpert.models import Classifier

LAYERS = ["0", "2"]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2), nn.ReLU()).double().eval()


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(3, 3, 9, 12, generator=generator, dtype=torch.float64)
    return image, (image + 0.1 * torch.randn(image.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)


def _by_hand(network: nn.Module, image: Tensor, adversarial: Tensor) -> float:
    total = 0.0
    for first, second in zip(_maps(network, image), _maps(network, adversarial), strict=True):
        _, height, width = first.shape
        for row in range(height):
            for column in range(width):
                a, b = first[:, row, column], second[:, row, column]
                gap = a / np.linalg.norm(a) - b / np.linalg.norm(b)
                total += float(gap @ gap) / (height * width)
    return total**0.5


def _maps(network: nn.Module, image: Tensor) -> list[Any]:
    first = network[0](image[None])  # type: ignore[index]
    return [first[0].detach().numpy(), network[2](first.relu())[0].detach().numpy()]  # type: ignore[index]


def test_equals_a_loop_over_positions(network: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    expected = [_by_hand(network, a, b) for a, b in zip(*pair, strict=True)]
    assert feature_distance(network, *pair, LAYERS).tolist() == pytest.approx(expected, rel=1e-8)
    assert feature_distance(network, *pair, LAYERS, chunk=2).tolist() == pytest.approx(expected, rel=1e-8)


def test_squared_under_mse_it_is_the_papers_sum_of_mean_squared_errors(
    network: nn.Module, pair: tuple[Tensor, Tensor]
) -> None:
    expected = [
        sum(np.mean((a - b) ** 2) for a, b in zip(_maps(network, first), _maps(network, second), strict=True))
        for first, second in zip(*pair, strict=True)
    ]
    assert feature_distance(network, *pair, LAYERS, "mse").square().tolist() == pytest.approx(expected)


def test_to_first_order_it_is_the_length_that_a_feature_ball_bounds(model: Classifier) -> None:
    image = ssimpert.load_image("coffee", size=96)
    step = 1e-3 * torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
    features = deep_features(model, ["blocks.2", "blocks.3"])
    linear = feature_jacobian(features, image, memory_limit=0).apply(step).norm()
    assert feature_distance(features, image, image + step).item() == pytest.approx(linear.item(), rel=0.05)


def test_default_layers_are_the_models_own_and_any_size_will_do(model: Classifier) -> None:
    image = ssimpert.load_image("coffee", size=128)
    flipped = image.flip(3)
    layers = ["blocks.2", "blocks.3", "blocks.4"]
    torch.testing.assert_close(
        feature_distance(model, image, flipped), feature_distance(model, image, flipped, layers, "unit-channel")
    )


def test_equal_images_are_at_distance_zero_with_gradient_zero(network: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    image = pair[0]
    leaf = image.clone().requires_grad_()
    distance = feature_distance(network, image, leaf, LAYERS, differentiable=True)
    distance.sum().backward()
    assert distance.tolist() == [0, 0, 0]
    assert leaf.grad is not None
    assert not leaf.grad.any()


def test_a_graph_is_kept_on_request_only(network: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    image, leaf = pair[0], pair[1].clone().requires_grad_()
    assert not feature_distance(network, image, leaf, LAYERS).requires_grad
    (gradient,) = torch.autograd.grad(
        feature_distance(network, image, leaf, LAYERS, differentiable=True, chunk=2).sum(), leaf
    )
    step = 1e-6 * torch.randn(leaf.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    after = feature_distance(network, image, leaf.detach() + step, LAYERS).sum()
    before = feature_distance(network, image, leaf, LAYERS).sum()
    assert float(after - before) == pytest.approx(float((gradient * step).sum()), rel=1e-3)


def test_a_pixel_that_is_not_finite_spoils_its_own_image_only(network: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    spoilt = pair[1].clone()
    spoilt[1, 0, 4, 4] = torch.nan
    distance = feature_distance(network, pair[0], spoilt, LAYERS)
    assert distance.isnan().tolist() == [False, True, False]


def test_float32_images_give_float32_whatever_the_model_computes_in(
    network: nn.Module, pair: tuple[Tensor, Tensor]
) -> None:
    single = feature_distance(network, pair[0].float(), pair[1].float(), LAYERS)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), feature_distance(network, *pair, LAYERS), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": ["9"]}, "unknown layer '9'"),
        ({"layers": []}, "at least one layer"),
        ({"layers": None}, "no default layers"),
        ({"normalization": "l2"}, "unknown normalization 'l2'"),
        ({"chunk": 0}, "chunk must be an integer of at least 1, got 0"),
        ({"chunk": True}, "chunk must be an integer of at least 1, got True"),
        ({"image": torch.rand(3, 9, 12)}, r"image must have shape \(B, C, H, W\), got \(3, 9, 12\)"),
        ({"adversarial": torch.rand(3, 3, 9, 12)}, "same dtype"),
        ({"adversarial": torch.rand(3, 3, 9, 11, dtype=torch.float64)}, "same shape"),
        ({"adversarial": torch.zeros(3, 3, 9, 12, dtype=torch.uint8)}, "adversarial must be float32 or float64"),
    ],
)
def test_bad_input_names_the_value(
    network: nn.Module, pair: tuple[Tensor, Tensor], arguments: dict[str, Any], message: str
) -> None:
    given = {"image": pair[0], "adversarial": pair[1], "layers": LAYERS} | arguments
    with pytest.raises(InputError, match=message):
        feature_distance(network, **given)


def test_layers_beside_features_are_refused(network: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    features = deep_features(network, LAYERS)
    with pytest.raises(InputError, match=r"the features settle layers already, got layers=\['0'\]"):
        feature_distance(features, *pair, ["0"])
    with pytest.raises(InputError, match="the features settle normalization already, got normalization='mse'"):
        feature_distance(features, *pair, normalization="mse")
