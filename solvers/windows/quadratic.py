"""The concave quadratics that windows make, and the pixel bounds within which they are maximised.

The inner problem of the methods for overlapping windows is such a quadratic: with a multiplier for every window, the
Lagrangian is quadratic in d. Both classes are plain data, for the conjugate gradients in torch and in compiled code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class WindowQuadratic:
    """The quadratic ``right'd - d'Hd/2`` with ``H = diag(slope) + M' diag(weights) M``.

    M maps an image to its windowed means. H couples the pixels of one channel only.

    Attributes:
        slope: (..., H, W), the diagonal part of H, which acts on each pixel by itself.
        weights: (..., P_h, P_w), one number for each window.
        right: (..., H, W), the linear part.
        diagonal: (..., H, W), the diagonal of all of H, positive; its inverse is the preconditioner.
    """

    slope: Tensor
    weights: Tensor
    right: Tensor
    diagonal: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> WindowQuadratic:
        """The quadratic whose tensors are ``function`` of this one's."""
        return WindowQuadratic(*(function(part) for part in self.parts()))

    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The tensors, in the order of the constructor's arguments."""
        return self.slope, self.weights, self.right, self.diagonal


@dataclass(frozen=True, eq=False)
class Bounds:
    """Pixel bounds ``lower <= d <= upper``: two images (..., H, W)."""

    lower: Tensor
    upper: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> Bounds:
        """The bounds that are ``function`` of these."""
        return Bounds(function(self.lower), function(self.upper))

    def clamp(self, image: Tensor) -> Tensor:
        """``image`` (..., H, W), clipped to the bounds."""
        return image.clamp(self.lower, self.upper)
