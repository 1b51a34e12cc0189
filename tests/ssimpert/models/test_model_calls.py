"""One call of a user's model: its own pixels, its mode and its output checked, gradients wherever the caller is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import solvers
import ssimpert
import ssimpert.analysis
from ssimpert.errors import InputError
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import (
    call_model,
    check_model,
    describe_model,
    differentiable_logits,
    forward,
    gradient_at,
    gradients_enabled,
    outside_inference_mode,
)
from ssimpert.models.mixed_precision import InMixedPrecision

WEIGHTS = torch.tensor([[1.0, -1.0], [0.5, 2.0], [0.0, 1.0]])


def two_means(images: Tensor) -> Tensor:
    """Logits (B, 3) of the means of the two channels; writes into its images."""
    return images.sub_(0.5).mean(dim=(2, 3)) @ WEIGHTS.to(images).T


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 2, 4, 5, generator=torch.Generator().manual_seed(0))


def expected_logits(images: Tensor) -> Tensor:
    return (images.detach().clone() - 0.5).mean(dim=(2, 3)) @ WEIGHTS.to(images).T


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 2 * 3, 3))
        return nn.Sequential(*layers).eval()


def test_the_model_writes_into_a_copy_and_gradients_reach_the_images(images: Tensor) -> None:
    before = images.clone()
    torch.testing.assert_close(call_model(two_means, images), expected_logits(before))
    leaf, logits = differentiable_logits(two_means, images)
    gradient = gradient_at(leaf, logits[:, 1], two_means)
    torch.testing.assert_close(gradient, (WEIGHTS[1] / 20).reshape(1, 2, 1, 1).expand(2, 2, 4, 5))
    assert torch.equal(images, before)
    assert not images.requires_grad


def test_the_copy_has_the_models_dtype_or_the_images() -> None:
    seen: list[torch.dtype] = []
    model = network()
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    double = torch.rand(1, 2, 4, 5, dtype=torch.float64)
    assert call_model(model, double).dtype == torch.float32
    assert call_model(two_means, double).dtype == torch.float64
    assert forward(model, double).dtype == torch.float64
    assert seen == [torch.float32] * 2


def test_memory_that_a_model_uses_again_is_not_handed_on(images: Tensor) -> None:
    output = torch.zeros(1, 3)

    def reuses(batch: Tensor) -> Tensor:
        return output.copy_(two_means(batch))

    torch.testing.assert_close(forward(reuses, images, chunk=1), expected_logits(images))


@pytest.mark.parametrize(
    ("output", "returned"),
    [
        (lambda x: (x.mean(dim=(2, 3)), x), r"a tuple of \(2, 2\), \(2, 2, 4, 5\)"),
        (lambda x: {"logits": x.mean(dim=(2, 3))}, "a dict"),
        (lambda x: None, "None"),
        (lambda x: x.mean(dim=(2, 3)).numpy(), "a ndarray"),
        (lambda x: x, r"torch.float32 \(2, 2, 4, 5\)"),
        (lambda x: x.mean(dim=(1, 2, 3)), r"torch.float32 \(2,\)"),
        (lambda x: x[:1].mean(dim=(2, 3)), r"torch.float32 \(1, 2\)"),
        (lambda x: x.mean(dim=(2, 3))[:, :0], r"torch.float32 \(2, 0\)"),
        (lambda x: x.mean(dim=(2, 3)).long(), r"torch.int64 \(2, 2\)"),
        (lambda x: x.mean(dim=(2, 3)).to(torch.complex64), r"torch.complex64 \(2, 2\)"),
    ],
)
def test_an_output_that_is_no_logits_is_named(images: Tensor, output: Callable[[Tensor], Any], returned: str) -> None:
    with pytest.raises(InputError, match=rf"must return logits \(B, K\).*here \(2, K\); it returned {returned}"):
        call_model(output, images)


def test_logits_without_a_graph_are_named_only_where_a_gradient_is_asked_for(images: Tensor) -> None:
    def detached(batch: Tensor) -> Tensor:
        return two_means(batch.detach())

    assert forward(detached, images).shape == (2, 3)
    with gradients_enabled(), pytest.raises(InputError, match="logits of model detached carry no gradient"):
        differentiable_logits(detached, images)
    leaf = images.clone().requires_grad_()
    with pytest.raises(InputError, match="carry no gradient"):
        gradient_at(leaf, torch.ones(2, requires_grad=True), detached)


def test_the_first_module_in_training_mode_is_named() -> None:
    model = network()
    check_model(model)
    model[1].train()
    model[2].train()
    with pytest.raises(InputError, match=r"^model Sequential is in training mode \(its module '1', BatchNorm2d\)"):
        check_model(model)
    with pytest.raises(InputError, match=r"^model Sequential is in training mode; call its eval"):
        check_model(network().train())


def test_models_are_called_by_their_names() -> None:
    assert describe_model(network()) == "model Sequential"
    assert describe_model(two_means) == "model two_means"
    assert describe_model(ssimpert.load_model("timm:test_resnet", weights="random", device="cpu")) == (
        "model 'timm:test_resnet'"
    )


def test_scripted_frozen_exported_and_compiled_models_are_taken(images: Tensor) -> None:
    model = network()
    expected = forward(model, images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(network())
        others = {
            "scripted": scripted,
            "traced": torch.jit.trace(network(), images),
            "frozen": torch.jit.freeze(torch.jit.script(network())),
            "exported": torch.export.export(network(), (images,)).module(),
            "compiled": torch.compile(network(), backend="eager"),
        }
        for name, other in others.items():
            torch.testing.assert_close(forward(other, images), expected, msg=name)
            gradient = ssimpert.linearize(other, images, torch.zeros(2, dtype=torch.long), ssimpert.Untargeted())
            torch.testing.assert_close(gradient.logits, expected, msg=name)
            assert gradient.gradient.any(), name
        scripted.train()
        with pytest.raises(InputError, match="in training mode"):
            forward(scripted, images)
        with pytest.raises(InputError, match="in training mode"):
            forward(torch.compile(network().train(), backend="eager"), images)


def test_gradients_are_recorded_within_and_the_callers_state_comes_back(images: Tensor) -> None:
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            with gradients_enabled():
                made = torch.ones(1, requires_grad=True) * 2
                assert made.requires_grad
            with outside_inference_mode():
                assert not torch.is_grad_enabled()
                assert not (torch.ones(1) * 2).is_inference()
            assert not torch.is_grad_enabled()
            assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    with outside_inference_mode():
        assert torch.is_grad_enabled()


def test_a_function_that_takes_a_model_gets_normal_tensors_without_graph(images: Tensor) -> None:
    @takes_model
    def kept(model: Callable[[Tensor], Tensor], first: Tensor, *, second: Tensor) -> tuple[Tensor, Tensor]:
        return first, second

    with torch.inference_mode():
        made = images.clone()
    first, second = kept(two_means, made, second=images.clone().requires_grad_())
    assert not first.is_inference()
    assert torch.equal(first, images)
    assert not second.requires_grad
    assert kept(two_means, images, second=images)[0] is images
    with pytest.raises(InputError, match="in training mode"):
        kept(model=network().train(), first=images, second=images)
    with pytest.raises(TypeError, match="model"):
        kept(first=images, second=images)  # type: ignore[call-arg]


def test_a_model_made_in_inference_mode_is_refused_and_one_loaded_there_works() -> None:
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        loaded = ssimpert.load_model("timm:test_resnet", weights="random", device="cpu")
        made = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    label = torch.zeros(1, dtype=torch.long)
    assert ssimpert.linearize(loaded, image, label, ssimpert.Untargeted()).gradient.any()
    with pytest.raises(InputError, match=r"weights that were made under torch.inference_mode"):
        ssimpert.linearize(made, image, label, ssimpert.Untargeted())


def test_what_a_model_keeps_of_a_pass_can_enter_a_graph_later() -> None:
    class Caches(nn.Module):
        """Makes a factor at its first pass and uses it again, as position embeddings do."""

        factor: Tensor | None = None

        def forward(self, images: Tensor) -> Tensor:
            if self.factor is None:
                self.factor = torch.full((1, 3), 2.0)
            means = images.mean(dim=(2, 3))
            return means * means.detach() * self.factor * means

    model, image = Caches().eval(), torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        ssimpert.analysis.rise(model, image, 0, masks=4, cells=2)
    assert ssimpert.linearize(model, image, torch.zeros(1, dtype=torch.long), ssimpert.Untargeted()).gradient.any()


def test_predict_refuses_a_network_in_training_mode_and_changes_nothing() -> None:
    model = ssimpert.load_model("timm:test_resnet", weights="random", device="cpu")
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert not model.predict(image).is_inference()
    model.network.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match="model 'timm:test_resnet' is in training mode"):
        model.predict(image)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_threads_that_share_a_model_get_what_one_thread_gets() -> None:
    model = ssimpert.load_model("timm:test_resnet", weights="random", device="cpu")
    stack = torch.rand(6, 1, 3, 32, 32, generator=torch.Generator().manual_seed(3))

    def run(image: Tensor) -> tuple[Tensor, Tensor]:
        result = ssimpert.perturb(model, image, solvers.LpBall(2, 0.3), steps=2, stop_at_success=False)
        return result.adversarial, ssimpert.analysis.rise(model, image, 1, masks=20, cells=3)

    alone = [run(image) for image in stack]
    with ThreadPoolExecutor(4) as pool:
        for got, expected in zip(pool.map(run, stack), alone, strict=True):
            for one, other in zip(got, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_results_that_were_selected_in_inference_mode_are_taken() -> None:
    model = ssimpert.load_model("timm:test_resnet", weights="random", device="cpu")
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    result = ssimpert.perturb(model, image, solvers.LpBall(2, 0.3), steps=1)
    expected = ssimpert.quantize(model, image[:1], result.select(torch.tensor([0])))
    with torch.inference_mode():
        got = ssimpert.quantize(model, image[:1], result.select(torch.tensor([0])))
    assert torch.equal(got.adversarial, expected.adversarial)


def test_mixed_precision_leaves_the_models_modes_as_they_are() -> None:
    model = network()
    check_model(InMixedPrecision(model, "bfloat16"))
    model[1].train()
    with pytest.raises(InputError, match=r"its module 'model\.1', BatchNorm2d"):
        check_model(InMixedPrecision(model, "bfloat16"))
    assert [module.training for module in model] == [False, True, False, False, False]
