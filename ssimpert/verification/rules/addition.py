"""The sum of two layers' outputs, as in residual networks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssimpert.verification.rules.base import AffineRule


@dataclass(frozen=True)
class AdditionRule(AffineRule):
    """``first + factor * second``.

    Attributes:
        factor: 1 for a sum, -1 for a difference.
    """

    factor: float = 1.0

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0] + self.factor * inputs[1]

    def absolute(self, *inputs: Tensor) -> Tensor:
        return inputs[0] + abs(self.factor) * inputs[1]

    def adjoint(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows, self.factor * rows
