"""LPIPS against its definition written out, with backbones of random weights: the published ones need a download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.metrics import lpips, lpips_distance
from ssimpert.models import load_model

SPEC = find_spec("torchmetrics")
pytestmark = pytest.mark.skipif(SPEC is None, reason="torchmetrics is not installed: pip install 'ssimpert[lpips]'")

# Of the backbone's ``features``: the layers whose outputs LPIPS compares.
TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29), "squeeze": (1, 4, 7, 9, 10, 11, 12)}
NAMES = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}


def _backbone(net: str) -> nn.Module:
    return load_model(f"torchvision:{NAMES[net]}", weights="random", device="cpu").network


def _pair(side: int = 64, count: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(count, 3, side, side, generator=generator)
    return image, (image + 0.1 * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def _by_definition(features: nn.Module, net: str, image: Tensor, adversarial: Tensor) -> Tensor:
    assert SPEC is not None
    assert SPEC.origin is not None
    folder = Path(SPEC.origin).parent / "functional" / "image" / "lpips_models"
    heads = torch.load(folder / f"{net}.pth", map_location="cpu", weights_only=True)
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64).view(3, 1, 1)
    first, second = ((2 * x.double() - 1 - shift) / scale for x in (image, adversarial))
    distance = torch.zeros(len(image), dtype=torch.float64)
    taps = list(TAPS[net])
    for index, layer in enumerate(features.double().children()):
        first, second = layer(first), layer(second)
        if index in taps:
            head = heads[f"lin{taps.index(index)}.model.1.weight"].double().flatten()
            unit = [x / x.square().sum(1, keepdim=True).add(1e-8).sqrt() for x in (first, second)]
            squares = (unit[0] - unit[1]).square()
            distance += torch.einsum("bchw,c->bhw", squares, head).mean(dim=(1, 2))
    return distance


@pytest.mark.parametrize("net", ["alex", "squeeze", pytest.param("vgg", marks=pytest.mark.slow)])
def test_the_distance_equals_its_definition_layer_by_layer(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(
        f"torchvision:{NAMES[net]}", weights="random", device="cpu"
    )  # VGG takes seconds: once is enough
    monkeypatch.setattr(lpips, "load_model", lambda name, **_: loaded if name == loaded.name else pytest.fail(name))
    image, adversarial = _pair(32, 2) if net == "vgg" else _pair()
    found = lpips_distance(image, adversarial, "random", net, chunk=len(image) - 1)
    expected = _by_definition(loaded.network.get_submodule("features"), net, image, adversarial)
    assert expected.min() > 1e-3
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_takes_the_backbone_from_a_state_dict_and_reads_it_again_when_it_is_replaced(tmp_path: Path) -> None:
    backbone, path = _backbone("squeeze"), tmp_path / "squeezenet.pth"
    image, adversarial = _pair()
    for factor in (0.5, 2.0):
        state = {key: value * factor if key.endswith("bias") else value + 0.01 for key, value in _plain(backbone)}
        backbone.load_state_dict(state)
        torch.save(state, path)
        expected = _by_definition(_copied(backbone), "squeeze", image, adversarial)
        found = lpips_distance(image, adversarial, path, "squeeze")
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(lpips_distance(image, adversarial, str(path), "squeeze"), found)


def _plain(network: nn.Module) -> list[tuple[str, Tensor]]:
    return [(key, value.float()) for key, value in network.state_dict().items()]


def _copied(network: nn.Module) -> nn.Module:
    fresh = _backbone("squeeze")
    fresh.load_state_dict(network.state_dict())
    return fresh.get_submodule("features")


def test_equal_images_are_at_distance_zero_and_no_graph_is_kept() -> None:
    image, adversarial = _pair(32, 2)
    assert lpips_distance(image, image, "random", "squeeze").tolist() == [0, 0]
    distance = lpips_distance(image.requires_grad_(), adversarial, "random", "squeeze")
    assert distance.shape == (2,)
    assert not distance.requires_grad


def test_float64_pairs_give_float64_and_a_rounding_error_above_1_passes() -> None:
    image, adversarial = (value.double() for value in _pair(32, 1))
    distance = lpips_distance(image, adversarial, "random", "squeeze")
    assert distance.dtype == torch.float64
    assert lpips_distance(image, adversarial * (1 + 1e-8), "random", "squeeze").item() == pytest.approx(distance.item())


def test_a_pixel_that_is_nan_spoils_its_own_image_only() -> None:
    image, adversarial = _pair(32, 3)
    adversarial[1, 0, 5, 5] = torch.nan
    assert lpips_distance(image, adversarial, "random", "squeeze").isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"net": "resnet"}, "unknown net 'resnet'; valid: alex, vgg, squeeze"),
        ({"chunk": 0}, "chunk must be an integer of at least 1, got 0"),
        ({"image": 255 * torch.rand(1, 3, 32, 32)}, r"image must have pixels in \[0, 1\], got "),
        ({"adversarial": torch.full((1, 3, 32, 32), -0.5)}, r"adversarial must have pixels in \[0, 1\], got -0.5"),
        ({"adversarial": torch.full((1, 3, 32, 32), torch.inf)}, r"adversarial .* got inf"),
        ({"adversarial": torch.rand(2, 3, 32, 32)}, "same shape"),
        ({"image": torch.rand(1, 1, 32, 32)}, "image must have 3 channels"),
        ({"image": torch.rand(1, 3, 32, 31)}, "image is 31x32 pixels; LPIPS needs at least 32 a side"),
    ],
)
def test_bad_input_is_refused_before_a_network_is_loaded(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lpips, "_network", lambda *_: pytest.fail("work started"))
    given = {"image": torch.rand(1, 3, 32, 32), "adversarial": torch.rand(1, 3, 32, 32)} | arguments
    with pytest.raises(InputError, match=message):
        lpips_distance(**given)


def test_weights_that_are_missing_or_of_another_network_are_named(tmp_path: Path) -> None:
    image, adversarial = _pair(32, 1)
    with pytest.raises(InputError, match=r"nowhere\.pth' does not exist"):
        lpips_distance(image, adversarial, tmp_path / "nowhere.pth", "squeeze")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"don't fit model 'torchvision:squeezenet1_1': .* missing"):
        lpips_distance(image, adversarial, tmp_path / "other.pth", "squeeze")


def test_a_failed_download_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models.get_model", fail)
    with pytest.raises(
        InputError, match=r"can't get the published weights of 'torchvision:alexnet' .*give weights=PATH"
    ):
        lpips_distance(*_pair(32, 1))


def test_without_torchmetrics_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"pip install 'ssimpert\[lpips\]'"):
        lpips_distance(*_pair(32, 1), "random")
