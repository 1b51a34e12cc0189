"""The radius of a perturbation within a ball of deep features, checked by forward passes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.linearization import Features, deep_features
from ssimpert.metrics import feature_distance
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation.results import FeatureBallResult


@dataclass(frozen=True, eq=False)
class FeatureLimit:
    """The set ``|phi(x + d) - phi(x)| <= radius`` of each image.

    Attributes:
        features: phi.
        image: x, (B, C, H, W), float64.
        radius: (B,), float64.
    """

    features: Features
    image: Tensor
    radius: Tensor

    @classmethod
    def of(cls, model: Model, image: Tensor, result: FeatureBallResult) -> FeatureLimit:
        """The limit of ``result``, a perturbation of ``image``."""
        if not isinstance(model, nn.Module):
            raise InputError(f"model must be a torch module, whose layers can be watched, got {type(model).__name__}")
        features = deep_features(model, result.layers, result.settings["normalization"])
        return cls(
            features, image.double(), torch.tensor(result.settings["radius"], dtype=torch.float64).to(image.device)
        )

    def select(self, index: Tensor, batch: int) -> FeatureLimit:
        """The limit of the images at ``index``, (K,) long, of a batch of ``batch``."""
        return replace(self, image=self.image[index], radius=self.radius[index])

    def bind(self, reference: Tensor) -> FeatureLimit:
        """The limit on the device of ``reference``. It has its images already."""
        return replace(self, image=self.image.to(reference.device), radius=self.radius.to(reference.device))

    def excess(self, delta: Tensor) -> Tensor:
        """By how much perturbations (B, C, H, W) exceed the radius, (B,), float64; 0 or less inside."""
        return feature_distance(self.features, self.image, self.image + delta) - self.radius
