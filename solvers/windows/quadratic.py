"""The concave quadratics that windows make, and the bounds that they are maximised within."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class WindowQuadratic:
    """``right'd - d'Hd/2`` with ``H = diag(slope) + M' diag(weights) M``, M being the windowed means.

    H couples the pixels of a channel, and nothing across channels or images.

    Attributes:
        slope: (..., H, W), the part of H that acts on each pixel alone.
        weights: (..., P_h, P_w), one number a window.
        right: (..., H, W), the linear part.
        diagonal: (..., H, W), the diagonal of H, positive: the preconditioner.
    """

    slope: Tensor
    weights: Tensor
    right: Tensor
    diagonal: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> WindowQuadratic:
        """The quadratic with ``function`` of each of its tensors."""
        return WindowQuadratic(*(function(part) for part in self.parts()))

    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The tensors, in the order of the constructor's arguments."""
        return self.slope, self.weights, self.right, self.diagonal


@dataclass(frozen=True, eq=False)
class Bounds:
    """``lower <= d <= upper``, pixel by pixel: two images (..., H, W)."""

    lower: Tensor
    upper: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> Bounds:
        """The bounds with ``function`` of both images."""
        return Bounds(function(self.lower), function(self.upper))

    def clamp(self, image: Tensor) -> Tensor:
        """``image`` (..., H, W), cut to the bounds."""
        return image.clamp(self.lower, self.upper)
