"""Average pooling, adaptive average pooling, and means over the image's axes: one matrix a side.

An output pixel is a weighted sum over a rectangle of input pixels, and the weights are a product of one weight a row
and one weight a column. So pooling is ``R input C'`` with a matrix R for the rows and a matrix C for the columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ssimpert.verification.rules.base import AffineRule


@dataclass(frozen=True, eq=False)
class AveragePoolingRule(AffineRule):
    """``rows input columns'``, channel by channel.

    Attributes:
        rows: (H_out, H_in), weights of at least 0.
        columns: (W_out, W_in), weights of at least 0.
    """

    rows: Tensor
    columns: Tensor

    def linear(self, *inputs: Tensor) -> Tensor:
        return self.rows @ inputs[0] @ self.columns.T

    def absolute(self, *inputs: Tensor) -> Tensor:
        return self.linear(*inputs)

    def adjoint(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (self.rows.T @ rows @ self.columns,)


def pooling_matrix(size: int, outputs: int, kernel: int, stride: int, padding: int, *, count_padding: bool) -> Tensor:
    """The matrix of one side of an average pooling, (outputs, size), float64.

    Args:
        size: pixels of this side.
        outputs: output pixels of this side.
        kernel, stride, padding: as for ``torch.nn.AvgPool2d``.
        count_padding: whether the padding counts in the mean (``count_include_pad``).
    """
    matrix = torch.zeros(outputs, size, dtype=torch.float64)
    for output in range(outputs):
        first = output * stride - padding
        last = min(first + kernel, size + padding)
        start, stop = max(first, 0), min(last, size)
        matrix[output, start:stop] = 1 / (last - first if count_padding else stop - start)
    return matrix


def adaptive_matrix(size: int, outputs: int) -> Tensor:
    """The matrix of one side of an adaptive average pooling, (outputs, size), float64."""
    matrix = torch.zeros(outputs, size, dtype=torch.float64)
    for output in range(outputs):
        start, stop = output * size // outputs, math.ceil((output + 1) * size / outputs)
        matrix[output, start:stop] = 1 / (stop - start)
    return matrix
