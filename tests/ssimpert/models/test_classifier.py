"""A classifier is frozen, normalises by itself and finds its own layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssimpert.data import load_image
from ssimpert.errors import InputError
from ssimpert.models import Classifier, load_model
from ssimpert.models.labels import class_labels
from ssimpert.models.layouts import MapLayout
from tests.ssimpert.toy_transformer import ToyTransformer


def _photo(name: str) -> Tensor:
    return load_image(name, size=224)


def _toy(network: nn.Module, size: int = 32, classes: int = 4) -> Classifier:
    labels = class_labels(classes)
    return Classifier(network, name="toy", input_size=size, labels=labels, mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.mark.parametrize(
    ("photo", "label", "probability"),
    [
        ("coffee", "espresso", 0.94),
        ("camera", "tripod", 0.94),
        ("rocket", "missile", 0.30),
        ("chelsea", "Egyptian cat", 0.40),
    ],
)
def test_shipped_photos_are_recognised(model: Classifier, photo: str, label: str, probability: float) -> None:
    probabilities = model(_photo(photo)).softmax(dim=1)[0]
    assert model.label_name(int(probabilities.argmax())) == label
    assert probabilities.max().item() == pytest.approx(probability, abs=0.05)


def test_a_motorcycle_is_recognised_as_a_moped(model: Classifier) -> None:
    assert model.label_name(int(model.predict(_photo("motorcycle")))) == "moped"


def test_normalises_as_the_published_weights_expect(model: Classifier) -> None:
    image = _photo("coffee")
    with torch.no_grad():
        expected = model.network((255 * image - 127) / 128)
    torch.testing.assert_close(model(image), expected, rtol=1e-4, atol=1e-4)


def test_logits_do_not_depend_on_the_batch(model: Classifier) -> None:
    images = torch.cat([_photo(name) for name in ("chelsea", "coffee", "rocket")])
    together = model(images)
    alone = torch.cat([model(image[None]) for image in images])
    assert together.shape == (3, 1000)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_float64_images_give_the_same_logits_and_a_float64_gradient(model: Classifier) -> None:
    image = _photo("coffee")
    double = image.double().requires_grad_()
    logits = model(double)
    torch.testing.assert_close(logits, model(image))
    (gradient,) = torch.autograd.grad(logits[0, 967], double)
    assert gradient.dtype == torch.float64
    assert gradient.abs().max() > 0


def test_is_frozen_and_stays_in_eval_mode(model: Classifier) -> None:
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.train() is model
    assert not any(module.training for module in model.modules())


def test_in_place_activations_are_switched_off() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert not any(getattr(module, "inplace", False) for module in _toy(network).modules())


def test_labels_are_distinct_and_classes_out_of_range_are_refused(model: Classifier) -> None:
    labels = model.predict(torch.cat([_photo("coffee"), _photo("camera")]))
    assert labels.tolist() == [967, 872]
    assert len(set(model.labels)) == 1000
    assert model.labels[134] == "crane (134)"
    with pytest.raises(InputError, match="class 1000 is out of range"):
        model.label_name(1000)
    with pytest.raises(InputError, match="class -1"):
        model.label_name(-1)


def test_other_class_counts_are_numbered() -> None:
    assert class_labels(2) == ("class 0", "class 1")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(3, 32, 32), r"shape \(3, 32, 32\)"),
        (torch.rand(1, 1, 32, 32), r"shape \(1, 1, 32, 32\)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "torch.uint8"),
        (torch.rand(1, 3, 32, 32, device="meta"), "images are on meta, model 'efficientnet-lite0' on cpu"),
    ],
)
def test_wrong_images_are_refused(model: Classifier, images: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model(images)


def test_feature_layers_are_spatial_and_in_order(model: Classifier) -> None:
    layers = model.feature_layers
    assert layers.index("conv_stem") < layers.index("blocks.2") < layers.index("blocks.4") < layers.index("bn2")
    assert not any(name.startswith(("global_pool", "classifier")) for name in layers)
    assert model.feature_layers is layers
    shapes: dict[str, torch.Size] = {}
    module = model.layer("blocks.3")
    handle = module.register_forward_hook(lambda _m, _i, output: shapes.update(out=output.shape))
    model(_photo("coffee"))
    handle.remove()
    assert shapes["out"] == (1, 80, 14, 14)


def test_finding_layers_runs_once_and_leaves_no_hooks() -> None:
    class Counting(nn.Sequential):
        runs = 0

        def forward(self, images: Tensor) -> Tensor:
            self.runs += 1
            return super().forward(images)

    network = Counting(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = _toy(network)
    network.runs = 0
    assert classifier.feature_layers == ("0", "1")
    assert classifier.cam_layer == "1"
    assert network.runs == 1
    assert not any(module._forward_hooks for module in network.modules())


def test_cam_layer_of_the_embedded_model_is_its_last_activated_convolution(model: Classifier) -> None:
    seen: list[Tensor] = []
    handle = model.layer(model.cam_layer).register_forward_hook(lambda _m, _i, output: seen.append(output))
    model(_photo("coffee"))
    handle.remove()
    assert model.cam_layer.startswith("bn2")
    assert seen[0].shape == (1, 1280, 7, 7)
    assert seen[0].min() >= 0
    assert seen[0].max() <= 6


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("torchvision:resnet18", "layer4.1"),  # its ReLU runs twice in a block
        ("torchvision:vgg11", "features.19"),  # ReLU before the last pooling
        ("torchvision:mobilenet_v2", "features.18.2"),
        ("timm:resnet18", "layer4.1.act2"),
        ("timm:convnext_atto", "stages.3.blocks.1"),  # the block's residual sum, not its last leaf
    ],
)
def test_cam_layer_of_other_networks_is_their_last_spatial_one(name: str, layer: str) -> None:
    assert load_model(name, weights="random", device="cpu").cam_layer == layer


@pytest.mark.parametrize(
    ("name", "layer", "layout"),
    [
        # By the class token: the first norm of the last block, as pytorch-grad-cam's documentation has it.
        ("timm:vit_tiny_patch16_224", "blocks.11.norm1", MapLayout("tokens", 1)),
        ("timm:deit_tiny_distilled_patch16_224", "blocks.11.norm1", MapLayout("tokens", 2)),
        ("timm:test_vit", "blocks.5.norm1", MapLayout("tokens", 1)),
        # By the mean over all places: the last map before it.
        ("timm:test_vit2", "blocks.7", MapLayout("tokens", 1)),
        ("timm:mixer_s32_224", "norm", MapLayout("tokens", 0)),
        ("timm:swin_tiny_patch4_window7_224", "norm", MapLayout("channels_last")),
        ("torchvision:swin_t", "permute", MapLayout("channels_first")),
        ("timm:test_mambaout", "stages.3.blocks.0", MapLayout("channels_last")),
        # By an attention over all tokens: the map in front of it.
        ("timm:test_vit3", "norm", MapLayout("tokens", 1)),
    ],
)
def test_cam_layer_of_transformers_is_the_last_map_that_the_logits_depend_on(
    name: str, layer: str, layout: MapLayout
) -> None:
    model = load_model(name, weights="random", device="cpu")
    assert model.cam_layer == layer
    assert model.layouts[layer] == layout
    assert layer in model.feature_layers


def test_a_head_of_zeros_does_not_hide_that_the_logits_depend_on_a_map() -> None:
    """torchvision's ViT starts with such a head, and no gradient passes it."""
    toy = ToyTransformer(1).float()
    toy.head.weight.zero_()
    assert _toy(toy, classes=3).cam_layer == "blocks.1.norm1"


