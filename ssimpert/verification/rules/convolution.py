"""Conv2d: rows on the output become rows on the input by the transposed convolution."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from ssimpert.verification.rules.base import AffineRule

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class ConvolutionRule(AffineRule):
    """``conv2d(input, weight) + bias``.

    Attributes:
        weight: (C_out, C_in/groups, k_h, k_w).
        bias: (C_out,) or ``None``.
        stride, padding, dilation, groups: as for ``torch.nn.Conv2d``; the padding is with zeros.
        input_size: height and width of the input, which the transposed convolution has to reach again.
    """

    weight: Tensor
    bias: Tensor | None
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    input_size: Pair

    @property
    def offset(self) -> Tensor | None:
        return None if self.bias is None else self.bias.view(1, -1, 1, 1)

    def linear(self, *inputs: Tensor) -> Tensor:
        return self._convolved(inputs[0], self.weight)

    def absolute(self, *inputs: Tensor) -> Tensor:
        return self._convolved(inputs[0], self.weight.abs())

    def adjoint(self, rows: Tensor) -> tuple[Tensor, ...]:
        # Pixels at the far edge that no step of the stride reaches get the coefficient 0.
        reached = [
            (rows.shape[2 + axis] - 1) * self.stride[axis]
            - 2 * self.padding[axis]
            + self.dilation[axis] * (self.weight.shape[2 + axis] - 1)
            + 1
            for axis in (0, 1)
        ]
        missing = (self.input_size[0] - reached[0], self.input_size[1] - reached[1])
        transposed = functional.conv_transpose2d(
            rows,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            output_padding=missing,
            groups=self.groups,
            dilation=self.dilation,
        )
        return (transposed,)

    def _convolved(self, value: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(
            value, weight, None, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )
