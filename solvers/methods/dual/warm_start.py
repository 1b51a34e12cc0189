"""Where ``dual`` begins: multipliers of a first guess, or those of an earlier result on a similar problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from solvers.batch_algebra import norm, per_image
from solvers.constraints.base import DualBlock
from solvers.constraints.dual_blocks import finite_images
from solvers.constraints.product_ssim import ProductSSIM
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.methods.dual.lagrangian import Lagrangian, Multipliers
from solvers.methods.monitor import Monitor
from solvers.problem import Problem
from solvers.result import SolveResult

# The share of the first guess that a warm start's multipliers have at least: a multiplicative update takes long to
# bring back what is nearly 0.
REVIVED_SHARE = 1e-2


def initial_multipliers(lagrangian: Lagrangian) -> Multipliers:
    """Those that each window alone would have if its part of the gradient were all there is."""
    op, windows, vector = lagrangian.operator, lagrangian.windows, lagrangian.problem.vector
    force = torch.where(op.covered, vector / op.coverage.clamp_min(1e-12), 0.0)
    windows.start(force)
    # A window cut to one pixel can have a radius of 0.
    radius = windows.radius.clamp_min(torch.finfo(force.dtype).tiny)
    ball, mean = op.variance(force).sqrt() / radius, op.mean(force).abs() / windows.half_width
    minimum = 1e-3 * per_image(ball.flatten(1).mean(dim=1)) + torch.finfo(ball.dtype).tiny
    size = norm(vector)[:, None]
    l2_balls = [size / bound.radius[:, None] for _, bound in lagrangian.l2_balls]
    empty = size.new_empty(len(size), 0)
    return Multipliers(ball + minimum, mean + minimum, 0.1 * torch.cat([empty, *l2_balls], dim=1))


def of_this_form(problem: Problem, warm_start: SolveResult) -> SolveResult:
    """The warm start without window duals of the other kind of windows, whose point means something else."""
    product = any(isinstance(constraint, ProductSSIM) for constraint in problem.constraints)
    foreign = [isinstance(block, WindowDual) and (block.reference is not None) != product for block in warm_start.dual]
    blocks = (None if other else block for other, block in zip(foreign, warm_start.dual, strict=True))
    return replace(warm_start, dual=tuple(blocks))


def certify_start(monitor: Monitor, warm_start: SolveResult, chunk: int) -> None:
    """Certify a warm start as it is, ``chunk`` images at a time: it may do already, and until the iteration passes it,
    it is the best there is."""
    delta = torch.as_tensor(warm_start.delta).to(monitor.delta)
    # Window vectors, of another method, are left out: with them the monitor would keep all duals in that form.
    usable = len(warm_start.dual) == len(monitor.dual) and all(
        block is None or isinstance(block, WindowDual) for block in warm_start.dual
    )
    dual = warm_start.dual if usable else [None] * len(monitor.dual)
    if bool(delta.isfinite().all()) and all(block is None or bool(finite_images(block).all()) for block in dual):
        monitor.check(0, delta, dual, chunk=chunk)


def resumed(
    lagrangian: Lagrangian, first_guess: Multipliers, warm_start: SolveResult, images: Tensor, scale: Tensor
) -> tuple[Multipliers, Tensor] | None:
    """The multipliers and the point that an earlier result amounts to; ``None`` where it is of no use.

    Args:
        lagrangian: of the images, their objective divided by ``scale``.
        first_guess: their :func:`initial_multipliers`, which stand where a block is missing.
        warm_start: the earlier result, of all images.
        images: (K,), long, the images of ``lagrangian`` among them.
        scale: (K,).
    """
    if len(warm_start.dual) != len(lagrangian.sets):
        return None
    delta = torch.as_tensor(warm_start.delta).to(lagrangian.problem.reference)[images]
    if not bool(delta.isfinite().all()):
        return None
    blocks = [block if block is None else block[images] for block in warm_start.dual]
    return _from_blocks(lagrangian, first_guess, blocks, delta, scale)


def _from_blocks(
    lagrangian: Lagrangian,
    first_guess: Multipliers,
    dual: Sequence[DualBlock | None],
    delta: Tensor,
    scale: Tensor,
) -> tuple[Multipliers, Tensor]:
    """The multipliers of dual blocks, and the point to go on from; the first guess where a block is missing."""
    multipliers, factor = replace(first_guess, l2_balls=first_guess.l2_balls.clone()), per_image(1 / scale)
    windows, op = lagrangian.windows, lagrangian.operator
    block = dual[lagrangian.position]
    if isinstance(block, WindowDual):
        block = block.to(dtype=delta.dtype, device=delta.device)
        delta, size, mean = windows.resume(block), block.ball.abs(), block.mean
        multipliers.ball = _revived(size * factor, multipliers.ball)
    elif block is not None:
        vectors = torch.as_tensor(block).to(delta)
        mean = (vectors * op.root_weights).sum(dim=-1)
        size = (vectors.square().sum(dim=-1) - mean.square()).clamp_min(0).sqrt()
        tiny = torch.finfo(size.dtype).tiny
        multipliers.ball = _revived(factor * size / windows.radius.clamp_min(tiny), multipliers.ball)
    if block is not None:
        half_width = windows.half_width
        shift = (op.mean(delta) - windows.middle).abs()
        # An active interval's shift is its half width; where it is not, the multiplier is small anyway.
        multipliers.mean = _revived(factor * mean.abs() / torch.maximum(shift, 0.1 * half_width), multipliers.mean)
    for k, (position, bound) in enumerate(lagrangian.l2_balls):
        given = dual[position]
        if given is not None:
            size = norm(torch.as_tensor(given).to(delta)) / scale
            multipliers.l2_balls[:, k] = _revived(size / bound.radius, multipliers.l2_balls[:, k])
    return multipliers, delta


def _revived(values: Tensor, first_guess: Tensor) -> Tensor:
    """``values``, but at least REVIVED_SHARE of ``first_guess``; the first guess itself for images whose values are not
    finite or all 0."""
    mean = values.flatten(1).mean(dim=1) if values.ndim > 1 else values
    usable = (mean.isfinite() & (mean > 0)).reshape(-1, *[1] * (values.ndim - 1))
    return torch.where(usable, torch.maximum(values, REVIVED_SHARE * first_guess), first_guess)
