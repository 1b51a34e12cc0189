"""``tiles``: the exact solver for SSIM windows that do not overlap (design section 6)."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from solvers.constraints.window_ssim import BoundWindowSSIM, WindowDual, WindowSSIM
from solvers.methods.windows_apart import Groups, solve_groups
from solvers.problem import LinearProblem, Problem, ProjectionProblem, elementwise_bounds
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult, Status
from solvers.settings import Settings


def _single_tiling(problem: Problem) -> str | None:
    if len(problem.find(WindowSSIM)) != 1:
        return f"takes one WindowSSIM, got {len(problem.find(WindowSSIM))}"
    return None


@register_method(
    "tiles",
    problems=(LinearProblem, ProjectionProblem),
    required={"WindowSSIM"},
    optional={"Box", "Support"},
    windows="tiles",
    exact=True,
    accepts=_single_tiling,
)
def tiles(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Exact, windows that don't overlap: closed form, or a root search where the box is active; all tiles at once."""
    started = time.perf_counter()
    exact = problem.to(dtype=torch.float64)
    position = exact.find(WindowSSIM)[0]
    sets = [constraint.bind(exact.reference) for constraint in exact.constraints]
    bound = sets[position]
    assert isinstance(bound, BoundWindowSSIM)
    lower, upper = elementwise_bounds(exact, sets)
    linear = isinstance(exact, LinearProblem)
    setup_time = time.perf_counter() - started
    solution = solve_groups(_groups(bound, exact.vector, lower, upper, linear=linear), linear=linear)
    delta = from_tiles(bound, solution.delta)
    # Pixels in no window (border "valid" cuts no tiles) are fixed by the bounds.
    lattice = bound.radius.shape
    block = WindowDual(
        ball=solution.ball.reshape(lattice),
        point=delta - bound.ball_center * bound.reference,
        mean=solution.mean.reshape(lattice),
    )
    return MethodOutput(
        delta=delta,
        dual=tuple(block if k == position else None for k in range(len(sets))),
        status=(Status.OPTIMAL,) * problem.batch,
        iterations=(1,) * problem.batch,
        setup_time=setup_time,
    )


def _groups(bound: BoundWindowSSIM, vector: Tensor, lower: Tensor, upper: Tensor, *, linear: bool) -> Groups:
    """One group a tile, (B*C*P_h*P_w, size^2); pixels outside the image have weight 0 and bounds 0."""
    op, lattice = bound.operator, bound.radius.shape
    roots = op.root_weights.reshape(-1, op.window.size**2)
    weights = roots.square().repeat(lattice[0] * lattice[1], 1)
    target = to_tiles(bound, vector)
    if linear:
        target = torch.where(weights > 0, target / weights.clamp_min(1e-300), 0.0)
    return Groups(
        target=target,
        weights=weights,
        center=bound.ball_center * to_tiles(bound, bound.reference),
        radius=bound.radius.reshape(-1),
        mean_lower=bound.mean_lower.reshape(-1),
        mean_upper=bound.mean_upper.reshape(-1),
        lower=to_tiles(bound, lower),
        upper=to_tiles(bound, upper),
    )


def to_tiles(bound: BoundWindowSSIM, image: Tensor) -> Tensor:
    """(B, C, H, W) cut into (B*C*P_h*P_w, size^2), zero outside the image."""
    op = bound.operator
    size, (rows, columns) = op.window.size, op.shape
    batch, channels = image.shape[:2]
    padding = (0, max(columns * size - op.width, 0), 0, max(rows * size - op.height, 0))
    padded = torch.nn.functional.pad(image, padding)[..., : rows * size, : columns * size]
    cut = padded.reshape(batch, channels, rows, size, columns, size).transpose(3, 4)
    return cut.reshape(-1, size * size)


def from_tiles(bound: BoundWindowSSIM, tiles: Tensor) -> Tensor:
    """The inverse of :func:`to_tiles`; pixels in no tile are 0."""
    op = bound.operator
    size, (rows, columns) = op.window.size, op.shape
    batch, channels = bound.radius.shape[:2]
    whole = tiles.reshape(batch, channels, rows, columns, size, size).transpose(3, 4)
    whole = whole.reshape(batch, channels, rows * size, columns * size)[..., : op.height, : op.width]
    padding = (0, op.width - whole.shape[-1], 0, op.height - whole.shape[-2])
    return torch.nn.functional.pad(whole, padding)
