"""Max pooling: of each window's pixels one bounds the maximum from below, and one from above.

Let ``l_i <= z_i <= u_i`` in a window.

- From below: ``max_i z_i >= z_k`` for any k; k is the pixel with the largest lower bound.
- From above: let j be the pixel with the largest upper bound and ``v = max_{i != j} u_i``. Then ``max_i z_i <=
  max(z_j, v)``, which is convex in z_j. So it lies below the chord over ``[l_j, u_j]``, a line through ``(u_j, u_j)``
  with the slope ``(u_j - v)/(u_j - l_j)``. If ``l_j >= v`` the slope is 1 and the maximum is z_j itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ssimpert.verification.rules.base import Interval, NonlinearRule, Pulled, Relaxation, Shares

Pair = tuple[int, int]


@dataclass(frozen=True)
class MaxPoolingRule(NonlinearRule):
    """``max_pool2d``.

    Attributes:
        kernel, stride, padding, dilation: as for ``torch.nn.MaxPool2d``.
        ceil_mode: as there.
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    ceil_mode: bool = False

    def value(self, *inputs: Tensor) -> Tensor:
        return functional.max_pool2d(
            inputs[0], self.kernel, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode
        )

    def loose(self, bounds: Interval) -> Tensor:
        """The pixels that may be the maximum of a window in which another may be the maximum too."""
        windows = self._windows(bounds.lower)
        lower, upper = _gathered(bounds.lower, windows, -torch.inf), _gathered(bounds.upper, windows, -torch.inf)
        candidate = upper > lower.amax(dim=-1, keepdim=True)
        candidate &= candidate.sum(dim=-1, keepdim=True) > 1
        batch, channels, height, width = bounds.lower.shape
        loose = bounds.lower.new_zeros(batch, channels, height * width + 1)
        index = windows.flatten().expand(batch, channels, -1)
        loose.scatter_reduce_(2, index, candidate.flatten(2).to(loose), "amax")
        return loose[..., :-1].view(batch, channels, height, width) > 0

    def relaxation(self, bounds: Interval, shares: Shares | None = None) -> ChosenPixels:
        windows = self._windows(bounds.lower)
        lower, upper = _gathered(bounds.lower, windows, -torch.inf), _gathered(bounds.upper, windows, -torch.inf)
        below = lower.argmax(dim=-1, keepdim=True)
        largest, above = upper.max(dim=-1, keepdim=True)
        others = upper.scatter(-1, above, -torch.inf).amax(dim=-1, keepdim=True)
        low = lower.gather(-1, above)
        # A window of one pixel has no others, and the maximum is that pixel.
        others = torch.maximum(others, low)
        width = largest - low
        slope = torch.where(width > 0, (largest - others) / torch.where(width > 0, width, 1.0), 1.0)
        pixels = windows.expand(*lower.shape)
        return ChosenPixels(
            below=pixels.gather(-1, below)[..., 0],
            above=pixels.gather(-1, above)[..., 0],
            slope=slope[..., 0],
            offset=(largest * (1 - slope))[..., 0],
            input_size=(bounds.lower.shape[-2], bounds.lower.shape[-1]),
        )

    def _windows(self, value: Tensor) -> Tensor:
        """The pixels of every window, (H_out, W_out, size), numbered from 0; a pixel of the padding has the number
        H_in W_in."""
        height, width = value.shape[-2:]
        axes = []
        for axis, size in enumerate((height, width)):
            span = self.dilation[axis] * (self.kernel[axis] - 1) + 1
            outputs = _outputs(size, span, self.stride[axis], self.padding[axis], ceil_mode=self.ceil_mode)
            starts = torch.arange(outputs) * self.stride[axis] - self.padding[axis]
            axes.append(starts[:, None] + torch.arange(self.kernel[axis]) * self.dilation[axis])
        rows, columns = axes[0][:, None, :, None], axes[1][None, :, None, :]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        pixels = torch.where(inside, rows * width + columns, height * width)
        return pixels.flatten(2).to(value.device)


@dataclass(frozen=True)
class ChosenPixels(Relaxation):
    """One pixel of each window from below, and a line in one pixel of each window from above.

    Attributes:
        below, above: the pixels, (1 or M, C, H_out, W_out) long.
        slope, offset: of the line in the pixel above.
        input_size: height and width of the input.
    """

    below: Tensor
    above: Tensor
    slope: Tensor
    offset: Tensor
    input_size: Pair

    def backward(self, rows: Tensor) -> Pulled:
        positive, negative = rows.clamp_min(0), rows.clamp_max(0)
        height, width = self.input_size
        on_input = rows.new_zeros(*rows.shape[:2], height * width)
        for index, part in ((self.below, positive), (self.above, negative * self.slope)):
            on_input = on_input.scatter_add(2, index.expand(rows.shape).flatten(2), part.flatten(2))
        constant = (negative * self.offset).flatten(1).sum(dim=1)
        return Pulled((on_input.view(*rows.shape[:2], height, width),), constant)


def _outputs(size: int, span: int, stride: int, padding: int, *, ceil_mode: bool) -> int:
    """The output pixels of one side."""
    room = size + 2 * padding - span
    if not ceil_mode:
        return room // stride + 1
    outputs = -(-room // stride) + 1
    # A window must start within the image or its left padding.
    return outputs - 1 if (outputs - 1) * stride >= size + padding else outputs


def _gathered(value: Tensor, windows: Tensor, padding: float) -> Tensor:
    """The values of each window's pixels, (B, C, H_out, W_out, size)."""
    flat = functional.pad(value.flatten(2), (0, 1), value=padding)
    return flat[..., windows]
