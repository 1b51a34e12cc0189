"""Sliding windows as a user describes them: size, stride, border and weights.

A :class:`Window` knows no image. For an image's size, dtype and device it gives a
:class:`~solvers.windows.operator.WindowOperator`, which is built once and kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from solvers.errors import ProblemError
from solvers.validation import integer, positive
from solvers.windows.lattice import window_starts
from solvers.windows.operator import WindowOperator

Border = Literal["full", "valid"]


@dataclass(frozen=True)
class Window:
    """A square sliding window, separable, applied to each channel by itself.

    Attributes:
        size: side in pixels, at least 2.
        stride: step between neighbouring windows, 1 <= stride <= size. ``stride == size`` gives tiles.
        border: ``"full"`` (default): windows also hang over the edges, cut there and their weights renormalised
            to sum 1, so that every pixel lies in some window. ``"valid"``: whole windows only, the standard SSIM
            index; pixels near the edge then lie in few windows, and a pixel that lies in none keeps its value.
        sigma: standard deviation of Gaussian weights in pixels; ``None`` for uniform weights.
    """

    size: int
    stride: int = 1
    border: Border = "full"
    sigma: float | None = None

    def __post_init__(self) -> None:
        for name in ("size", "stride"):
            object.__setattr__(self, name, integer(f"window {name}", getattr(self, name)))
        if self.size < 2:
            raise ProblemError(f"window size must be at least 2, got {self.size}")
        if not 1 <= self.stride <= self.size:
            raise ProblemError(f"window stride must be between 1 and the size {self.size}, got {self.stride}")
        if self.border not in ("full", "valid"):
            raise ProblemError(f"window border must be 'full' or 'valid', got {self.border!r}")
        if self.sigma is None:
            return
        object.__setattr__(self, "sigma", positive("window sigma", self.sigma))
        if ((self.size - 1) / 2 / self.sigma) ** 2 > 400:
            # The corner's weight would be under 1e-170 of the centre's, and a cut window's could vanish.
            raise ProblemError(f"window sigma {self.sigma} is too small for a window of {self.size} pixels a side")

    @classmethod
    def uniform(cls, size: int = 7, *, stride: int = 1, border: Border = "full") -> Window:
        """Equal weights over ``size x size`` pixels."""
        return cls(size=size, stride=stride, border=border)

    @classmethod
    def gaussian(cls, sigma: float = 1.5, size: int = 11, *, stride: int = 1, border: Border = "full") -> Window:
        """Gaussian weights, ``size`` taps a side; the defaults are those of Wang et al. (TIP 2004)."""
        return cls(size=size, stride=stride, border=border, sigma=sigma)

    @property
    def is_tiling(self) -> bool:
        """Whether windows do not overlap (stride equal to size)."""
        return self.stride == self.size

    def taps(self) -> Tensor:
        """The 1-D weights of a whole window: float64, shape (size,), sum 1. A window's weights are their outer
        product."""
        if self.sigma is None:
            return torch.full((self.size,), 1.0 / self.size, dtype=torch.float64)
        offset = torch.arange(self.size, dtype=torch.float64) - (self.size - 1) / 2
        weights = torch.exp(-0.5 * (offset / self.sigma) ** 2)
        return weights / weights.sum()

    def starts(self, length: int) -> list[int]:
        """Left edges of the windows along an axis of ``length`` pixels: see
        :func:`solvers.windows.lattice.window_starts`."""
        return window_starts(length, self.size, self.stride, whole_only=self.border == "valid")

    def check_fits(self, height: int, width: int) -> None:
        """Raise :class:`ProblemError` where the image is smaller than the window."""
        if self.size > min(height, width):
            raise ProblemError(
                f"window of {self.size}x{self.size} pixels is larger than the image of {height}x{width}; "
                f"the largest window that fits is {min(height, width)}"
            )

    def operator(self, height: int, width: int, *, dtype: torch.dtype, device: torch.device) -> WindowOperator:
        """The window operator for images of ``height x width``; built once for each (size, dtype, device)."""
        return _operator(self, height, width, dtype, torch.device(device))

    def operator_for(self, image: Tensor) -> WindowOperator:
        """The window operator for ``image`` (..., H, W), in its dtype and on its device."""
        return self.operator(image.shape[-2], image.shape[-1], dtype=image.dtype, device=image.device)


@lru_cache(maxsize=64)
def _operator(window: Window, height: int, width: int, dtype: torch.dtype, device: torch.device) -> WindowOperator:
    # The operator outlives the call. Tensors made under inference_mode would refuse every later backward pass.
    with torch.inference_mode(False):
        return WindowOperator(window, height, width, dtype=dtype, device=device)
