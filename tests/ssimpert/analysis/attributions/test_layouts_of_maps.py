"""Class activation maps of layers that are not (B, C, H, W): by hand on a toy transformer, and on a Swin."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ssimpert
from ssimpert.analysis import grad_cam, grad_cam_plus_plus, hires_cam, layer_cam
from ssimpert.errors import InputError
from ssimpert.models import Classifier, load_model
from tests.ssimpert.analysis.attributions.test_grad_cam_variants import by_hand
from tests.ssimpert.analysis.naive import bilinear, hooks
from tests.ssimpert.toy_transformer import ToyTransformer

FAMILY = [grad_cam, grad_cam_plus_plus, hires_cam, layer_cam]
TARGETS = (0, 2)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def expected_map(toy: ToyTransformer, image: Tensor, target: int, method: str) -> np.ndarray:
    """The map at the first norm of the last block: the tokens of 3 x 5 patches, row by row, as the papers' A_k."""
    with torch.no_grad():
        residual = toy.blocks[0](toy.tokens(image))
    normed = toy.blocks[1].norm1(residual).requires_grad_()
    logit = toy.tail(toy.blocks[1].after_norm1(residual, normed))[0, target]
    (slopes,) = torch.autograd.grad(logit, normed)
    prefix = toy.prefix.shape[1]
    folded = []
    for tokens in (normed.detach()[0, prefix:].numpy(), slopes[0, prefix:].numpy()):
        planes = np.empty((tokens.shape[1], 3, 5))
        for place, token in enumerate(tokens):
            planes[:, place // 5, place % 5] = token
        folded.append(planes)
    return bilinear(by_hand(method, *folded, float(logit)), 12, 20)


@pytest.mark.parametrize("method", FAMILY)
@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
def test_tokens_of_a_transformer_fold_to_the_map_by_hand(
    images: Tensor, method: Callable[..., Tensor], prefix: int
) -> None:
    toy = ToyTransformer(prefix)
    raw = method(toy, images, torch.tensor(TARGETS), layer="blocks.1.norm1", normalize=False)
    assert raw.shape == (2, 12, 20)
    assert raw.max() > 0
    for index, target in enumerate(TARGETS):
        expected = expected_map(toy, images[index : index + 1], target, method.__name__)
        assert np.abs(raw[index].numpy() - expected).max() < 1e-9
    assert hooks(toy) == 0


def test_a_layout_that_is_given_is_the_one_that_is_found(images: Tensor) -> None:
    toy = ToyTransformer(2)
    found = grad_cam(toy, images, 0, layer="blocks.1.norm1")
    for given in ({"layout": "tokens"}, {"prefix_tokens": 2}, {"layout": "tokens", "prefix_tokens": 2}):
        assert torch.equal(grad_cam(toy, images, 0, layer="blocks.1.norm1", **given), found)


def test_a_layout_that_does_not_fit_is_refused(images: Tensor) -> None:
    toy = ToyTransformer(2)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"layout": "token"}, "unknown layout 'token'; did you mean tokens"),
        (
            {"layout": "channels_last"},
            r"of model ToyTransformer gives \(1, 17, 6\) .* 'channels_last'",
        ),
        (
            {"layout": "channels_first"},
            r"gives \(1, 17, 6\) for an image of 12x20 .* not 'channels_first'",
        ),
        ({"prefix_tokens": 4}, r"gives \(1, 17, 6\) for an image of 12x20 pixels, which is not 'tokens'"),
        ({"prefix_tokens": -1}, "prefix_tokens must be an integer of at least 0, got -1"),
        ({"layout": "channels_first", "prefix_tokens": 1}, "prefix_tokens=1 is for layout='tokens'"),
    ]
    for options, message in cases:
        with pytest.raises(InputError, match=message):
            grad_cam(toy, images, 0, layer="blocks.1.norm1", **options)


def test_the_patches_behind_the_last_attention_have_no_part_in_a_class_tokens_decision(images: Tensor) -> None:
    """Why the map of a ViT is made before the last attention: behind it, all gradients but the class token's are 0."""
    assert not grad_cam(ToyTransformer(1), images, 0, layer="blocks.1", normalize=False).any()
    assert grad_cam(ToyTransformer(0), images, 0, layer="blocks.1", normalize=False).any()


@pytest.fixture(scope="module")
def swin() -> Classifier:
    return load_model("torchvision:swin_t", weights="random", device="cpu")


@pytest.mark.parametrize("method", FAMILY)
def test_channels_last_and_channels_first_of_one_tensor_give_one_map(
    swin: Classifier, method: Callable[..., Tensor]
) -> None:
    """``permute`` gives the output of ``norm`` with the channels in front."""
    image = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(3))
    last, first = (method(swin, image, 3, layer=layer, normalize=False) for layer in ("norm", "permute"))
    assert first.max() > 0
    torch.testing.assert_close(last, first, rtol=0, atol=1e-6)
    assert swin.layouts["norm"].kind == "channels_last"
    assert torch.equal(method(swin, image, 3, layer=swin.layer("norm"), normalize=False), last)


