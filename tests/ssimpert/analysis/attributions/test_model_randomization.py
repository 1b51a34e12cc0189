"""Randomised models and labels: what changes, what doesn't, and that the original is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.grad_cam import grad_cam
from ssimpert.analysis.attributions.model_randomization import random_labels, randomizable_layers, randomized_model
from ssimpert.errors import InputError


class Small(nn.Module):
    """Convolution, batch norm with trained-looking statistics, a scale without an initialisation, a linear head."""

    cam_layer = "norm"

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.5, -1.0, 2.0]).reshape(3, 1, 1))
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(5, 4)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for values in (*self.parameters(), self.norm.running_mean, self.norm.running_var):
                values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.drop(self.norm(self.conv(images * self.scale)).relu()).mean(dim=(2, 3)))


TOP_FIRST = ("head", "norm", "conv", "")


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: values.clone() for name, values in model.state_dict().items()}


def changed(model: nn.Module, other: nn.Module) -> set[str]:
    """Names of the layers whose parameters or statistics differ."""
    own, others = model.state_dict(), other.state_dict()
    return {name.rpartition(".")[0] for name in own if not torch.equal(own[name], others[name])}


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 10, 12, generator=torch.Generator().manual_seed(4))


def test_layers_are_listed_from_the_top() -> None:
    assert randomizable_layers(Small()) == TOP_FIRST


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_cascade_draws_the_top_layers_and_keeps_what_it_has_drawn(count: int) -> None:
    model = Small()
    cascade = randomized_model(model, count, seed=5)
    assert changed(model, cascade) == set(TOP_FIRST[:count])
    everything = randomized_model(model, seed=5)
    assert changed(cascade, everything) == set(TOP_FIRST[count:])


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_independent_draws_one_layer_alone_as_the_cascade_does(number: int) -> None:
    model = Small()
    one = randomized_model(model, number, seed=5, independent=True)
    name = TOP_FIRST[number - 1]
    assert changed(model, one) == {name}
    assert changed(one, randomized_model(model, seed=5)) == set(TOP_FIRST) - {name}
    assert not changed(one, randomized_model(model, [name], seed=5))


def test_the_original_the_flags_and_the_random_state_stay() -> None:
    model = Small()
    model.conv.weight.requires_grad_(True)
    before, random_state = state(model), torch.get_rng_state()
    randomized = randomized_model(model, seed=5)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    assert [p.requires_grad for p in randomized.parameters()] == [p.requires_grad for p in model.parameters()]
    assert not any(module.training for module in randomized.modules())
    assert {p.data_ptr() for p in randomized.parameters()}.isdisjoint(p.data_ptr() for p in model.parameters())


def test_equal_seeds_draw_equal_weights_and_other_seeds_others() -> None:
    model = Small()
    torch.manual_seed(1)
    first = randomized_model(model, seed=5)
    torch.manual_seed(2)
    assert not changed(first, randomized_model(model, seed=5))
    assert {"head", "conv", ""} <= changed(first, randomized_model(model, seed=6))


def test_layers_get_their_own_initialisation_and_other_parameters_a_normal_one() -> None:
    model = Small()
    drawn = torch.stack([randomized_model(model, seed=seed).scale.flatten() for seed in range(300)])
    rms = model.scale.square().mean().sqrt().item()
    assert drawn.std().item() == pytest.approx(rms, rel=0.1)
    assert drawn.mean().item() == pytest.approx(0, abs=0.2 * rms)
    weight = randomized_model(model, seed=5).conv.weight  # uniform within 1/sqrt(fan-in), torch's default
    assert 0.8 / 27**0.5 < weight.abs().max().item() <= 1 / 27**0.5


def test_batch_norm_is_as_in_an_untrained_network() -> None:
    norm, fresh = randomized_model(Small(), seed=5).norm, nn.BatchNorm2d(5)
    assert all(torch.equal(values, fresh.state_dict()[name]) for name, values in norm.state_dict().items())


def test_calibration_normalises_the_features_of_randomised_batch_norms_only(images: Tensor) -> None:
    model = Small()
    seen: list[Tensor] = []
    calibrated = randomized_model(model, seed=5, calibration=images)
    handle = calibrated.norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    calibrated(images)
    handle.remove()
    assert not calibrated.norm.training
    assert calibrated.norm.momentum == model.norm.momentum
    torch.testing.assert_close(seen[0].mean(dim=(0, 2, 3)), torch.zeros(5), rtol=0, atol=1e-5)
    torch.testing.assert_close(seen[0].var(dim=(0, 2, 3)), torch.ones(5), rtol=1e-2, atol=0)
    head_only = randomized_model(model, 1, seed=5, calibration=images)
    assert changed(model, head_only) == {"head"}


def test_parametrised_weights_are_drawn_too() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)))
    assert not torch.equal(randomized_model(model, seed=0)[0].weight, model[0].weight)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_copy_can_be_explained_whatever_mode_it_was_made_in(images: Tensor, context: Callable[[], object]) -> None:
    model = Small()
    with context():  # type: ignore[attr-defined]
        randomized = randomized_model(model, seed=5, calibration=images)
    randomized.requires_grad_(True)
    assert grad_cam(randomized, images, 1).isfinite().all()
    randomized(images).sum().backward()
    assert randomized.conv.weight.grad is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 0}, r"layers must lie in 1 \.\.\. 4 for this model, got 0"),
        ({"layers": 5}, r"layers must lie in 1 \.\.\. 4 for this model, got 5"),
        ({"layers": "everything"}, "layers must be 'all', a number or a list of names, got 'everything'"),
        ({"layers": []}, r"layers must be 'all', a number or a list of names, got \[\]"),
        ({"layers": True}, "layers must be 'all', a number or a list of names, got True"),
        ({"layers": ["haed"]}, "unknown layer 'haed'; did you mean head"),
        ({"independent": True}, "independent randomisation needs a number of a layer from the top, got layers='all'"),
        ({"seed": 0.5}, r"seed must be an integer from 0 .*, got 0\.5"),
        ({"calibration": torch.rand(3, 8, 8)}, r"calibration must have shape \(B, C, H, W\), got \(3, 8, 8\)"),
    ],
)
def test_errors_name_the_value(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        randomized_model(Small(), **{"seed": 0, **arguments})  # type: ignore[arg-type]


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(InputError, match="no parameters to randomise"):
        randomized_model(nn.ReLU(), seed=0)


def test_random_labels_are_uniform_over_the_other_classes() -> None:
    label = torch.arange(5).repeat(4000)
    drawn = random_labels(label, 5, seed=3)
    assert drawn.dtype == torch.int64
    for own in range(5):
        share = torch.bincount(drawn[label == own], minlength=5) / 4000
        assert share[own] == 0
        assert share[torch.arange(5) != own].tolist() == pytest.approx([0.25] * 4, abs=0.03)
    assert torch.equal(drawn, random_labels(label, 5, seed=3))
    assert not torch.equal(drawn, random_labels(label, 5, seed=4))
    assert random_labels(torch.tensor([1, 0]), 2, seed=0).tolist() == [0, 1]
    assert random_labels(torch.tensor([], dtype=torch.int64), 2, seed=0).shape == (0,)


def test_random_labels_leave_the_random_state_alone_and_name_what_they_refuse() -> None:
    before = torch.get_rng_state()
    random_labels(torch.tensor([0]), 3, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    label = torch.tensor([0, 3])
    for arguments, message in (
        ((label, 3), r"label must lie in 0 \.\.\. 2, got 3"),
        ((label, 1), "classes must be 2 or more to have another class, got 1"),
        ((label.float(), 5), r"\(B,\) tensor of integers, got \(2,\) torch\.float32"),
        ((3, 5), r"\(B,\) tensor of integers, got int"),
    ):
        with pytest.raises(InputError, match=message):
            random_labels(*arguments, seed=0)