def test_a_network_without_spatial_maps_says_so() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    with pytest.raises(InputError, match="none of its layers gives a spatial feature map"):
        _ = _toy(network, size=16).cam_layer


def test_a_feature_map_that_is_overwritten_later_is_no_feature_layer() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.eval()

        def forward(self, images: Tensor) -> Tensor:
            out = self.first(images)
            kept = self.second(out)
            kept += out
            return kept.mean(dim=(2, 3))

    assert _toy(Residual(), classes=3).feature_layers == ("first",)


def test_an_unknown_layer_names_near_ones(model: Classifier) -> None:
    with pytest.raises(InputError, match=r"unknown layer 'block\.3'; did you mean .*blocks\.3"):
        model.layer("block.3")
    with pytest.raises(InputError, match=r"has \d+ layers, among them conv_stem, .*blocks"):
        model.layer("@")
    with pytest.raises(InputError, match="unknown layer ''"):
        model.layer("")


def small_network(classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


def made(network: nn.Module | None = None, **changes: Any) -> Classifier:
    options: dict[str, Any] = {"name": "m", "input_size": 32, "labels": "abcd", "mean": [0.5] * 3, "std": [0.25] * 3}
    return Classifier(small_network() if network is None else network, **options | changes)


COLOURS: list[Any] = [
    np.array([0.5, 0.25, 0.75]),
    np.array([0.5, 0.25, 0.75], dtype=np.float32),
    torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64),
    (0.5, np.float64(0.25), torch.tensor(0.75)),
]


