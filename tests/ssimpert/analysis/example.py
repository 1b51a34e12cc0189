"""A small classifier and perturbation results made by hand, for tests of what comes after a perturbation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = ("zebra, striped", "yak", "wombat", "viper")


class SmallClassifier(nn.Module):
    """Two convolutions, global mean, linear head; fixed random weights, frozen."""

    cam_layer = "features.3"
    labels = CLASSES

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(8, len(CLASSES))
        generator = torch.Generator().manual_seed(8)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean(dim=(2, 3)))


class WithMean(SmallClassifier):
    """With the mean colour that insertion and deletion write, and probabilities that are neither 0 nor 1."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.4))
        self.head.weight.mul_(0.1)


def margin(logits: Tensor, label: Tensor) -> Tensor:
    """Largest other logit minus the label's own, (B,)."""
    own = logits.gather(1, label[:, None])
    others = logits.scatter(1, label[:, None], float("-inf"))
    return others.amax(dim=1) - own[:, 0]


def example_images(count: int = 2, channels: int = 3, size: int = 32) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(9))


def example_result(model: nn.Module, image: Tensor, *, name: str, step: float = 0.02, seed: int = 0) -> Any:
    """One step along the gradient plus a little noise, with every attribute of a perturbation result."""
    label = model(image).argmax(dim=1)
    moving = image.clone().requires_grad_()
    before = margin(model(moving), label)
    (gradient,) = torch.autograd.grad(before.sum(), moving)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    direction = gradient / gradient.abs().amax() + 0.1 * noise
    adversarial = (image + step * direction).clamp(0, 1)
    logits = model(adversarial)
    count = image.shape[0]
    return SimpleNamespace(
        name=name,
        adversarial=adversarial,
        delta=adversarial - image,
        gradient=gradient,
        margin=margin,
        constraint=None,
        label=label,
        success=logits.argmax(dim=1) != label,
        label_before=label,
        label_after=logits.argmax(dim=1),
        margin_before=before.detach(),
        margin_after=margin(logits, label),
        ssim=torch.linspace(0.99, 0.999, count),
        min_window_ssim=torch.linspace(0.8, 0.9, count),
        contrast_distance=torch.linspace(0.01, 0.02, count),
        settings={"steps": 1},
        rows=lambda: [{"image": k, "perturbation": name, "violation": float("nan")} for k in range(count)],
    )
