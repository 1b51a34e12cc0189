"""A scale and a shift for each number: batch normalisation in evaluation mode, and the normalisation of pixels.

In evaluation mode a batch norm with running mean m, running variance v, weight w and bias b is
``(z - m) w/sqrt(v + eps) + b``: one scale and one shift a channel. Folding the norm into the convolution before it
would give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssimpert.verification.rules.base import AffineRule


@dataclass(frozen=True, eq=False)
class ScaleAndShiftRule(AffineRule):
    """``scale * input + shift``.

    Attributes:
        scale, shift: broadcastable to the input (1, *shape).
    """

    scale: Tensor
    shift: Tensor

    @property
    def offset(self) -> Tensor | None:
        return self.shift

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * self.scale

    def absolute(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * self.scale.abs()

    def adjoint(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (rows * self.scale,)


def batch_norm_rule(
    mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, dimensions: int
) -> ScaleAndShiftRule:
    """The rule of a batch norm in evaluation mode.

    Args:
        mean, variance: the running statistics, (C,).
        weight, bias: the affine part, (C,); ``None`` for 1 and 0.
        eps: what is added to the variance.
        dimensions: the number of axes of the layer's input, batch and channels included.
    """
    scale = (variance + eps).rsqrt()
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    shape = (1, -1, *[1] * (dimensions - 2))
    return ScaleAndShiftRule(scale.view(shape), shift.view(shape))
