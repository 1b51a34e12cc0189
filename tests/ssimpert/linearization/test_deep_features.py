"""Deep features: which layers, how normalised, and no trace left in the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import ssimpert
from ssimpert.errors import InputError
from ssimpert.linearization import deep_features, default_layers, feature_jacobian
from ssimpert.models import Classifier
from tests.ssimpert.toy_transformer import ToyTransformer


class Network(nn.Module):
    """Two convolutions, a layer that is called twice and one that is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.again = nn.ReLU6()
        self.second = nn.Conv2d(4, 5, 3, stride=2)
        self.head = nn.Linear(5, 3)
        self.idle = nn.Conv2d(3, 3, 1)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.again(self.second(self.again(3 * self.first(images))))
        return self.head(maps.mean(dim=(2, 3)))


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network().double()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_features_are_the_layers_outputs_in_the_order_given(network: Network, images: torch.Tensor) -> None:
    first, second = network.first(images), network.second(network.again(3 * network.first(images)))
    features = deep_features(network, ["second", "first"], "none")(images)
    torch.testing.assert_close(features, torch.cat([second.flatten(1), first.flatten(1)], dim=1))


def test_mse_makes_squared_distances_the_sum_of_mean_squared_errors(network: Network, images: torch.Tensor) -> None:
    features = deep_features(network, ["first", "second"], "mse")
    distance = (features(images)[0] - features(images)[1]).detach().square().sum()
    maps = [value.detach().numpy() for value in deep_features(network, ["first", "second"]).maps(images)]
    assert float(distance) == pytest.approx(sum(np.mean((value[0] - value[1]) ** 2) for value in maps))


def test_unit_channels_have_norm_one_over_the_root_of_the_positions(network: Network, images: torch.Tensor) -> None:
    features = deep_features(network, ["first"])(images).reshape(2, 4, 9, 11)
    expected = torch.full((2, 9, 11), 99**-0.5, dtype=torch.float64)
    torch.testing.assert_close(features.norm(dim=1), expected)


def test_a_position_without_any_activation_is_zero_and_has_a_finite_gradient() -> None:
    network = nn.Sequential(nn.ReLU()).eval()
    images = torch.zeros(1, 2, 3, 3, requires_grad=True)
    features = deep_features(network, ["0"])(images)
    features.sum().backward()
    assert not features.any()
    assert images.grad is not None
    assert bool(images.grad.isfinite().all())


def test_no_layers_give_no_features(network: Network, images: torch.Tensor) -> None:
    assert deep_features(network, [])(images).shape == (2, 0)


def test_no_hook_stays_even_where_the_call_fails(network: Network, images: torch.Tensor) -> None:
    for name in ("first", "again", "head"):
        features = deep_features(network, [name])
        if name == "first":
            features(images)
            continue
        with pytest.raises(InputError):
            features(images)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["again"], "'again' runs 2 times in one forward pass of model Network"),
        (["head"], r"'head' of model Network has no feature maps .*: its output is \(1, 3\)"),
        (["idle"], "'idle' does not run in the forward pass of model Network"),
    ],
)
def test_a_layer_without_one_map_is_refused(
    network: Network, images: torch.Tensor, layers: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        deep_features(network, layers)(images)


@pytest.mark.parametrize(
    ("layers", "normalization", "message"),
    [
        (["secnod"], "none", "second"),
        (["first", "first"], "none", "twice"),
        ("first", "none", "sequence of names"),
        (["first"], "l2", "unit-channel, mse, none"),
        (None, "none", "no default layers"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    network: Network, layers: list[str], normalization: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        deep_features(network, layers, normalization)  # type: ignore[arg-type]


def test_a_classifier_is_probed_at_once() -> None:
    model = ssimpert.load_model("efficientnet-lite0", device="cpu")
    assert default_layers(model) == ("blocks.2", "blocks.3", "blocks.4")
    with pytest.raises(InputError, match="classifier"):
        deep_features(model, ["classifier"])
    image = ssimpert.load_image("chelsea", size=224)
    assert deep_features(model)(image).shape == (1, 68_992)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("timm:mobilenetv2_100", ("blocks.2", "blocks.3", "blocks.4")),
        ("timm:mobilenetv3_small_100", ("blocks.1", "blocks.2", "blocks.3")),
        ("timm:resnet18", ("layer2", "layer3")),
        ("timm:convnext_atto", ("stages.1", "stages.2")),
        ("torchvision:resnet18", ("layer2", "layer3")),
        ("torchvision:mobilenet_v2", ("features.6", "features.10", "features.13")),
        ("torchvision:efficientnet_b0", ("features.3", "features.4", "features.5")),
        ("torchvision:densenet121", ("features.denseblock2", "features.transition2", "features.denseblock3")),
        ("torchvision:squeezenet1_1", ("features.7", "features")),
        ("torchvision:inception_v3", ("Mixed_5d", "Mixed_6c", "Mixed_6e")),
    ],
)
def test_other_default_layers_are_whole_stages_at_strides_of_8_and_16(name: str, layers: tuple[str, ...]) -> None:
    model = ssimpert.load_model(name, weights="random", device="cpu")
    assert default_layers(model) == layers
    sides = [value.shape[-1] for value in deep_features(model, layers).maps(torch.zeros(1, 3, *[model.input_size] * 2))]
    assert [round(np.log2(model.input_size / side)) for side in sides] == [3, 4, 4][: len(layers)]


def test_the_embedded_models_have_the_same_default_layers() -> None:
    for name in ("efficientnet-lite1", "efficientnet-lite2"):
        model = ssimpert.load_model(name, weights="random", device="cpu")
        assert default_layers(model) == ("blocks.2", "blocks.3", "blocks.4")


def _classifier(network: nn.Module, size: int) -> Classifier:
    labels = tuple("abc")
    return Classifier(network, name="toy", input_size=size, labels=labels, mean=(0.5,) * 3, std=(0.5,) * 3)


def test_a_network_without_such_strides_gives_three_of_its_later_half() -> None:
    layers = [layer for _ in range(4) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())]
    model = _classifier(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 32)
    assert default_layers(model) == ("4", "6", "7")


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("timm:test_vit4", ("blocks.1", "blocks.3", "blocks.6")),  # 9 blocks
        ("timm:vit_tiny_patch16_224", ("blocks.2", "blocks.5", "blocks.8")),
        ("torchvision:vit_b_32", tuple(f"encoder.layers.encoder_layer_{k}" for k in (2, 5, 8))),
        ("timm:mixer_s32_224", ("blocks.1", "blocks.3", "blocks.5")),
        ("torchvision:swin_t", ("features.3", "features.4", "features.5")),
        ("timm:swin_tiny_patch4_window7_224", ("layers.1", "layers.2")),
    ],
)
def test_default_layers_of_transformers_are_blocks_at_the_quarters_or_stages(
    name: str, layers: tuple[str, ...]
) -> None:
    assert default_layers(ssimpert.load_model(name, weights="random", device="cpu")) == layers


