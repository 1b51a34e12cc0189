"""A classifier with closed-form answers."""

from __future__ import annotations

import torch
from torch import Tensor

SHAPE = (3, 12, 12)
ONE_CHANNEL = (1, 12, 12)


class TwoClasses(torch.nn.Module):
    """``logits = (0, w'x - offset)``, |w| = 1: the label is 0 until ``w'x`` exceeds the offset."""

    def __init__(self, offset: float, shape: tuple[int, ...] = SHAPE) -> None:
        super().__init__()
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        self.weight = torch.nn.Parameter(weight / weight.norm())
        self.offset = offset
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weight).flatten(1).sum(dim=1) - self.offset
        return torch.stack([torch.zeros_like(score), score], dim=1)


class NanWhenDark(TwoClasses):
    """NaN for images whose mean is below 0.2; a small step changes the label of the others."""

    def __init__(self) -> None:
        super().__init__(offset=0.0)
        self.offset = float(self(grey(8)).detach()[:, 1].max()) + 0.02

    def forward(self, images: Tensor) -> Tensor:
        dark = images.flatten(1).mean(dim=1) < 0.2
        return super().forward(images).masked_fill(dark[:, None], torch.nan)


def grey(count: int = 1, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Images (count, C, H, W), float64, in [0.4, 0.6]."""
    noise = torch.rand(count, *shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return 0.4 + 0.2 * noise


def score(model: TwoClasses, image: Tensor) -> Tensor:
    """The logit of class 1, (B,)."""
    return model(image)[:, 1]