@pytest.mark.parametrize("colour", COLOURS)
def test_mean_and_std_may_be_arrays_and_tensors_of_any_type(colour: Any) -> None:
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    plain = made(mean=[0.5, 0.25, 0.75], std=[0.5, 0.25, 0.75])
    given = made(mean=colour, std=colour, input_size=np.int64(32), labels=np.array(list("abcd")))
    assert given.mean.dtype == given.std.dtype == torch.float32
    assert torch.equal(given(x), plain(x))
    assert type(given.input_size) is int
    assert given.labels == ("a", "b", "c", "d")
    assert all(type(label) is str for label in given.labels)


def test_a_network_in_double_precision_stays_in_double_precision() -> None:
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    model = made(small_network().double())
    assert model.mean.dtype == torch.float64
    expected = small_network().double().eval()((x.double() - 0.5) / 0.25)
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": [0.25, 0.0, 0.25]}, r"std must be positive, got \(0\.25, 0\.0, 0\.25\)"),
        ({"std": [0.25, -1.0, 0.25]}, r"std must be positive, got \(0\.25, -1\.0, 0\.25\)"),
        ({"std": [0.25, float("nan"), 0.25]}, r"std must be three numbers, .* all finite, got \(0\.25, nan, 0\.25\)"),
        ({"mean": np.array([0.5, np.nan, 0.5])}, r"mean must be three numbers, .* all finite, got \(0\.5, nan, 0\.5\)"),
        ({"mean": [0.5, float("inf"), 0.5]}, "mean must be three numbers, .* all finite"),
        ({"mean": np.zeros((3, 1))}, r"mean must be a list of numbers, got array of shape \(3, 1\)"),
        ({"mean": 0.5}, r"mean must be a list of numbers, got 0\.5"),
        ({"mean": [0.5, True, 0.5]}, "mean must be a list of numbers, got True among them"),
        ({"labels": "abc"}, "model 'm' has 4 classes, but 3 labels; give a label for each class"),
        ({"labels": "abcde"}, "model 'm' has 4 classes, but 5 labels"),
        ({"labels": ()}, "model 'm' has 4 classes, but 0 labels"),
        ({"labels": [0, 1, 2, 3]}, "labels must be a list of names, got 0 among them"),
        ({"labels": 4}, "labels must be a list of names, got 4"),
        ({"input_size": 0}, "input_size must be an integer of at least 1, got 0"),
        ({"input_size": 32.0}, r"input_size must be an integer of at least 1, got 32\.0"),
        ({"input_size": True}, "input_size must be an integer of at least 1, got True"),
    ],
)
def test_what_can_make_no_classifier_is_refused_where_it_is_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        made(**changes)
    assert "\n" not in str(caught.value)


def test_labels_may_repeat_and_are_numbered_by_default() -> None:
    assert made(labels=["cat", "dog", "cat", "cup"]).label_name(np.int64(2)) == "cat"  # type: ignore[arg-type]
    assert made(labels=None).labels == ("class 0", "class 1", "class 2", "class 3")
    with pytest.raises(InputError, match="a class must be an integer, got True"):
        made().label_name(True)


def test_labels_are_counted_at_the_first_pass_where_a_black_image_does_not_tell() -> None:
    class NeedsTwo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_network()

        def forward(self, images: Tensor) -> Tensor:
            if len(images) < 2:
                raise RuntimeError("two images at least")
            return self.inner(images)

    model = made(NeedsTwo(), labels="abc")
    with pytest.raises(InputError, match="model 'm' has 4 classes, but 3 labels"):
        model(torch.rand(2, 3, 32, 32))
    with pytest.raises(InputError, match="model 'm' gives no class logits"):
        made(NeedsTwo(), labels=None)


def test_a_classifier_that_is_made_leaves_the_random_state_and_enters_graphs_later() -> None:
    before = torch.get_rng_state()
    network = nn.Sequential(nn.RReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    made(network, labels="abc")
    assert torch.equal(torch.get_rng_state(), before)
    network = small_network()
    with torch.inference_mode():
        model = made(network)
    x = torch.rand(1, 3, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    assert float(gradient.abs().max()) > 0
