"""Convolution, its way back and bilinear resizing written out pixel by pixel, in float64, as oracles for the maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


class TwoLayers(nn.Module):
    """Convolution, rectifier, convolution, rectifier, global mean, linear head, with random weights, float64.

    The weights are large enough for a ReLU6 to saturate. ``first`` and ``second`` are the rectifiers: modules or
    functions.
    """

    cam_layer = "rectified"

    def __init__(
        self,
        first: Callable[[Tensor], Tensor] | None = None,
        second: Callable[[Tensor], Tensor] | None = None,
        scale: float = 3.0,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.first = first or nn.ReLU()
        self.rectified = nn.Identity()
        self.conv2 = nn.Conv2d(4, 5, 3, padding=1)
        self.second = second or nn.ReLU()
        self.head = nn.Linear(5, 3)
        generator = torch.Generator().manual_seed(31)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator) / 2)
        self.double().eval().requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.tail(self.rectified(self.first(self.conv1(images))))

    def tail(self, activation: Tensor) -> Tensor:
        return self.head(self.second(self.conv2(activation)).mean(dim=(2, 3)))


def toy_images(count: int = 3, height: int = 8, width: int = 10) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(32), dtype=torch.float64)


def conv(image: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    """(C, H, W) -> (K, h, w), 3x3, padding 1."""
    kernel, bias, stride = layer.weight.numpy(), layer.bias.numpy(), layer.stride[0]
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    height, width = (-(-side // stride) for side in image.shape[1:])
    output = np.empty((len(kernel), height, width))
    for k in range(len(kernel)):
        for i in range(height):
            for j in range(width):
                patch = padded[:, stride * i : stride * i + 3, stride * j : stride * j + 3]
                output[k, i, j] = (kernel[k] * patch).sum() + bias[k]
    return output


def conv_back(signal: np.ndarray, layer: nn.Conv2d, shape: tuple[int, ...]) -> np.ndarray:
    """The adjoint of :func:`conv`: (K, h, w) -> ``shape`` (C, H, W)."""
    kernel, stride = layer.weight.numpy(), layer.stride[0]
    padded = np.zeros((shape[0], shape[1] + 2, shape[2] + 2))
    for k in range(signal.shape[0]):
        for i in range(signal.shape[1]):
            for j in range(signal.shape[2]):
                padded[:, stride * i : stride * i + 3, stride * j : stride * j + 3] += signal[k, i, j] * kernel[k]
    return padded[:, 1:-1, 1:-1]


def finite_differences(function: Callable[[Tensor], Tensor], point: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of a scalar function of one array, in the array's shape."""
    slopes = torch.empty_like(point)
    for index in np.ndindex(*point.shape):
        sides = []
        for sign in (1, -1):
            moved = point.clone()
            moved[index] += sign * step
            sides.append(float(function(moved)))
        slopes[index] = (sides[0] - sides[1]) / (2 * step)
    return slopes


def bilinear(coarse: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resizing, pixel centres at half integers, the edge repeated."""
    rows, columns = coarse.shape
    fine = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * rows / height - 0.5, 0), rows - 1)
            x = min(max((j + 0.5) * columns / width - 0.5, 0), columns - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            upper = coarse[top, left] * (1 - (x - left)) + coarse[top, right] * (x - left)
            lower = coarse[bottom, left] * (1 - (x - left)) + coarse[bottom, right] * (x - left)
            fine[i, j] = upper * (1 - (y - top)) + lower * (y - top)
    return fine


def hooks(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)
