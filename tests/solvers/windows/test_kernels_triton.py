"""Window products and conjugate gradients by Triton: against dense matrices, and against numba's.

The kernels run on a GPU where there is one, and elsewhere on the CPU in Triton's interpreter (`tests/conftest.py`).
The interpreter takes about a tenth of a second for a pass, so the images are small.
"""

from __future__ import annotations

import pytest
import torch

from solvers import Window
from solvers.windows.conjugate_gradients_numba import maximise_planes
from solvers.windows.quadratic import Bounds, WindowQuadratic

pytest.importorskip("triton", reason="Triton is not installed")

from solvers.windows import conjugate_gradients_triton, kernels_triton

CPU = torch.device("cpu")
DEVICE = torch.device("cuda") if torch.cuda.is_available() else CPU
WINDOWS = [Window.uniform(3), Window.uniform(4, stride=3), Window.gaussian(1.0, 5, stride=2, border="valid")]

every_window = pytest.mark.parametrize("window", WINDOWS, ids=["dense", "strided", "gaussian"])


@every_window
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_products_equal_dense_ones(window: Window, dtype: torch.dtype) -> None:
    op = window.operator(13, 18, dtype=dtype, device=DEVICE)
    generator = torch.Generator().manual_seed(0)
    v, s = torch.randn(2, 1, 13, 18, generator=generator, dtype=torch.float64).to(DEVICE, dtype)
    t = torch.randn(1, *op.shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype)
    close = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 1e-5}
    torch.testing.assert_close(kernels_triton.mean_planes(v, op), op.rows @ v @ op.columns_t, **close)
    torch.testing.assert_close(kernels_triton.adjoint_planes(t, op), op.rows_t @ t @ op.columns, **close)
    squared = op.rows_t.square() @ t @ op.columns.square()
    torch.testing.assert_close(kernels_triton.adjoint_planes(t, op, squared=True), squared, **close)
    normal, dots = kernels_triton.normal_planes(v, s, t, op)
    expected = s * v + op.rows_t @ (t * (op.rows @ v @ op.columns_t)) @ op.columns
    torch.testing.assert_close(normal, expected, **close)
    torch.testing.assert_close(dots.sum(dim=1), (expected * v).double().sum(dim=(1, 2)), rtol=0, atol=1e-3)


def test_conjugate_gradients_make_the_steps_of_numbas() -> None:
    window = Window.uniform(3, stride=2)
    here = window.operator(7, 9, dtype=torch.float64, device=CPU)
    there = window.operator(7, 9, dtype=torch.float64, device=DEVICE)
    generator = torch.Generator().manual_seed(0)
    slope, right = torch.rand(2, 2, 7, 9, generator=generator, dtype=torch.float64)
    weights = torch.rand(2, *here.shape, generator=generator, dtype=torch.float64)
    quadratic = WindowQuadratic(slope + 0.1, weights, right - 0.5, slope + 0.1 + here.squared_adjoint(weights))
    bounds = Bounds(torch.full_like(slope, -0.2), torch.full_like(slope, 0.2))
    start, steps = (right - 0.5).clamp(-0.2, 0.2), torch.tensor([2, 1])
    expected = maximise_planes(here, quadratic, start, bounds, steps=steps)
    made = conjugate_gradients_triton.maximise_planes(
        there,
        quadratic.map(lambda part: part.to(DEVICE)),
        start.to(DEVICE),
        bounds.map(lambda part: part.to(DEVICE)),
        steps=steps.to(DEVICE),
        max_steps=2,
    )
    torch.testing.assert_close(made.cpu(), expected, rtol=0, atol=1e-12)
