"""ONNX copies: the model's logits image by image, checked when made, and refused wherever the model is needed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ssimpert
from ssimpert.analysis import grad_cam, gradient, insertion_deletion, local_std, occlusion, rise
from ssimpert.analysis.attributions.baseline_image import baseline_image
from ssimpert.errors import InputError
from ssimpert.models import Classifier, OnnxClassifier, onnx_classifier, onnx_session
from ssimpert.models.forward_copy import LEAST_IMAGES, forward_copy

# The package's attribute of that name is the function.
MODULE = import_module("ssimpert.models.onnx_classifier")
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
pytestmark = pytest.mark.skipif(
    any(find_spec(package) is None for package in PACKAGES),
    reason="onnx, onnxscript or onnxruntime is missing: pip install 'ssimpert[onnx]'",
)

# Odd sides, so that images of a batch begin at any address.
HEIGHT, WIDTH = 17, 23
LABELS = ("ant", "bee", "cat", "dog")


def pixels(count: int, seed: int, *, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


class Toy(nn.Module):
    """A strided, a depthwise and a pointwise convolution, batch norms, activations and a head; seeded and frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, groups=8, bias=False),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 12, 1),
            nn.SiLU(),
        )
        self.head = nn.Linear(12, len(LABELS))
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for tensor in (*self.parameters(), *self.buffers()):
                if tensor.is_floating_point():
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.3)
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    assert module.running_var is not None
                    module.running_var.add_(0.5)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean(dim=(2, 3)))


class TurnsOnTheImage(Toy):
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return -logits if bool(images.mean() > 0.5) else logits


class Remembers(Toy):
    seen: tuple[type, ...] = ()

    def forward(self, images: Tensor) -> Tensor:
        self.seen = (*self.seen, type(images))
        return super().forward(images)


class Half(Toy):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).half()


class Pair(Toy):
    def forward(self, images: Tensor) -> Any:
        logits = super().forward(images)
        return logits, logits


def classifier(network: nn.Module | None = None) -> Classifier:
    return Classifier(
        Toy() if network is None else network, name="toy", input_size=23, labels=LABELS, mean=(0.5,) * 3, std=(0.2,) * 3
    )


@pytest.fixture(scope="module")
def toy() -> Classifier:
    return classifier()


@pytest.fixture(scope="module")
def copy(toy: Classifier) -> OnnxClassifier:
    return onnx_classifier(toy, pixels(1, 1), threads=1)


@pytest.fixture(scope="module")
def bare() -> Toy:
    """No Classifier, though with a mean."""
    model = Toy()
    model.register_buffer("mean", torch.full((1, 3, 1, 1), 0.4))
    return model


@pytest.fixture(scope="module")
def bare_copy(bare: Toy) -> OnnxClassifier:
    return onnx_classifier(bare, pixels(1, 1), threads=1)


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) <= 64 * 2.0**-23 * float(expected.abs().max())


def test_logits_are_the_models(toy: Classifier, copy: OnnxClassifier) -> None:
    for images in (pixels(5, 2), pixels(1, 3) * 0.01, 1 - pixels(2, 4)):
        found = copy(images)
        assert found.dtype == torch.float32
        assert close(found, toy(images))
    assert not close(copy(pixels(1, 2)), toy(pixels(1, 3)))
    assert copy(pixels(0, 2)).shape == (0, len(LABELS))


def test_an_image_has_the_same_logits_in_any_batch_to_the_last_bit(copy: OnnxClassifier) -> None:
    images = pixels(7, 5)
    together = copy(images)
    for index in range(len(images)):
        assert torch.equal(copy(images[index : index + 1].clone()), together[index : index + 1])
    assert torch.equal(copy(images.flip(0)), together.flip(0))
    # Strided views are the images that they show.
    wide = torch.cat([images, images], dim=3).contiguous(memory_format=torch.channels_last)
    assert torch.equal(copy(wide[..., :WIDTH]), together)


def test_it_carries_what_analyses_read_of_a_model(toy: Classifier, copy: OnnxClassifier, bare_copy: Any) -> None:
    assert (copy.name, copy.input_size, copy.labels, copy.size) == ("toy", 23, LABELS, (HEIGHT, WIDTH))
    assert torch.equal(copy.mean, toy.mean)
    assert torch.equal(copy.std, toy.std)
    assert copy.mean is not toy.mean
    assert copy.label_name(2) == "cat"
    with pytest.raises(InputError, match="class 4 is out of range; model 'toy' has 0 to 3"):
        copy.label_name(4)
    assert repr(copy) == "OnnxClassifier('toy', 17x23, threads=1)"
    assert not any(hasattr(bare_copy, name) for name in ("std", "labels", "name", "input_size"))
    with pytest.raises(InputError, match="class 0 is out of range"):
        bare_copy.label_name(0)
    assert repr(bare_copy) == "OnnxClassifier('unnamed', 17x23, threads=1)"


