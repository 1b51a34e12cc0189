"""A classifier whose decision border is curved, and how far away it is."""

from __future__ import annotations

import torch
from torch import Tensor


class CurvedClasses(torch.nn.Module):
    """Logits (0, s_1, s_2, ...) with quadratic ``s_k = a_k'u + c_k'u^2 - o_k`` in orthonormal coordinates u of the
    perturbation of ``image`` (1, C, H, W): the least norm that lifts s_k to 0 follows from one multiplier.

    Attributes:
        slope, curvature: a and c, (K, N); offset: o, (K,), positive.
    """

    def __init__(self, image: Tensor, slope: Tensor, curvature: Tensor, offset: Tensor) -> None:
        super().__init__()
        axes = slope.shape[1]
        noise = torch.randn(image[0].numel(), axes, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        self.basis = torch.nn.Parameter(torch.linalg.qr(noise).Q.T.reshape(axes, *image.shape[1:]))
        self.image, self.slope, self.curvature, self.offset = image, slope, curvature, offset
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        u = torch.einsum("bchw,kchw->bk", images - self.image, self.basis)
        score = u @ self.slope.T + u.square() @ self.curvature.T - self.offset
        return torch.cat([torch.zeros_like(score[:, :1]), score], dim=1)

    def least_norm(self, k: int) -> float:
        """Of class k + 1, by bisection on the multiplier m of ``u = m a / (2 (1 - m c))``, 0 < m < 1 / max c."""
        slope, curvature = self.slope[k], self.curvature[k]
        low, high = 0.0, 1 / float(curvature.max().clamp_min(1e-9))
        for _ in range(200):
            middle = (low + high) / 2
            u = middle * slope / (2 * (1 - middle * curvature))
            reached = float(u @ slope + u.square() @ curvature) >= float(self.offset[k])
            low, high = (low, middle) if reached else (middle, high)
        return float(u.norm())


def fanned(image: Tensor, lowest: float, highest: float, offset: float, axes: int = 8) -> CurvedClasses:
    """Two classes, all slopes alike, curvatures from ``lowest`` to ``highest``."""
    curvature = torch.linspace(lowest, highest, axes, dtype=torch.float64)[None]
    slope = torch.full_like(curvature, axes**-0.5)
    return CurvedClasses(image, slope, curvature, torch.tensor([offset], dtype=torch.float64))
