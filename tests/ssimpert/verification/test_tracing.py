"""Tracing: real architectures give the model's logits, and what can't be bounded is refused by name before any work."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssimpert.errors import InputError
from ssimpert.models import Classifier
from ssimpert.verification.tracing import trace


class Residual(nn.Module):
    """Every kind of step: module calls, functions, methods, sizes, a residual sum, a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.drop = nn.Dropout()
        self.head = nn.Linear(24, 5)
        self.register_buffer("shift", torch.randn(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.relu6(self.norm(self.first((images - self.shift) / 0.3)))
        maps = maps + functional.leaky_relu(self.second(maps), 0.1)
        maps = torch.cat([maps, -maps.relu() * 2 + 1], dim=1)
        pooled = functional.max_pool2d(functional.avg_pool2d(maps, 2), 2)
        pooled = functional.adaptive_avg_pool2d(pooled, (1, 3))
        flat = self.drop(functional.dropout(pooled.view(pooled.size(0), -1), training=self.training))
        return self.head(flat.reshape(flat.shape[0], 24)) - 1


def traced_logits(model: nn.Module, images: Tensor) -> Tensor:
    return trace(model, images[:1]).logits_of(images.double())


def test_traced_network_gives_the_models_logits() -> None:
    torch.manual_seed(0)
    model, images = Residual().double().eval(), torch.rand(3, 3, 8, 12, dtype=torch.float64)
    assert torch.allclose(traced_logits(model, images), model(images), rtol=1e-12, atol=1e-12)


def test_classifier_is_traced_behind_its_normalisation() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    model = Classifier(
        network, name="mine", input_size=9, labels=["a", "b", "c"], mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25]
    )
    images = torch.rand(2, 3, 9, 9)
    assert torch.allclose(traced_logits(model, images), model(images).double(), atol=1e-5)


@pytest.mark.parametrize("name", ["mobilenet_v2", "densenet121"])
def test_architectures_of_torchvision_are_traced(name: str) -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(num_classes=4).eval()
    images = torch.rand(1, 3, 32, 32)
    logits = model(images).double().detach()
    assert torch.allclose(traced_logits(model, images), logits, rtol=1e-3, atol=1e-4 * float(logits.abs().max()))


class Calls(nn.Module):
    """Calls one function on the image, then a linear layer."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function
        self.head = nn.Linear(3 * 8 * 8, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.function(images).flatten(1))


REFUSED = {
    "sigmoid": (Calls(torch.sigmoid), "sigmoid"),
    "softmax": (Calls(lambda z: functional.softmax(z, dim=1)), "softmax"),
    "product of two values": (Calls(lambda z: z * z.relu()), "both factors"),
    "divided by a value": (Calls(lambda z: 1 / z), "divisor"),
    "max over pixels": (Calls(lambda z: z.amax(dim=1, keepdim=True).expand(-1, 3, -1, -1)), "amax"),
    "dropout that is on": (Calls(functional.dropout), "dropout"),
    "batch statistics": (Calls(lambda z: functional.batch_norm(z, None, None, training=True)), "statistics"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_function_without_a_rule_is_refused_by_name(kind: str) -> None:
    model, named = REFUSED[kind]
    with pytest.raises(InputError, match=named) as caught:
        trace(model.eval(), torch.rand(1, 3, 8, 8))
    assert "\n" not in str(caught.value)


REFUSED_LAYERS = [
    (nn.GELU(), r"'1' \(GELU\)"),
    (nn.LeakyReLU(-0.1), "negative_slope -0.1"),
    (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "padding_mode 'reflect'"),
    (nn.Conv2d(3, 3, 2, padding="same"), "even kernel"),
    (nn.BatchNorm2d(3, track_running_stats=False), "running statistics"),
    (nn.GroupNorm(1, 3), "GroupNorm"),
    (nn.Linear(8, 8), r"only \(B, F\)"),
]


@pytest.mark.parametrize(("layer", "named"), REFUSED_LAYERS)
def test_layer_without_a_rule_is_refused_by_name(layer: nn.Module, named: str) -> None:
    model = nn.Sequential(nn.Identity(), layer, nn.Flatten(), nn.Linear(3 * 8 * 8, 2)).eval()
    with pytest.raises(InputError, match=named):
        trace(model, torch.rand(1, 3, 8, 8))


def test_subclass_of_a_layer_is_refused_because_it_may_compute_something_else() -> None:
    class Louder(nn.ReLU):
        def forward(self, images: Tensor) -> Tensor:
            return 2 * super().forward(images)

    # torch.fx looks into classes outside of torch, so the subclass is taken apart, and its steps have rules.
    model = nn.Sequential(Louder(), nn.Flatten(), nn.Linear(3 * 8 * 8, 2)).double().eval()
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    assert torch.allclose(traced_logits(model, images), model(images))


def test_control_flow_on_pixels_is_refused_in_one_line() -> None:
    class Branching(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) if images.sum() > 0 else -images.flatten(1)

    with pytest.raises(InputError, match=r"can't be traced by torch\.fx") as caught:
        trace(Branching().eval(), torch.rand(1, 3, 8, 8))
    assert "\n" not in str(caught.value)


def test_steps_outside_of_the_trace_are_noticed() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)).eval()
    model[1].register_forward_hook(lambda module, args, output: output + 1)
    with pytest.raises(InputError, match="differ by 1"):
        trace(model, torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 5e-3), (torch.float64, 1e-7)])
def test_a_small_step_outside_of_the_trace_is_noticed_too(dtype: torch.dtype, share: float) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)).to(dtype).eval()
    trace(model, torch.rand(1, 3, 8, 8, dtype=dtype))
    model[1].register_forward_hook(lambda module, args, output: output * (1 + share))
    with pytest.raises(InputError, match="differ by"):
        trace(model, torch.rand(1, 3, 8, 8, dtype=dtype))


def test_function_is_refused_as_a_model() -> None:
    with pytest.raises(InputError, match=r"needs a torch\.nn\.Module"):
        trace(lambda images: images.flatten(1), torch.rand(1, 3, 8, 8))


def test_tracing_leaves_the_model_as_it_is() -> None:
    model = Residual().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, torch.rand(1, 3, 8, 12))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.requires_grad for value in model.parameters())
    assert model.first.weight.dtype == torch.float32
