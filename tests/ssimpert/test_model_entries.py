"""What every public function promises that takes a model: where it works, what it refuses, what it does not change.

``CALLS`` lists the functions. A function of a package's ``__all__`` that takes a model and is not listed fails a test.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import solvers
import ssimpert
import ssimpert.analysis
import ssimpert.linearization
import ssimpert.metrics
from ssimpert.errors import InputError

LAYER = "body.3"
BALL = solvers.LpBall(2, 0.5)


class Normalising(nn.Module):
    """A small classifier that normalises its images, in place or not, and counts how it was asked."""

    def __init__(self, *, inplace: bool = False, classes: int = 4, frozen: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = nn.Sequential(
                *(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU()),
                *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes)),
            )
        self.inplace = inplace
        self.cam_layer = LAYER
        self.mean = torch.full((1, 3, 1, 1), 0.5)
        self.requires_grad_(not frozen)
        self.eval()

    def logits(self, images: Tensor) -> Any:
        normalised = images.sub_(0.5).div_(0.25) if self.inplace else (images - 0.5) / 0.25
        return self.body(normalised)

    def forward(self, images: Tensor) -> Any:
        return self.logits(images)


class ReturnsTuple(Normalising):
    def forward(self, images: Tensor) -> Any:
        return self.logits(images), images


class ReturnsIntegers(Normalising):
    def forward(self, images: Tensor) -> Any:
        return (1000 * self.logits(images)).long()


class ReturnsDetached(Normalising):
    def forward(self, images: Tensor) -> Any:
        return self.logits(images).detach()


class IgnoresImages(Normalising):
    """Its logits have a graph, which leads to the weights alone."""

    def __init__(self) -> None:
        super().__init__(frozen=False)

    def forward(self, images: Tensor) -> Any:
        return self.logits(images.detach())


def images_of(side: int = 24) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def maps_of(images: Tensor) -> Tensor:
    return images.detach().clone().mean(dim=1)


@cache
def perturbed() -> ssimpert.PerturbResult:
    return ssimpert.perturb(Normalising(), images_of(), BALL, steps=1)


@dataclass(frozen=True)
class Call:
    """One public function with small arguments.

    Attributes:
        run: the call, of a model and of images.
        gradient: where it needs gradients of the logits: at the "pixels", at a "layer", or nowhere.
        logits: whether it looks at the logits at all.
        classes: whether it compares classes, so that a model of one class makes no sense.
    """

    run: Callable[[Any, Tensor], Any]
    gradient: Literal["pixels", "layer"] | None = "pixels"
    logits: bool = True
    classes: bool = True


def feature_call(run: Callable[[Any, Tensor], Any]) -> Call:
    return Call(run, gradient=None, logits=False, classes=False)


def gradient_call(run: Callable[[Any, Tensor], Any]) -> Call:
    return Call(run, classes=False)


def layer_call(run: Callable[[Any, Tensor], Any]) -> Call:
    return Call(run, gradient="layer", classes=False)


def forward_call(run: Callable[[Any, Tensor], Any]) -> Call:
    return Call(run, gradient=None)


def label_of(images: Tensor) -> Tensor:
    return torch.zeros(len(images), dtype=torch.long)


ANALYSIS: Any = ssimpert.analysis
CALLS: dict[str, Call] = {
    "perturb": Call(lambda m, x: ssimpert.perturb(m, x, BALL, steps=2)),
    "minimal_budget": Call(lambda m, x: ssimpert.minimal_budget(m, x, BALL, steps=2, rounds=2, candidates=2)),
    "margin_curve": Call(lambda m, x: ssimpert.margin_curve(m, x, BALL, [0.1, 0.2], steps=1)),
    "foolbox_baseline": Call(lambda m, x: ssimpert.foolbox_baseline(m, x, "l2-pgd", radius=0.5, steps=2)),
    "l2_control": Call(lambda m, x: ssimpert.l2_control(m, x, perturbed())),
    "quantize": Call(lambda m, x: ssimpert.quantize(m, x, perturbed(), rounds=1)),
    "perceptual_ball_constrained": Call(
        lambda m, x: ssimpert.perceptual_ball_constrained(m, x, 0.1, layers=[LAYER], steps=2)
    ),
    "perceptual_ball_lbfgs": Call(
        lambda m, x: ssimpert.perceptual_ball_lbfgs(m, x, layers=[LAYER], iterations=3, lower_gamma=False)
    ),
    "linearize": Call(lambda m, x: ssimpert.linearize(m, x, label_of(x), ssimpert.Untargeted())),
    "forward": Call(lambda m, x: ssimpert.linearization.forward(m, x), gradient=None, classes=False),
    "deep_features": feature_call(lambda m, x: ssimpert.deep_features(m, [LAYER])(x.detach()).detach()),
    "feature_jacobian": feature_call(
        lambda m, x: ssimpert.feature_jacobian(ssimpert.deep_features(m, [LAYER]), x).apply(x)
    ),
    "feature_distance": feature_call(lambda m, x: ssimpert.feature_distance(m, x, x.flip(-1), [LAYER])),
    "compare": Call(
        lambda m, x: ssimpert.compare(m, x, perturbed(), attributions=["rise"], insertion_deletion=64, shifts=0)
    ),
    "attribution": gradient_call(lambda m, x: ANALYSIS.attribution("smooth_grad", m, x, 1, samples=2)),
    "occlusion": forward_call(lambda m, x: ANALYSIS.occlusion(m, x, 1, window=6, stride=6, baseline=0.25)),
    "rise": forward_call(lambda m, x: ANALYSIS.rise(m, x, 1, masks=20, cells=3)),
    "integrated_gradients": gradient_call(lambda m, x: ANALYSIS.integrated_gradients(m, x, 1, steps=3)),
    "path_attributions": gradient_call(lambda m, x: ANALYSIS.path_attributions(m, x, 1, steps=3)),
    "smooth_grad": gradient_call(lambda m, x: ANALYSIS.smooth_grad(m, x, 1, samples=3)),
    **{
        name: gradient_call(lambda m, x, name=name: getattr(ANALYSIS, name)(m, x, 1))  # type: ignore[misc]
        for name in ("gradient", "input_x_gradient", "guided_backprop", "deconvolution", "guided_grad_cam")
    },
    **{
        name: layer_call(lambda m, x, name=name: getattr(ANALYSIS, name)(m, x, 1, layer=LAYER))  # type: ignore[misc]
        for name in ("grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam")
    },
    **{
        name: forward_call(lambda m, x, name=name: getattr(ANALYSIS, name)(m, x, maps_of(x), step=64))  # type: ignore[misc]
        for name in ("insertion", "deletion", "insertion_deletion")
    },
    "onnx_classifier": Call(lambda m, x: ssimpert.onnx_classifier(m, x[:1])(x.detach()), gradient=None, classes=False),
}

# Public names that take a model and are not called with images here, and why.
EXCEPTIONS = {
    "Cell": "names a model of a study",
    "certified_level": "traces the network, whose layers need rules; tested in verification/test_certified_level.py",
    "verify": "traces the network, whose layers need rules; tested in verification/test_verify.py",
    "Classifier": "wraps a network; tested in models/test_classifier.py",
    "OnnxClassifier": "made by onnx_classifier",
    "Features": "made by deep_features",
    "composites": "asks Classifier.predict, which is tested in models/test_classifier.py",
    "default_layers": "takes a Classifier and no images",
    "perceptual_ball_saliency": "reads the normalisation; the model is not called",
    "randomizable_layers": "lists modules; the model is not called",
    "randomized_model": "takes models in either mode; tested in analysis/attributions/test_model_randomization.py",
}


def public_names_with_a_model() -> set[str]:
    packages = [ssimpert.__name__, *(m.name for m in pkgutil.walk_packages(ssimpert.__path__, "ssimpert.") if m.ispkg)]
    found = set()
    for package in map(importlib.import_module, packages):
        for name in getattr(package, "__all__", ()):
            value = getattr(package, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                try:
                    parameters = inspect.signature(value).parameters
                except ValueError:  # enumerations and exceptions
                    continue
                if {"model", "network", "features"} & set(parameters):
                    found.add(name)
    return found


def test_every_public_function_that_takes_a_model_is_listed_here() -> None:
    assert public_names_with_a_model() == CALLS.keys() | EXCEPTIONS.keys()


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors of a result, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for key in value:
            yield from tensors_in(value[key])
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from tensors_in(entry)
    elif is_dataclass(value):
        for entry in fields(value):
            yield from tensors_in(getattr(value, entry.name))


def assert_same(got: Any, expected: Any) -> None:
    pairs = list(zip(tensors_in(got), tensors_in(expected), strict=True))
    assert pairs
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@cache
def expected(name: str) -> Any:
    return CALLS[name].run(Normalising(), images_of())


def state_of(model: nn.Module) -> list[Any]:
    weights = [(key, value.clone()) for key, value in model.state_dict().items()]
    flags = [(key, value.requires_grad, value.grad) for key, value in model.named_parameters()]
    modes = [(key, module.training, len(module._forward_hooks)) for key, module in model.named_modules()]
    return [weights, flags, modes]


def torch_state() -> list[Any]:
    return [
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
    ]


every_call = pytest.mark.parametrize("name", CALLS)


@every_call
def test_a_model_that_writes_into_its_images_gives_the_numbers_of_one_that_does_not(name: str) -> None:
    images = images_of()
    assert_same(CALLS[name].run(Normalising(inplace=True), images), expected(name))
    assert torch.equal(images, images_of())


@every_call
def test_neither_model_nor_images_nor_torch_are_changed(name: str) -> None:
    model, images = Normalising(frozen=False), images_of()
    before, torch_before = str(state_of(model)), torch_state()
    assert_same(CALLS[name].run(model, images), expected(name))
    assert str(state_of(model)) == before
    assert torch_state() == torch_before
    assert torch.equal(images, images_of())


@every_call
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(name: str, mode: Callable[[], Any]) -> None:
    expected(name)
    model = Normalising()
    with mode():
        got = CALLS[name].run(model, images_of())  # the images are made within the mode
        assert torch_state()[1:3] == [False, mode is torch.inference_mode]
    assert_same(got, expected(name))
    if name not in ("deep_features", "onnx_classifier"):  # these make functions, which the caller calls in the mode
        assert not any(tensor.is_inference() for tensor in tensors_in(got))


@every_call
def test_images_that_require_a_gradient_are_taken_and_no_result_has_a_graph(name: str) -> None:
    images = images_of().requires_grad_()
    got = CALLS[name].run(Normalising(frozen=False), images)
    assert_same(got, expected(name))
    assert images.grad is None
    assert not any(tensor.requires_grad for tensor in tensors_in(got))


@every_call
def test_a_module_in_training_mode_is_named_with_the_remedy(name: str) -> None:
    model, images = Normalising(), images_of()
    model.body[1].train()
    before = str(state_of(model))
    message = r"Normalising is in training mode .*'body\.1', BatchNorm2d.*eval\(\)"
    with pytest.raises(InputError, match=message) as error:
        CALLS[name].run(model, images)
    assert "\n" not in str(error.value)
    assert str(state_of(model)) == before


@every_call
@pytest.mark.parametrize(
    ("model", "returned"), [(ReturnsTuple, "a tuple of"), (ReturnsIntegers, r"torch\.int64 \(\d+, 4\)")]
)
def test_an_output_that_is_no_logits_is_named(name: str, model: type[nn.Module], returned: str) -> None:
    if not CALLS[name].logits:
        CALLS[name].run(model(), images_of())  # works, since the logits are not looked at
        return
    with pytest.raises(InputError, match=f"(must return|must give) .*logits.* {returned}") as error:
        CALLS[name].run(model(), images_of())
    assert "\n" not in str(error.value)


@every_call
@pytest.mark.parametrize("model", [ReturnsDetached, IgnoresImages])
def test_logits_without_a_gradient_are_named_where_one_is_needed(name: str, model: type[nn.Module]) -> None:
    call = CALLS[name]
    if call.gradient == "pixels" or (call.gradient == "layer" and model is ReturnsDetached):
        with pytest.raises(InputError, match=r"the logits .*(carry no gradient|do not depend on)") as error:
            call.run(model(), images_of())
        assert "\n" not in str(error.value)
    elif name != "feature_jacobian":  # the derivative of features that ignore the images is 0
        assert_same(call.run(model(), images_of()), expected(name))


@every_call
def test_one_class_is_named_where_classes_are_compared(name: str) -> None:
    if CALLS[name].classes:
        with pytest.raises(InputError, match=r"at least 2.* the model has 1|classes are 0 to 0|classes 0 to 0"):
            CALLS[name].run(Normalising(classes=1), images_of())


def test_one_logit_and_a_target_names_the_number_of_classes() -> None:
    with pytest.raises(InputError, match="needs at least 2 classes, the model has 1"):
        ssimpert.perturb(Normalising(classes=1), images_of(), BALL, margin=ssimpert.Targeted(0))


def test_an_in_place_model_and_occlusion_by_hand() -> None:
    image = images_of()[:1].clone()
    got = ANALYSIS.occlusion(
        Normalising(inplace=True), image, 1, window=8, stride=8, baseline=torch.zeros(1, 3, 1, 1), normalize=False
    )
    model = Normalising()
    with torch.no_grad():
        clean = model(images_of()[:1]).softmax(dim=1)[0, 1]
        for top in range(0, 24, 8):
            for left in range(0, 24, 8):
                painted = images_of()[:1]
                painted[:, :, top : top + 8, left : left + 8] = 0
                fall = clean - model(painted).softmax(dim=1)[0, 1]
                torch.testing.assert_close(got[0, top + 3, left + 3], fall, rtol=1e-4, atol=1e-6)
