"""Several layers' outputs behind one another along one axis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssimpert.verification.rules.base import AffineRule


@dataclass(frozen=True)
class ConcatenationRule(AffineRule):
    """``cat(inputs, axis)``.

    Attributes:
        axis: 1 or more; the batch is axis 0.
        lengths: of the inputs along the axis.
    """

    axis: int
    lengths: tuple[int, ...]

    def linear(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=self.axis)

    def absolute(self, *inputs: Tensor) -> Tensor:
        return self.linear(*inputs)

    def adjoint(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows.split(self.lengths, dim=self.axis)
