"""Gradient, input x gradient and SmoothGrad against finite differences and captum."""

from __future__ import annotations

import pytest
import torch
from captum.attr import InputXGradient, Saliency
from torch import Tensor, nn

from ssimpert.analysis.attributions.gradients import gradient, input_gradient, input_x_gradient, smooth_grad
from ssimpert.analysis.attributions.postprocessing import reduce_channels
from ssimpert.errors import InputError
from ssimpert.models import Classifier
from tests.ssimpert.analysis.naive import TwoLayers, finite_differences, toy_images


@pytest.fixture
def toy() -> TwoLayers:
    return TwoLayers(scale=1.0)


def slopes_of(toy: TwoLayers, image: Tensor, target: int) -> Tensor:
    return finite_differences(lambda x: toy(x[None])[0, target], image)


def test_the_gradient_is_the_largest_magnitude_of_the_slopes(toy: TwoLayers) -> None:
    images, targets = toy_images(), torch.tensor([0, 2, 1])
    raw = gradient(toy, images, targets, normalize=False)
    for index in range(3):
        slopes = slopes_of(toy, images[index], int(targets[index]))
        torch.testing.assert_close(raw[index], slopes.abs().amax(dim=0), rtol=0, atol=1e-8)
    captum = Saliency(toy).attribute(images.requires_grad_(), targets)
    torch.testing.assert_close(raw, captum.amax(dim=1).detach(), rtol=0, atol=1e-12)


def test_reductions_over_channels_are_those_computed_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0], [-3.0, 2.0], [1.0, -1.0]]).view(1, 3, 1, 2)
    expected = {"max": [3.0, 2.0], "sum": [5.0, 5.0], "signed": [-1.0, 3.0], "positive": [0.0, 3.0]}
    for name, row in expected.items():
        assert reduce_channels(values, name).tolist() == [[row]]
    with pytest.raises(InputError, match="unknown reduction over channels 'mean'"):
        reduce_channels(values, "mean")


def test_input_x_gradient_equals_captum_from_the_baseline(toy: TwoLayers) -> None:
    images, targets = toy_images(), torch.tensor([0, 2, 1])
    products = InputXGradient(toy).attribute(images.clone().requires_grad_(), targets).detach()
    raw = input_x_gradient(toy, images, targets, normalize=False)
    torch.testing.assert_close(raw, products.sum(dim=1).clamp(min=0), rtol=0, atol=1e-12)
    colour = torch.tensor([0.5, 0.25, 0.0], dtype=torch.float64).view(1, 3, 1, 1)
    raw = input_x_gradient(toy, images, targets, baseline=colour, normalize=False, channels="signed")
    for index in range(3):
        slopes = slopes_of(toy, images[index], int(targets[index]))
        expected = ((images[index] - colour[0]) * slopes).sum(dim=0)
        torch.testing.assert_close(raw[index], expected, rtol=0, atol=1e-8)


def test_the_default_baseline_is_a_classifiers_mean_colour(toy: TwoLayers) -> None:
    """So the product is the one in normalised pixels, the network's own input."""
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    network = TwoLayers(scale=1.0)
    wrapped = Classifier(network, name="toy", input_size=8, labels="abc", mean=mean, std=std).double()
    normalised = (toy_images() - wrapped.mean) / wrapped.std
    ours = input_x_gradient(wrapped, toy_images(), 2, normalize=False)
    torch.testing.assert_close(ours, input_x_gradient(network, normalised, 2, normalize=False), rtol=0, atol=1e-12)


def test_smooth_grad_is_the_mean_gradient_of_noisy_copies(toy: TwoLayers) -> None:
    images, targets = toy_images(), torch.tensor([0, 2, 1])
    raw = smooth_grad(toy, images, targets, samples=3, noise=0.3, seed=5, normalize=False)
    generator = torch.Generator().manual_seed(5)
    noises = [torch.randn(3, 8, 10, generator=generator, dtype=torch.float64) for _ in range(3)]
    for index in range(3):
        total = torch.zeros(3, 8, 10, dtype=torch.float64)
        for noise in noises:
            total += slopes_of(toy, images[index] + 0.3 * noise, int(targets[index]))
        torch.testing.assert_close(raw[index], (total / 3).abs().amax(dim=0), rtol=0, atol=1e-7)


def test_smooth_grad_depends_on_the_seed_and_not_on_the_batch_size(toy: TwoLayers) -> None:
    first = smooth_grad(toy, toy_images(), 1, samples=9, seed=0)
    assert torch.equal(first, smooth_grad(toy, toy_images(), 1, samples=9, seed=0))
    torch.testing.assert_close(first, smooth_grad(toy, toy_images(), 1, samples=9, batch_size=2), rtol=0, atol=1e-12)
    assert not torch.allclose(first, smooth_grad(toy, toy_images(), 1, samples=9, seed=1), atol=1e-3)


def test_little_noise_gives_the_gradient(toy: TwoLayers) -> None:
    smooth = smooth_grad(toy, toy_images(), 1, samples=3, noise=1e-9, normalize=False)
    torch.testing.assert_close(smooth, gradient(toy, toy_images(), 1, normalize=False), rtol=0, atol=1e-9)


def test_large_batches_go_in_parts(toy: TwoLayers) -> None:
    sizes: list[int] = []

    class Watched(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            sizes.append(len(batch))
            return toy(batch)

    images = toy_images(count=21)
    together = input_gradient(Watched().eval(), images, torch.full((21,), 1))
    assert sizes == [21]
    sizes.clear()
    assert torch.equal(input_gradient(Watched().eval(), images, torch.full((21,), 1), chunk=16), together)
    assert sizes == [16, 5]
    alone = torch.cat([input_gradient(toy, image[None], torch.tensor([1])) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    sizes.clear()
    smooth_grad(Watched().eval(), images[:2], 1, samples=9, batch_size=4)
    assert sizes == [4, 4, 1] * 2


def test_options_are_checked_before_the_model_runs() -> None:
    def never(_batch: Tensor) -> Tensor:
        raise AssertionError("the model ran")

    model = nn.Module().eval()
    model.forward = never  # type: ignore[method-assign]
    images = toy_images()
    for options, message in (
        ({"samples": 0}, "samples must be an integer of at least 1, got 0"),
        ({"samples": 2.0}, "samples must be an integer of at least 1, got 2.0"),
        ({"batch_size": True}, "batch_size must be an integer of at least 1, got True"),
        ({"noise": 0.0}, "noise must be positive and finite, got 0.0"),
        ({"noise": float("nan")}, "noise must be positive and finite, got nan"),
        ({"seed": -1}, r"seed must be an integer from 0 to 2\*\*63 - 1, got -1"),
        ({"channels": "mean"}, "unknown reduction over channels 'mean'"),
    ):
        with pytest.raises(InputError, match=message):
            smooth_grad(model, images, 0, **options)  # type: ignore[arg-type]
    for baseline, message in (
        ("black", "baseline must be None, a finite number or a tensor, got 'black'"),
        (float("inf"), "baseline must be finite; got inf"),
        (torch.tensor(float("nan")), "baseline must be finite"),
        (torch.zeros(1, 4, 1, 1), r"shape \(1, 4, 1, 1\) does not fit images \(3, 3, 8, 10\)"),
    ):
        with pytest.raises(InputError, match=message):
            input_x_gradient(model, images, 0, baseline=baseline)  # type: ignore[arg-type]
