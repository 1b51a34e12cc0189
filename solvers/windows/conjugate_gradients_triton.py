"""Conjugate gradients for the quadratics that windows make, compiled by Triton for a GPU.

The iteration is that of :func:`solvers.methods.conjugate_gradients.maximise_quadratic`, for
``H = diag(slope) + M' diag(weights) M``. A step is one normal product and two passes over the planes. The kernels
themselves sum what a plane's step length and direction need, in a fixed order, so that nothing waits for the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from solvers.windows.covariance_triton import covariance_planes
from solvers.windows.kernels_triton import WARPS, adjoint_planes, mean_planes, normal_planes
from solvers.windows.separable_plan import check_planes

if TYPE_CHECKING:
    from solvers.windows.lattice import Lattice
    from solvers.windows.quadratic import Bounds, WindowQuadratic

__all__ = ["adjoint_planes", "covariance_planes", "maximise_planes", "mean_planes", "normal_planes"]

PIXELS_PER_PROGRAM = 2048


def maximise_planes(
    lattice: Lattice, quadratic: WindowQuadratic, start: Tensor, bounds: Bounds, *, steps: Tensor, max_steps: int
) -> Tensor:
    """Move ``start`` towards the quadratic's maximum within the bounds, plane by plane: (N, H, W).

    See :func:`~solvers.methods.conjugate_gradients.maximise_quadratic`. All tensors are contiguous, of the lattice's
    dtype and on its device.

    Args:
        lattice: the windows.
        quadratic: images (N, H, W) and weights (N, P_h, P_w).
        start: (N, H, W), within ``bounds``.
        bounds: (N, H, W) each.
        steps: long (N,), the number of steps of each plane.
        max_steps: the largest of ``steps``, as a Python number: asking the GPU for it would wait.
    """
    slope, weights, right, diagonal = quadratic.parts()
    lower, upper = bounds.lower, bounds.upper
    delta, residual, inverse, direction = (torch.empty_like(start) for _ in range(4))
    check_planes(lattice, pixels=(slope, right, diagonal, start, lower, upper, delta), windows=(weights,))
    planes, pixels = start.shape[0], lattice.height * lattice.width
    chunks = -(-pixels // PIXELS_PER_PROGRAM)
    grid, tiny = (planes, chunks), torch.finfo(start.dtype).tiny
    energy, following = (torch.empty(planes, chunks, dtype=torch.float64, device=start.device) for _ in range(2))
    image, dots = normal_planes(start, slope, weights, lattice)
    room = triton.next_power_of_2(chunks), triton.next_power_of_2(dots.shape[1])
    with torch.cuda.device_of(start):
        _begin[grid](
            right, image, start, lower, upper, diagonal, delta, residual, inverse, direction, energy, pixels,
            PIXELS_PER_PROGRAM, num_warps=WARPS,
        )  # fmt: skip
        for step in range(max_steps):
            image, dots = normal_planes(direction, slope, weights, lattice, out=image)
            _move[grid](
                direction, image, inverse, delta, residual, energy, dots, following, steps, step, pixels,
                dots.shape[1], *room, PIXELS_PER_PROGRAM, tiny, num_warps=WARPS,
            )  # fmt: skip
            if step < max_steps - 1:
                _turn[grid](
                    residual, inverse, direction, energy, following, pixels, room[0], PIXELS_PER_PROGRAM, tiny,
                    num_warps=WARPS,
                )  # fmt: skip
            energy, following = following, energy
    return delta


@triton.jit
def _begin(  # type: ignore[no-untyped-def]
    right, image, start, lower, upper, diagonal, delta, residual, inverse, direction, energy, pixels,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient at the start, which pixels stay at a bound, the first direction and its parts of the energy."""
    plane, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    index = chunk * BLOCK + tl.arange(0, BLOCK)
    inside, at = index < pixels, plane * pixels + index
    point = tl.load(start + at, inside, 0.0)
    gradient = tl.load(right + at, inside, 0.0) - tl.load(image + at, inside, 0.0)
    below, above = point <= tl.load(lower + at, inside, 0.0), point >= tl.load(upper + at, inside, 0.0)
    held = (below & (gradient <= 0)) | (above & (gradient >= 0))
    factor = tl.where(held, 0.0, 1.0 / tl.load(diagonal + at, inside, 1.0))
    scaled = gradient * factor
    tl.store(delta + at, point, inside)
    tl.store(residual + at, gradient, inside)
    tl.store(inverse + at, factor, inside)
    tl.store(direction + at, scaled, inside)
    part = tl.sum(tl.where(inside, gradient * scaled, 0.0), axis=0)
    tl.store(energy + plane * tl.num_programs(1) + chunk, part.to(tl.float64))


@triton.jit
def _whole(parts, plane, count, ROOM: tl.constexpr):  # type: ignore[no-untyped-def]
    """The sum of a plane's parts."""
    index = tl.arange(0, ROOM)
    return tl.sum(tl.load(parts + plane * count + index, index < count, 0.0), axis=0)


@triton.jit(do_not_specialize=["step"])
def _move(  # type: ignore[no-untyped-def]
    direction, image, inverse, delta, residual, energy, dots, following, steps, step, pixels, tiles,
    CHUNKS: tl.constexpr, TILES: tl.constexpr, BLOCK: tl.constexpr, TINY: tl.constexpr,
):  # fmt: skip
    """The step along the direction (length 0 once a plane has made its steps), and parts of the next energy."""
    plane, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    chunks = tl.num_programs(1)
    length = _whole(energy, plane, chunks, CHUNKS) / tl.maximum(_whole(dots, plane, tiles, TILES), TINY)
    length = tl.where(tl.load(steps + plane) > step, length, 0.0).to(direction.dtype.element_ty)
    index = chunk * BLOCK + tl.arange(0, BLOCK)
    inside, at = index < pixels, plane * pixels + index
    moved = tl.load(delta + at, inside, 0.0) + length * tl.load(direction + at, inside, 0.0)
    left = tl.load(residual + at, inside, 0.0) - length * tl.load(image + at, inside, 0.0)
    tl.store(delta + at, moved, inside)
    tl.store(residual + at, left, inside)
    part = tl.sum(left * left * tl.load(inverse + at, inside, 0.0), axis=0)
    tl.store(following + plane * chunks + chunk, part.to(tl.float64))


@triton.jit
def _turn(  # type: ignore[no-untyped-def]
    residual, inverse, direction, energy, following, pixels,
    CHUNKS: tl.constexpr, BLOCK: tl.constexpr, TINY: tl.constexpr,
):  # fmt: skip
    """The next direction."""
    plane, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    chunks = tl.num_programs(1)
    ratio = _whole(following, plane, chunks, CHUNKS) / tl.maximum(_whole(energy, plane, chunks, CHUNKS), TINY)
    ratio = ratio.to(direction.dtype.element_ty)
    index = chunk * BLOCK + tl.arange(0, BLOCK)
    inside, at = index < pixels, plane * pixels + index
    scaled = tl.load(residual + at, inside, 0.0) * tl.load(inverse + at, inside, 0.0)
    tl.store(direction + at, scaled + ratio * tl.load(direction + at, inside, 0.0), inside)