def test_distances_of_features_are_the_same_in_both_layouts(swin: Classifier) -> None:
    image, other = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    last, first = (ssimpert.feature_distance(swin, image, other, [layer]) for layer in ("norm", "permute"))
    torch.testing.assert_close(last, first)


class Several(nn.Module):
    """One layer gives a tuple, one a dict."""

    def __init__(self) -> None:
        super().__init__()

        class Pair(nn.Module):
            def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
                return maps, 2 * maps

        class Named(nn.Module):
            def forward(self, maps: Tensor) -> dict[str, Tensor]:
                return {"out": maps}

        self.conv, self.pair, self.named = nn.Conv2d(3, 4, 3), Pair(), Named()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        first, second = self.pair(self.conv(images))
        return self.named(first + second)["out"].mean(dim=(2, 3))


@pytest.mark.parametrize(
    "method", [*FAMILY, lambda model, x, _t, layer: ssimpert.feature_distance(model, x, x, [layer])]
)
def test_a_layer_that_gives_no_single_tensor_is_named(method: Callable[..., Tensor]) -> None:
    images = torch.rand(2, 3, 8, 8)
    for layer, given in (
        ("pair", r"a tuple of \(1, 4, 6, 6\) and \(1, 4, 6, 6\)"),
        ("named", "a dict with the keys 'out'"),
    ):
        with pytest.raises(InputError, match=f"layer '{layer}' of model Several gives {given}") as caught:
            method(Several(), images, 0, layer)
        assert "\n" not in str(caught.value)


def _small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


def _classifier(network: nn.Module) -> Classifier:
    half = (0.5,) * 3
    return Classifier(network, name="net", input_size=16, labels=("a", "b", "c"), mean=half, std=half)


@pytest.mark.parametrize(
    "compiled",
    [
        lambda network: torch.jit.script(network),
        lambda network: torch.jit.trace(network, torch.rand(1, 3, 16, 16)),
        lambda network: torch.compile(network, backend="eager"),
    ],
    ids=["script", "trace", "compile"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_layers_of_a_compiled_network_are_refused_with_the_cause(compiled: Callable[..., Any]) -> None:
    images = torch.rand(1, 3, 16, 16)
    model = _classifier(compiled(_small()))
    name = next(name for name, _ in model.network.named_modules() if name.endswith("1"))
    for call in (
        lambda: grad_cam(model, images, 0, layer=name),
        lambda: layer_cam(model, images, 0, layer=name),
        lambda: ssimpert.feature_distance(model, images, images, [name]),
    ):
        with pytest.raises(InputError, match=r"layer '.*1' can't be observed: .*'net' is compiled .*Module"):
            call()
    with pytest.raises(InputError, match=r"model 'net' has no default layer .*: the network is compiled"):
        grad_cam(model, images, 0)


def test_maps_are_made_in_inference_mode_of_tensors_made_there() -> None:
    expected = grad_cam(_classifier(_small()), torch.full((1, 3, 16, 16), 0.25).cumsum(dim=3) / 4, 0)
    model = _classifier(_small())
    with torch.inference_mode():
        images = torch.full((1, 3, 16, 16), 0.25).cumsum(dim=3) / 4
        assert model.cam_layer == "1"
        assert torch.equal(grad_cam(model, images, 0), expected)


class Meeting(nn.Module):
    """Threads wait for each other here, so that all are between their hooks and the layer that follows."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier: threading.Barrier | None = None

    def forward(self, maps: Tensor) -> Tensor:
        if self.barrier is not None:
            self.barrier.wait(timeout=60)
        return maps


@pytest.mark.parametrize(
    "call",
    [
        lambda model, x: grad_cam(model, x, 1, layer="conv", normalize=False),
        lambda model, x: hires_cam(model, x, 1, layer="relu", normalize=False),
        lambda model, x: ssimpert.feature_distance(model, x, x.flip(3), ["conv", "relu"]),
    ],
    ids=["grad_cam", "hires_cam", "feature_distance"],
)
def test_threads_that_share_a_model_see_their_own_images_only(call: Callable[[nn.Module, Tensor], Tensor]) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.conv, self.between, self.relu = Meeting(), nn.Conv2d(3, 4, 3), Meeting(), nn.ReLU()
            self.eval()

        def forward(self, images: Tensor) -> Tensor:
            return self.between(self.relu(self.between(self.conv(self.before(images))))).mean(dim=(2, 3))

    torch.manual_seed(1)
    model = Shared()
    images = [torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    alone = [call(model, image) for image in images]
    model.before.barrier = model.between.barrier = threading.Barrier(len(images))
    together: dict[int, Tensor | Exception] = {}

    def work(k: int) -> None:
        try:
            together[k] = call(model, images[k])
        except Exception as error:
            together[k] = error

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, expected in enumerate(alone):
        found = together[k]
        assert isinstance(found, Tensor), found
        assert torch.equal(found, expected)
    assert hooks(model) == 0
