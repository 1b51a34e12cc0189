"""Conjugate gradients for the quadratics that windows make, compiled by numba for the CPU.

The iteration is that of :func:`solvers.methods.conjugate_gradients.maximise_quadratic`, for
``H = diag(slope) + M' diag(weights) M``, which couples no two planes. In torch every vector operation is a separate
call over all planes: small images spend their time in the calls, and large ones in moving memory. Here one plane goes
through all its steps while it lies in the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from solvers.backends.numba_jit import compiled, run_rows
from solvers.windows.covariance_numba import covariance_planes
from solvers.windows.kernels_numba import _back_through, adjoint_planes, mean_planes, normal_planes
from solvers.windows.separable_plan import check_planes, plan_of

if TYPE_CHECKING:
    from solvers.windows.lattice import Lattice
    from solvers.windows.quadratic import Bounds, WindowQuadratic

__all__ = ["adjoint_planes", "covariance_planes", "maximise_planes", "mean_planes", "normal_planes"]


def maximise_planes(
    lattice: Lattice,
    quadratic: WindowQuadratic,
    start: Tensor,
    bounds: Bounds,
    *,
    steps: Tensor,
    max_steps: int | None = None,
) -> Tensor:
    """Move ``start`` towards the quadratic's maximum within the bounds, plane by plane: (N, H, W).

    See :func:`~solvers.methods.conjugate_gradients.maximise_quadratic`. All tensors are contiguous, of the lattice's
    dtype and on the CPU.

    Args:
        lattice: the windows.
        quadratic: images (N, H, W) and weights (N, P_h, P_w).
        start: (N, H, W), within ``bounds``.
        bounds: (N, H, W) each.
        steps: long (N,), the number of steps of each plane.
        max_steps: the largest of ``steps``; default: computed. It decides the number of threads only.
    """
    out = torch.empty_like(start)
    images = quadratic.slope, quadratic.right, quadratic.diagonal, start, bounds.lower, bounds.upper
    check_planes(lattice, pixels=(*images, out), windows=(quadratic.weights,))
    values = *quadratic.parts(), start, bounds.lower, bounds.upper
    arguments = *(value.numpy() for value in values), *plan_of(lattice), steps.numpy(), out.numpy()
    products = 1 + (int(steps.max()) if max_steps is None else max_steps)
    run_rows(_maximise, arguments, start.shape[0], start.numel() * 4 * lattice.window.size * products)
    return out


@compiled
def _maximise(slope, weights, right, diagonal, start, lower, upper, down, up, columns, steps, out, low, high):  # type: ignore[no-untyped-def]
    """Planes ``low`` to ``high``."""
    _, height, width = start.shape
    n = np.uint64(height * width)
    tiny = np.finfo(start.dtype).tiny
    image, direction = np.empty((1, height, width), start.dtype), np.empty((1, height, width), start.dtype)
    residual, inverse = np.empty(n, start.dtype), np.empty(n, start.dtype)
    dots = np.empty((1, height), np.float64)
    along, towards = image.reshape(-1), direction.reshape(-1)
    for plane in range(low, high):
        here = slice(plane, plane + 1)
        flat_slope, flat_weights = slope[here], weights[here]
        first, bottom, top = start[plane].reshape(-1), lower[plane].reshape(-1), upper[plane].reshape(-1)
        asked, curvature, delta = right[plane].reshape(-1), diagonal[plane].reshape(-1), out[plane].reshape(-1)
        _back_through(True, start[here], flat_slope, flat_weights, down, up, columns, image, dots, 0, height)
        energy = 0.0
        for j in range(n):
            gradient = asked[j] - along[j]
            held = (first[j] <= bottom[j] and gradient <= 0) or (first[j] >= top[j] and gradient >= 0)
            inverse[j] = 0 if held else 1 / curvature[j]
            residual[j], delta[j] = gradient, first[j]
            towards[j] = gradient * inverse[j]
            energy += gradient * towards[j]
        for _ in range(steps[plane]):
            _back_through(True, direction, flat_slope, flat_weights, down, up, columns, image, dots, 0, height)
            length = start.dtype.type(energy / max(dots.sum(), tiny))
            following = 0.0
            for j in range(n):
                delta[j] += length * towards[j]
                residual[j] -= length * along[j]
                following += residual[j] * residual[j] * inverse[j]
            ratio = start.dtype.type(following / max(energy, tiny))
            for j in range(n):
                towards[j] = residual[j] * inverse[j] + ratio * towards[j]
            energy = following
