"""Flatten, view and reshape: the same numbers in another shape."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssimpert.verification.rules.base import AffineRule


@dataclass(frozen=True)
class ReshapingRule(AffineRule):
    """The input in another shape.

    Attributes:
        input_shape, output_shape: without the batch.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0].reshape(-1, *self.output_shape)

    def absolute(self, *inputs: Tensor) -> Tensor:
        return self.linear(*inputs)

    def adjoint(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (rows.reshape(-1, *self.input_shape),)
