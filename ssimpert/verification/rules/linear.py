"""Linear: rows on the output become rows on the input by the weight matrix."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssimpert.verification.rules.base import AffineRule


@dataclass(frozen=True, eq=False)
class LinearRule(AffineRule):
    """``weight input + bias``.

    Attributes:
        weight: (F_out, F_in).
        bias: (F_out,) or ``None``.
    """

    weight: Tensor
    bias: Tensor | None

    @property
    def offset(self) -> Tensor | None:
        return None if self.bias is None else self.bias[None]

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0] @ self.weight.T

    def absolute(self, *inputs: Tensor) -> Tensor:
        return inputs[0] @ self.weight.abs().T

    def adjoint(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (rows @ self.weight,)
