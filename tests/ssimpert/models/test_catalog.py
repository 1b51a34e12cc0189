"""Models by name, their weights from files, and one-line errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models as tv_models

from ssimpert.errors import InputError
from ssimpert.models import load_model, models
from ssimpert.models.catalog import _create_timm
from ssimpert.models.embedded import EMBEDDED
from ssimpert.models.weights import load_weights_in_order

SMALL = "torchvision:squeezenet1_1"
IMAGE = torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Weights of SMALL that differ from its random ones."""
    network = load_model(SMALL, weights="random", device="cpu").network
    return {key: value * 0.5 for key, value in network.state_dict().items()}


def test_the_table_lists_every_form_of_name() -> None:
    rows = {row.name: row for row in models()}
    assert set(rows) == {*EMBEDDED, "timm:NAME", "torchvision:NAME"}
    assert [rows[f"efficientnet-lite{k}"].input_size for k in range(3)] == [224, 240, 260]
    assert all(row.description and row.weights for row in rows.values())


def test_random_weights_are_the_same_every_time_and_leave_the_random_state() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (load_model(SMALL, weights="random", device="cpu") for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first(IMAGE), second(IMAGE))


def test_preparation_is_the_librarys_own() -> None:
    tv = load_model("torchvision:inception_v3", weights="random", device="cpu")
    assert tv.input_size == 299
    assert tv.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    timm = load_model("timm:mobilenetv3_small_050.lamb_in1k", weights="random", device="cpu")
    assert timm.input_size == 224
    assert timm.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    assert len(timm.labels) == 1000


@pytest.mark.parametrize("form", ["plain", "wrapped", "parallel", "safetensors"])
def test_weights_are_taken_from_files_of_every_form(form: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if form == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(state, path)
    elif form == "wrapped":
        torch.save({"state_dict": state, "epoch": 3}, path)
    elif form == "parallel":
        torch.save({f"module.{key}": value for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    loaded = load_model(SMALL, weights=path, device="cpu")
    assert torch.equal(loaded.network.state_dict()["features.0.weight"], state["features.0.weight"])


def test_the_embedded_architecture_takes_a_file_too(tmp_path: Path) -> None:
    network = load_model("efficientnet-lite0", weights="random", device="cpu").network
    torch.save(network.state_dict(), tmp_path / "own.pt")
    loaded = load_model("efficientnet-lite0", weights=str(tmp_path / "own.pt"), device="cpu")
    assert torch.equal(loaded.network.state_dict()["conv_stem.weight"], network.state_dict()["conv_stem.weight"])


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v3_small", "torchvision:squeezenet1_1", "timm:resnet10t"])
def test_weights_for_another_number_of_classes_are_taken(name: str, tmp_path: Path) -> None:
    """A network that was fine-tuned on five classes, saved as a state dict."""
    library, _, inner = name.partition(":")
    make = timm.create_model if library == "timm" else tv_models.get_model
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trained = make(inner, num_classes=5).eval()
    torch.save(trained.state_dict(), tmp_path / "five.pt")
    model = load_model(name, weights=tmp_path / "five.pt", device="cpu")
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(model(images), trained((images - model.mean) / model.std), atol=1e-5)
    assert len(model.labels) == 5
    assert model.label_name(4) == "class 4"


def test_weights_of_another_network_name_the_keys(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    renamed = {key.replace("classifier", "head"): value for key, value in state.items()}
    torch.save(renamed, path)
    with pytest.raises(
        InputError, match=r"2 keys missing \(classifier.1.weight, .*\), 2 keys unexpected \(head.1.weight"
    ):
        load_model(SMALL, weights=path, device="cpu")


def test_weights_of_other_shapes_name_them(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({**state, "classifier.1.bias": torch.zeros(7)}, path)
    with pytest.raises(InputError, match=r"1 shapes differ \(classifier.1.bias \(7,\) instead of \(1000,\)\)"):
        load_model(SMALL, weights=path, device="cpu")


class _Alien:
    """Something that a pickle may hold and that must not be built."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_Alien(), "weights_only=True"),
        ([1, 2], "holds a list, not a state dict"),
        ({"a": 3}, "its entry 'a' is not a tensor"),
        (None, "is no .*state dict|weights_only=True"),
    ],
)
def test_files_that_are_no_state_dict_are_refused(content: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    if content is None:
        path.write_text("these are no weights")
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=message) as caught:
        load_model(SMALL, weights=path, device="cpu")
    assert "\n" not in str(caught.value)


def test_missing_and_damaged_weight_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.pth' does not exist"):
        load_model(SMALL, weights=tmp_path / "nowhere.pth", device="cpu")
    with pytest.raises(InputError, match="is a folder"):
        load_model(SMALL, weights=tmp_path, device="cpu")
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"12345678nonsense")
    with pytest.raises(InputError, match="can't read weights file"):
        load_model(SMALL, weights=bad, device="cpu")


def test_entries_in_order_must_agree_in_count_name_and_shape(tmp_path: Path) -> None:
    network = _create_timm("tf_efficientnet_lite0")
    state = network.state_dict()
    torch.save(dict(list(state.items())[1:]), tmp_path / "short.pth")
    with pytest.raises(InputError, match="hold 295 entries; model 'x' has 296"):
        load_weights_in_order(network, tmp_path / "short.pth", "x")
    torch.save(dict(reversed(state.items())), tmp_path / "swapped.pth")
    with pytest.raises(InputError, match=r"entry classifier\.bias .* stands where model 'x' has conv_stem.weight"):
        load_weights_in_order(network, tmp_path / "swapped.pth", "x")


def test_unknown_names_list_near_ones() -> None:
    with pytest.raises(InputError, match=r"unknown model 'efficientnet-lite'; did you mean .*efficientnet-lite0"):
        load_model("efficientnet-lite", device="cpu")
    with pytest.raises(InputError, match="timm:resnet18"):
        load_model("resnet18", device="cpu")
    with pytest.raises(InputError, match=r"unknown model '@@'.*efficientnet-lite2, timm:NAME, torchvision:NAME"):
        load_model("@@", device="cpu")
    with pytest.raises(InputError, match=r"unknown timm model 'resnet1'; did you mean .*resnet18"):
        load_model("timm:resnet1", device="cpu")
    with pytest.raises(InputError, match=r"unknown timm model '@@'; timm has \d+ models"):
        load_model("timm:@@", device="cpu")
    with pytest.raises(InputError, match=r"unknown weights tag of timm:resnet18 'a9_in1k'.*a1_in1k"):
        load_model("timm:resnet18.a9_in1k", device="cpu")
    with pytest.raises(InputError, match=r"unknown torchvision model 'resnet8'; did you mean .*resnet18"):
        load_model("torchvision:resnet8", device="cpu")


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_failed_download_says_what_else_there_is(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise OSError("no route to host\nand more")

    import timm
    import torchvision.models as tv_models

    monkeypatch.setattr(timm, "create_model", fail)
    monkeypatch.setattr(tv_models, "get_model", fail)
    with pytest.raises(
        InputError, match=r"can't get .*resnet18' \(OSError: no route to host\); give weights=PATH"
    ) as caught:
        load_model(f"{library}:resnet18", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(InputError, match="gives no class logits"):
        load_model("timm:vit_small_patch14_dinov2", weights="random", device="cpu")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "unknown device 'gpu'; valid: auto"),
        ("meta", "unsupported device 'meta'"),
        ("cuda:99", "cuda:99"),
    ],
)
def test_devices_that_are_not_there_are_refused(device: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_model("efficientnet-lite0", device=device)
