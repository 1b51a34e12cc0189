"""Integrated gradients against sums of finite differences, exact cases and captum's axiom."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.integrated_gradients import integrated_gradients, path_attributions
from ssimpert.errors import InputError
from tests.ssimpert.analysis.naive import TwoLayers, finite_differences, toy_images


class Squares(nn.Module):
    """Logits w_k' x^2: the gradient is linear along the path, so a Gauss rule is exact and the answer is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.randn(4, 3 * 8 * 10, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).square() @ self.weights.t()


def test_equals_the_integral_in_closed_form() -> None:
    """int_0^1 2 w (b + t (x - b)) (x - b) dt = w (x^2 - b^2)."""
    model, images, targets = Squares(), toy_images(), torch.tensor([0, 3, 1])
    baseline = torch.rand(1, 3, 8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    found = path_attributions(model, images, targets, baseline=baseline, steps=5, batch_size=2)
    exact = model.weights[targets].view(3, 3, 8, 10) * (images.square() - baseline.square())
    torch.testing.assert_close(found.attributions, exact, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.logit_rise, exact.sum(dim=(1, 2, 3)), rtol=0, atol=1e-10)
    assert found.completeness_error.max() < 1e-10
    raw = integrated_gradients(model, images, targets, baseline=baseline, steps=5, normalize=False)
    torch.testing.assert_close(raw, exact.sum(dim=1).clamp(min=0), rtol=0, atol=1e-12)


def test_equals_a_gauss_legendre_sum_of_finite_differences() -> None:
    toy, images = TwoLayers(scale=1.0), toy_images(1)
    nodes, weights = np.polynomial.legendre.leggauss(4)
    expected = torch.zeros(3, 8, 10, dtype=torch.float64)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        expected += weight * finite_differences(lambda x: toy(x[None])[0, 2], node * images[0])
    found = path_attributions(toy, images, 2, steps=4)  # the baseline of a plain module is zero
    torch.testing.assert_close(found.attributions[0], expected * images[0], rtol=0, atol=1e-7)
    rise = float(toy(images)[0, 2] - toy(torch.zeros_like(images))[0, 2])
    error = abs(float(found.attributions.sum()) - rise)
    assert error > 1e-4  # four points do not suffice here, and that is told
    assert float(found.completeness_error) == pytest.approx(error, abs=1e-10)


def test_more_steps_are_more_complete() -> None:
    toy, images = TwoLayers(scale=1.0), toy_images()
    errors = [float(path_attributions(toy, images, 2, steps=steps).completeness_error.max()) for steps in (2, 200)]
    assert errors[1] < errors[0] / 10


def test_memory_is_bounded_by_the_batch_size() -> None:
    sizes: list[int] = []

    class Watched(Squares):
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(len(images))
            return super().forward(images)

    first = path_attributions(Watched(), toy_images(), 1, steps=10, batch_size=4).attributions
    assert max(sizes) == 4
    second = path_attributions(Watched(), toy_images(), 1, steps=10, batch_size=10).attributions
    torch.testing.assert_close(first, second, rtol=0, atol=1e-12)


def test_a_count_of_0_and_an_unknown_class_are_refused() -> None:
    for option in ("steps", "batch_size"):
        with pytest.raises(InputError, match=f"{option} must be an integer of at least 1, got 0"):
            integrated_gradients(Squares(), toy_images(), 0, **{option: 0})
    with pytest.raises(InputError, match="target class 4 does not exist; the model has classes 0 to 3"):
        integrated_gradients(Squares(), toy_images(), 4)