def test_black_box_analyses_give_what_they_give_of_the_model(toy: Classifier, copy: OnnxClassifier) -> None:
    images, maps = pixels(2, 6), local_std(pixels(2, 6))
    expected, found = (insertion_deletion(each, images, maps, step=20) for each in (toy, copy))
    for kind, curve in found.items():
        assert torch.equal(curve.target, expected[kind].target)
        assert float((curve.auc - expected[kind].auc).abs().max()) < 1e-5
        assert float(curve.scores.std()) > 1e-3
    alone = insertion_deletion(copy, images[1:], maps[1:], step=20)
    assert torch.equal(alone["insertion"].scores, found["insertion"].scores[1:])
    for method in (
        lambda each: occlusion(each, images, 1, window=8, stride=5, normalize=False),
        lambda each: rise(each, images, 1, masks=40, cells=3, normalize=False),
    ):
        assert float((method(copy) - method(toy)).abs().max()) < 1e-5
        assert float(method(toy).std()) > 1e-3


def test_its_mean_colour_is_the_models(toy: Any, copy: OnnxClassifier, bare: Any, bare_copy: OnnxClassifier) -> None:
    images = pixels(1, 7)
    assert torch.equal(baseline_image(copy, images), baseline_image(toy, images))
    assert torch.equal(baseline_image(bare_copy, images), baseline_image(bare, images))
    assert torch.equal(baseline_image(bare, images)[:, :, 0, 0], bare.mean.reshape(1, -1).expand(1, 3))
    assert torch.equal(bare_copy.mean, bare.mean)


def test_it_is_not_copied_again(copy: OnnxClassifier) -> None:
    assert forward_copy(copy, pixels(1, 1), LEAST_IMAGES) is copy


def test_it_keeps_the_weights_that_it_was_made_with_and_leaves_the_model_as_it_was() -> None:
    model, images = Remembers(), pixels(3, 8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.inference_mode():
        copy = onnx_classifier(model, pixels(1, 1))
    assert model.seen == (Tensor,) * 4  # the passes that check, and none of the exporter's stand-ins
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    old = copy(images)
    assert close(old, model(images))
    model.features[0].weight.data.mul_(-2)
    assert not close(model(images), old)
    assert torch.equal(copy(images), old)


def test_other_float_types_are_converted(copy: OnnxClassifier) -> None:
    images = pixels(2, 9)
    assert torch.equal(copy(images.double()), copy(images))
    assert torch.equal(copy(images.half()), copy(images.half().float()))
    with torch.inference_mode():
        inside = pixels(2, 9)
        assert torch.equal(copy(inside), copy(images))


def test_no_pixel_that_is_nan_is_hidden(toy: Classifier, copy: OnnxClassifier) -> None:
    images = pixels(2, 10)
    images[0] = float("nan")
    assert torch.equal(copy(images).isnan(), toy(images).isnan())


def test_images_that_need_a_gradient_are_refused(copy: OnnxClassifier) -> None:
    images = pixels(1, 11).requires_grad_()
    with pytest.raises(InputError, match="gives no gradients; perturbations and methods with gradients need the model"):
        copy(images)
    with torch.no_grad():
        assert torch.equal(copy(images), copy(pixels(1, 11)))
    anything: Any = copy
    with pytest.raises(InputError, match="gives no gradients"):
        gradient(anything, pixels(1, 11), 0)
    with pytest.raises(InputError, match="gives no gradients"):
        ssimpert.linearize(anything, pixels(1, 11), torch.tensor([0]), ssimpert.Untargeted())
    with pytest.raises(InputError, match="OnnxClassifier has no layers; class activation maps need the model itself"):
        grad_cam(anything, pixels(1, 11), 0, layer="features.0")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (pixels(1, 1, width=24), r"shape \(1, 3, 17, 24\); this ONNX copy takes \(B, 3, 17, 23\)"),
        (pixels(1, 1)[:, :1], r"shape \(1, 1, 17, 23\)"),
        (pixels(1, 1)[0], r"shape \(3, 17, 23\)"),
        (pixels(1, 1).long(), "dtype torch.int64; an ONNX copy takes floating-point pixels"),
        (pixels(1, 1).to("meta"), "on meta; an ONNX copy runs on the CPU"),
    ],
)
def test_images_that_it_can_not_take_are_refused(copy: OnnxClassifier, images: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        copy(images)


def _hooked() -> nn.Module:
    model = Toy()
    model.head.register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Toy().train(), "model Toy is in training mode; call its eval"),
        (lambda: Toy().double(), "'Toy' must be float32 for an ONNX copy, but features.0.weight is torch.float64"),
        (lambda: Toy().to("meta"), "'Toy' is on meta; an ONNX copy runs on the CPU"),
        (_hooked, "'Toy' has forward hooks"),
        (lambda: lambda images: images, "only a module can be exported to ONNX, got function"),
        (Pair, r"must return logits \(B, K\), .* here \(1, K\); it returned a tuple of \(1, 4\), \(1, 4\)"),
        (Half, r"must give float32 logits \(1, K\) for an ONNX copy, got torch.float16"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Flatten(0)).eval(),
            r"must return logits \(B, K\), .* here \(1, K\); it returned torch.float32 \(1173,\)",
        ),
    ],
)
def test_models_that_it_can_not_copy_are_refused_before_the_export(
    make: Callable[[], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "onnx_session", lambda *_: pytest.fail("it was exported"))
    with pytest.raises(InputError, match=message):
        onnx_classifier(make(), pixels(1, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "threads must be an integer of at least 1, got 0"),
        ({"threads": True}, "threads must be an integer of at least 1, got True"),
        ({"example": pixels(2, 1)}, r"example must be one image \(1, 3, H, W\), got \(2, 3, 17, 23\)"),
        ({"example": pixels(1, 1)[:, :, :0]}, r"example must be one image \(1, 3, H, W\), got \(1, 3, 0, 23\)"),
        ({"example": "chelsea"}, "example must be one image .* got str"),
        ({"example": pixels(1, 1).long()}, "example must have floating-point pixels, got torch.int64"),
        ({"example": pixels(1, 1).to("meta")}, "example is on meta"),
        ({"example": pixels(1, 1) / 0}, "example must be finite"),
    ],
)
def test_arguments_are_checked_before_any_pass(options: dict[str, Any], message: str) -> None:
    class NeverRun(Toy):
        def forward(self, images: Tensor) -> Tensor:
            pytest.fail("a pass was made")

    with pytest.raises(InputError, match=message):
        onnx_classifier(NeverRun(), **{"example": pixels(1, 1)} | options)


