"""The goal of a perturbation: the model, the labels, and the margin that has to become positive."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ssimpert.linearization import Linearization, Margin
from ssimpert.linearization.gradient import linearize_in_chunks
from ssimpert.models.forward_passes import Model, logits_in_chunks, model_dtype

# A margin counts as surely positive only above so many roundings of the largest logit, and of 1: in another batch the
# logits of an image round differently.
LOGIT_ROUNDINGS = 16


@dataclass(frozen=True, eq=False)
class Decision:
    """What the model says of a batch of images.

    Attributes:
        logits: (B, K), in the images' dtype.
        margin: (B,), the goal's margin, in logits; positive exactly where the goal is reached.
    """

    logits: Tensor
    margin: Tensor

    @property
    def label(self) -> Tensor:
        """The model's own labels, (B,) long."""
        return self.logits.argmax(dim=1)

    @property
    def success(self) -> Tensor:
        """Whether the goal is reached, (B,) bool; not where the margin is NaN."""
        return self.margin > 0


@dataclass(frozen=True, eq=False)
class Goal:
    """What the perturbations of a batch are to reach: ``margin(model(x'), label) > 0``, image by image.

    Attributes:
        model: maps images (B, C, H, W) in [0, 1] to logits (B, K).
        label: (B,) long, the classes that the margin is measured against.
        margin: positive exactly where the goal is reached; for instance :class:`~ssimpert.Untargeted`.
    """

    model: Model
    label: Tensor
    margin: Margin

    def select(self, index: Tensor | slice) -> Goal:
        """The goal of the images at ``index``: indices (K,) long, or a slice of the batch."""
        return replace(self, label=self.label[index])

    def decide(self, images: Tensor) -> Decision:
        """Logits and margins at images (B, C, H, W), by a fresh forward pass without gradients."""
        logits = logits_in_chunks(self.model, images)
        return Decision(logits, self.margin(logits, self.label))

    def sure_margin(self, images: Tensor) -> Tensor:
        """The margins at images (B, C, H, W) less what the rounding of the logits may change, (B,)."""
        rounding = LOGIT_ROUNDINGS * torch.finfo(model_dtype(self.model)).eps
        decision = self.decide(images)
        return decision.margin - rounding * (1 + decision.logits.abs().amax(dim=1))

    def linearize(self, images: Tensor) -> Linearization:
        """The margin's value (B,) and gradient (B, C, H, W) at images (B, C, H, W)."""
        return linearize_in_chunks(self.model, images, self.label, self.margin)
