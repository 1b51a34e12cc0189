"""Compiled conjugate gradients: against the same iteration with dense matrices, one plane and one vector at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from solvers import Window, WindowOperator
from solvers.methods.conjugate_gradients import inner_by_channel, maximise_quadratic
from solvers.windows.conjugate_gradients_numba import maximise_planes
from solvers.windows.quadratic import Bounds, WindowQuadratic

WINDOWS = [Window.uniform(7), Window.gaussian(1.5, 11, border="valid"), Window.uniform(5, stride=3)]


def dense(op: WindowOperator) -> np.ndarray:
    """M as a matrix, windows by pixels, from what it does to unit images."""
    units = torch.eye(op.height * op.width, dtype=torch.float64).reshape(-1, op.height, op.width)
    return (op.rows.double() @ units @ op.columns_t.double()).flatten(1).T.numpy()


def naive(
    hessian: np.ndarray, right: np.ndarray, start: np.ndarray, lower: np.ndarray, upper: np.ndarray, steps: int
) -> np.ndarray:
    """Preconditioned conjugate gradients (Hestenes and Stiefel, 1952) on the pixels that are free at the start."""
    residual = right - hessian @ start
    free = ~(((start <= lower) & (residual <= 0)) | ((start >= upper) & (residual >= 0)))
    part, residual = hessian[np.ix_(free, free)], residual[free]
    x, direction = np.zeros(free.sum()), residual / np.diag(part)
    energy = residual @ direction
    for _ in range(steps):
        length = energy / (direction @ part @ direction)
        x, residual = x + length * direction, residual - length * (part @ direction)
        following = residual @ (residual / np.diag(part))
        direction, energy = residual / np.diag(part) + following / energy * direction, following
    moved = start.copy()
    moved[free] += x
    return moved


def quadratic(window: Window, dtype: torch.dtype, planes: int = 3) -> tuple[WindowOperator, list[Tensor]]:
    """slope, weights, right, diagonal, start, lower, upper; some pixels held on each bound. See :func:`compiled`."""
    op = window.operator(19, 23, dtype=dtype, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    ball = torch.rand(planes, *op.shape, generator=generator, dtype=torch.float64)
    mean = torch.rand(planes, *op.shape, generator=generator, dtype=torch.float64)
    right, start = torch.randn(2, planes, 19, 23, generator=generator, dtype=torch.float64)
    lower, upper = torch.full_like(start, -0.4), torch.full_like(start, 0.4)
    slope = op.rows_t.double() @ ball @ op.columns.double() + 0.05
    weights = mean - ball
    diagonal = slope + op.rows_t.double().square() @ weights @ op.columns.double().square()
    values = slope, weights, right, diagonal, start.clamp(lower, upper), lower, upper
    return op, [value.to(dtype).contiguous() for value in values]


def compiled(op: WindowOperator, values: list[Tensor], steps: Tensor) -> Tensor:
    """The compiled iteration on the values of :func:`quadratic`."""
    return maximise_planes(op, WindowQuadratic(*values[:4]), values[4], Bounds(*values[5:]), steps=steps)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_each_plane_takes_its_own_number_of_steps(window: Window, dtype: torch.dtype) -> None:
    op, values = quadratic(window, dtype)
    slope, weights, right, _, start, lower, upper = (value.double().numpy() for value in values)
    steps = torch.tensor([0, 4, 9])
    moved = compiled(op, values, steps)
    matrix = dense(op)
    for plane, count in enumerate(steps.tolist()):
        hessian = np.diag(slope[plane].ravel()) + matrix.T @ (weights[plane].ravel()[:, None] * matrix)
        one = (value[plane].ravel() for value in (right, start, lower, upper))
        expected = naive(hessian, *one, count)
        tolerance = 1e-9 if dtype == torch.float64 else 2e-4
        np.testing.assert_allclose(moved[plane].double().numpy().ravel(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_the_compiled_iteration_is_that_of_torch(window: Window) -> None:
    op, values = quadratic(window, torch.float64)
    slope, weights, right, diagonal, start, lower, upper = values
    steps = torch.tensor([3, 7, 5])
    by_torch = maximise_quadratic(
        lambda image: slope[:, None] * image + op.adjoint(weights[:, None] * op.mean(image)),
        WindowQuadratic(slope[:, None], weights[:, None], right[:, None], diagonal[:, None]),
        start[:, None],
        Bounds(lower[:, None], upper[:, None]),
        inner_by_channel,
        steps,
        7,
    )
    torch.testing.assert_close(compiled(op, values, steps), by_torch[:, 0], rtol=1e-9, atol=1e-9)


def test_planes_do_not_depend_on_one_another_nor_on_threads() -> None:
    op, values = quadratic(WINDOWS[0], torch.float32)
    steps = torch.tensor([5, 5, 5])
    together = compiled(op, values, steps)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = [compiled(op, [v[k : k + 1] for v in values], steps[k : k + 1]) for k in range(3)]
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=0)


def test_what_is_no_plane_of_the_operator_is_refused() -> None:
    op, values = quadratic(WINDOWS[0], torch.float32)
    with pytest.raises(ValueError, match="contiguous"):
        compiled(op, [values[0].double(), *values[1:]], torch.tensor([1, 1, 1]))