def test_a_model_that_the_exporter_refuses_is_named_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        InputError, match=r"model 'TurnsOnTheImage' can't be exported to ONNX: .*data-dependent"
    ) as raised:
        onnx_classifier(TurnsOnTheImage(), pixels(1, 1))
    assert raised.value.__cause__ is not None
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("example", [pixels(1, 1) * 0.1, torch.zeros(1, 3, HEIGHT, WIDTH)], ids=["dark", "black"])
def test_a_copy_that_is_right_on_the_example_alone_is_refused(example: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        """The model's logits on the example, another's elsewhere."""

        def get_inputs(self) -> list[Any]:
            return [type("Input", (), {"name": "images"})]

        def run(self, _outputs: None, feed: dict[str, Any]) -> list[Any]:
            image = torch.from_numpy(feed["images"])
            return [(model(image) * (1 if torch.equal(image, example) else 1.001)).numpy()]

    model = Toy()
    monkeypatch.setattr(MODULE, "onnx_session", lambda *_: Wrong())
    with pytest.raises(InputError, match="roundings of the largest apart on "):
        onnx_classifier(model, example)


def test_threads_are_those_that_torch_has(bare: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def session(_network: nn.Module, _example: Tensor, threads: int) -> Any:
        asked.append(threads)
        raise InputError("enough")

    monkeypatch.setattr(MODULE, "onnx_session", session)
    for threads in (None, 3):
        with pytest.raises(InputError, match="enough"):
            onnx_classifier(bare, pixels(1, 1), threads=threads)
    assert asked == [torch.get_num_threads(), 3]


@pytest.mark.parametrize("missing", PACKAGES)
def test_without_a_package_the_error_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_session, "find_spec", lambda name: None if name == missing else find_spec(name))
    with pytest.raises(InputError, match=r"needs onnx, onnxscript and onnxruntime; .* pip install 'ssimpert\[onnx\]'"):
        onnx_classifier(Toy(), pixels(1, 1))


def test_a_package_that_does_not_load_is_named_and_reports_of_use_are_off_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, str | None] = {}

    def load(name: str) -> Any:
        seen[name] = os.environ.get("ORT_DISABLE_TELEMETRY")
        if name == "onnxruntime":
            raise ImportError("no library", name=name)

    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr(onnx_session, "import_module", load)
    with pytest.raises(InputError, match="onnxruntime does not load: no library"):
        onnx_classifier(Toy(), pixels(1, 1))
    assert seen == dict.fromkeys(PACKAGES, "1")


def test_the_embedded_models_copy_equals_it_and_is_made_quietly(
    model: Classifier, capfd: pytest.CaptureFixture[str]
) -> None:
    def drawn() -> list[float]:
        return [float(torch.rand(1)), random.random(), np.random.rand()]  # noqa: NPY002  (the state that must stay)

    image = ssimpert.load_image("chelsea", size=64)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    expected_draws = drawn()
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])  # noqa: NPY002
    capfd.readouterr()
    copy = onnx_classifier(model, image, threads=2)
    assert capfd.readouterr() == ("", "")
    assert drawn() == expected_draws
    assert torch.is_grad_enabled()

    images = torch.cat([image, image.flip(3), pixels(1, 15, height=64, width=64)])
    assert close(copy(images), model(images))
    expected, found = (insertion_deletion(each, image, local_std(image)) for each in (model, copy))
    assert all(abs(float(found[kind].auc - expected[kind].auc)) < 1e-5 for kind in found)
