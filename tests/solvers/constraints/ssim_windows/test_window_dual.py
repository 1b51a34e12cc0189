"""Powers of two that bring numbers to ordinary size, whatever size they have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from solvers.constraints.ssim_windows.window_dual import exponents, to_ordinary_size

Draw = Callable[..., Tensor]


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1.0, 1e300])
def test_every_channel_is_brought_to_ordinary_size_exactly(scale: float, normal: Draw) -> None:
    image = scale * normal(2, 3, 4, 5)
    image[0, 1] *= 1e-5
    image[1, 2] = 0
    scaled, exponent = to_ordinary_size(image)
    largest = scaled.abs().amax(dim=(-2, -1))
    is_zero = torch.zeros(2, 3, dtype=torch.bool)
    is_zero[1, 2] = True
    assert bool(((largest >= 0.5) & (largest < 1))[~is_zero].all())
    assert float(largest[is_zero]) == 0
    assert torch.equal(torch.ldexp(scaled, exponent), image)


def test_what_is_not_finite_stays_as_it_is() -> None:
    values = torch.tensor([[1e-200, torch.inf], [0.0, 0.0], [3.0, -5.0]], dtype=torch.float64)
    assert exponents(values, dim=1).tolist() == [0, 0, 3]
