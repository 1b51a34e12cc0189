"""Gradients of any size: a problem is solved and certified as one whose gradient is neither huge nor tiny.

A linear problem with the gradient ``2^k g`` has the points of the problem with g, and ``2^k`` times its objectives,
bounds and duals. Multiplying by a power of two is exact. So a gradient whose squares would overflow, or vanish, is
scaled before the work, and the results are scaled back. Gradients of ordinary size are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from solvers.constraints.base import DualBlock
from solvers.constraints.dual_blocks import map_dual_block
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.problem import LinearProblem, Problem
from solvers.rounding import times_power_of_two

# Gradients whose largest size lies between 2^-k and 2^k stay as they are: their squares are ordinary numbers.
ORDINARY_EXPONENT = {torch.float32: 40, torch.float64: 300}

SomeProblem = TypeVar("SomeProblem", bound=Problem)


def scaled_problem(problem: SomeProblem) -> tuple[SomeProblem, Tensor]:
    """The problem with ordinary gradients, and the exponent k of each image, (B,) long: g was multiplied by ``2^-k``.

    k is 0 for projections and for ordinary gradients; where every k is 0, the problem itself is returned.
    """
    exponent = torch.zeros(problem.batch, dtype=torch.long, device=problem.reference.device)
    if not isinstance(problem, LinearProblem):
        return problem, exponent
    largest = problem.gradient.abs().flatten(1).amax(dim=1)
    size = torch.frexp(largest).exponent.long()
    is_extreme = (size.abs() > ORDINARY_EXPONENT[problem.reference.dtype]) & (largest > 0) & largest.isfinite()
    if not bool(is_extreme.any()):
        return problem, exponent
    exponent = torch.where(is_extreme, size, 0)
    return problem.with_vector(_times(problem.gradient, -exponent)), exponent


def scaled_dual(blocks: Sequence[DualBlock | None], exponent: Tensor) -> list[DualBlock | None]:
    """The dual blocks times ``2^-k``, image by image. Any dual is valid, so a rounded one is too."""
    if not bool(exponent.any()):
        return list(blocks)

    def scale(block: DualBlock | None) -> DualBlock | None:
        if isinstance(block, WindowDual):  # its vectors are factors times an image, and the factors are scaled
            reference = None if block.reference is None else _times(block.reference, -exponent)
            ball, mean = _times(block.ball, -exponent), _times(block.mean, -exponent)
            return replace(block, ball=ball, mean=mean, reference=reference)
        return block if block is None else map_dual_block(lambda part: _times(part, -exponent), block)

    return [scale(block) for block in blocks]


def _times(value: Tensor, exponent: Tensor) -> Tensor:
    return times_power_of_two(value, exponent.reshape(-1, *[1] * (value.ndim - 1)))