def test_networks_without_maps_have_no_default_layers() -> None:
    flat = _classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3)), 16)
    with pytest.raises(InputError, match=r"no default layers .*none of its layers gives a spatial feature map"):
        default_layers(flat)


def test_a_layer_in_front_of_an_in_place_operation_keeps_its_own_output(images: torch.Tensor) -> None:
    class InPlace(Network):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            out = self.first(images)
            out += 1
            return self.head(self.second(out.relu_()).relu_().mean(dim=(2, 3)))

    network = InPlace().double()
    features = deep_features(network, ["first", "second"], "none")(images)
    first = network.first(images)
    expected = torch.cat([first.flatten(1), network.second((first + 1).relu()).flatten(1)], dim=1)
    torch.testing.assert_close(features, expected, rtol=0, atol=0)
    leaf = images.clone().requires_grad_()  # and the graph goes back from that output
    deep_features(network, ["first"], "none")(leaf).sum().backward()
    twin = images.clone().requires_grad_()
    network.first(twin).sum().backward()
    torch.testing.assert_close(leaf.grad, twin.grad)


def test_the_layers_that_are_asked_for_do_not_change_what_one_of_them_gives() -> None:
    """In a ResNet's block, an addition in place follows ``bn2``; the pass ends there if no later layer is asked for."""
    model = ssimpert.load_model("torchvision:resnet18", weights="random", device="cpu")
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    alone, beside = (
        deep_features(model, layers, "none").maps(image)[0] for layers in (["layer1.0.bn2"], ["layer1.0.bn2", "layer2"])
    )
    assert torch.equal(alone, beside)


@pytest.mark.parametrize("prefix", [0, 1, 4])
def test_tokens_are_normalised_over_their_channels_and_prefix_tokens_left_out(prefix: int) -> None:
    toy = ToyTransformer(prefix)
    images = torch.rand(2, 3, 8, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    tokens = toy.blocks[0](toy.tokens(images))[:, prefix:]
    features = deep_features(toy, ["blocks.0"])
    assert torch.equal(features.maps(images)[0], tokens.transpose(1, 2).reshape(2, 6, 2, 4))
    unit = tokens.numpy() / np.linalg.norm(tokens.numpy(), axis=2, keepdims=True) / np.sqrt(8)
    np.testing.assert_allclose(features(images).numpy(), unit.transpose(0, 2, 1).reshape(2, -1), rtol=1e-8)


def test_products_with_the_jacobian_of_tokens_are_derivatives() -> None:
    toy = ToyTransformer(1)
    generator = torch.Generator().manual_seed(4)
    images, direction = torch.rand(2, 2, 3, 8, 8, generator=generator, dtype=torch.float64)
    features = deep_features(toy, ["blocks.0", "blocks.1.norm1"])
    jacobian = feature_jacobian(features, images)
    step = 1e-5
    expected = (features(images + step * direction) - features(images - step * direction)) / (2 * step)
    forward = jacobian.apply(direction)
    torch.testing.assert_close(forward, expected, rtol=1e-5, atol=1e-7)
    back = jacobian.apply_adjoint(forward)
    torch.testing.assert_close((back * direction).sum(), forward.square().sum())


def test_a_layout_can_be_given_for_features(images: torch.Tensor) -> None:
    last = nn.Sequential(nn.Conv2d(3, 4, 1), Permuted(), nn.Flatten()).double().eval()
    found = deep_features(last, ["1"]).maps(images)[0]
    assert torch.equal(found, last[0](images))
    given = deep_features(last, ["1"], layout="channels_first").maps(images)[0]
    assert torch.equal(given, last[0](images).permute(0, 2, 3, 1))
    with pytest.raises(InputError, match="unknown layout 'nhwc'"):
        deep_features(last, ["1"], layout="nhwc")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="settle layout already, got layout='tokens'"):
        ssimpert.feature_distance(deep_features(last, ["1"]), images, images, layout="tokens")


class Permuted(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.permute(0, 2, 3, 1)
