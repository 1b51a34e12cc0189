"""The compiled window products equal the products with dense matrices."""

from __future__ import annotations

import itertools

import pytest
import torch

from solvers import Window, windows

CASES = [
    Window(size, stride, border, sigma)
    for (size, stride), border, sigma in itertools.product(
        [(2, 1), (7, 1), (7, 4), (8, 8), (11, 1), (11, 3)], ["full", "valid"], [None, 1.5]
    )
]


@pytest.mark.parametrize("window", CASES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_products_equal_those_with_dense_matrices(
    window: Window, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    height, width = 23, 31
    op = window.operator(height, width, dtype=dtype, device=torch.device("cpu"))
    image = torch.randn(2, 3, height, width, generator=generator, dtype=dtype)
    slope = torch.rand(2, 3, height, width, generator=generator, dtype=dtype)
    values = torch.randn(2, 3, *op.shape, generator=generator, dtype=dtype)
    calls = [
        lambda: op.mean(image),
        lambda: op.mean(image.transpose(0, 1)),  # not contiguous
        lambda: op.adjoint(values),
        lambda: op.normal(image, slope, values),
        lambda: op.mean(image[0, 0]),
    ]
    dense = [call() for call in calls]
    monkeypatch.setattr(windows, "SMALLEST_COMPILED", 0)
    for call, expected in zip(calls, dense, strict=True):
        torch.testing.assert_close(call(), expected, rtol=0, atol=tolerance)


def test_gradients_flow_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "SMALLEST_COMPILED", 0)
    image = torch.rand(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    op = Window.uniform(7).operator_for(image)
    op.mean(image).square().sum().backward()
    torch.testing.assert_close(image.grad, 2 * op.adjoint(op.mean(image.detach())))


def test_the_squared_adjoint_is_the_diagonal_of_the_normal_product() -> None:
    op = Window.gaussian(1.0, 5).operator(9, 8, dtype=torch.float64, device=torch.device("cpu"))
    weights = torch.rand(op.shape, dtype=torch.float64)
    units = torch.eye(72, dtype=torch.float64).reshape(72, 9, 8)
    products = op.normal(units, torch.zeros_like(units), weights.expand(72, *op.shape))
    torch.testing.assert_close(op.squared_adjoint(weights).flatten(), torch.diagonal(products.reshape(72, 72)))
