"""A margin's value and gradient at a batch of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.linearization.margins import Margin
from ssimpert.models.forward_passes import CHUNK, Model, check_model, in_chunks, model_dtype


@dataclass(frozen=True)
class Linearization:
    """A margin and its first-order model, ``margin(x + d) ~ value + gradient'd``. All tensors have the images' dtype.

    Attributes:
        value: (B,), the margin in logits.
        gradient: (B, C, H, W), in logits per unit of pixel value.
        logits: (B, K).
    """

    value: Tensor
    gradient: Tensor
    logits: Tensor


def linearize(model: Model, images: Tensor, label: Tensor, margin: Margin, *, chunk: int = CHUNK) -> Linearization:
    """Value and gradient of ``margin`` for each image. Images don't influence one another.

    Args:
        model: images (B, C, H, W) in [0, 1] -> logits (B, K). It is evaluated in the dtype of its own parameters, in
            float32 if it has none.
        images: (B, C, H, W), float32 or float64.
        label: (B,) long, the class of each image that the margin is measured against.
        margin: for instance :class:`~ssimpert.Untargeted`.
        chunk: at most so many images in one pass (default 16); halved, repeatedly, where memory runs out.

    Raises:
        InputError: ``model`` is not callable, or ``label`` is no tensor (B,).
    """
    check_model(model)
    if not isinstance(label, Tensor) or label.shape != images.shape[:1]:
        got = tuple(label.shape) if isinstance(label, Tensor) else repr(label)
        raise InputError(f"label must be a long tensor of shape {tuple(images.shape[:1])}, got {got}")
    precision = model_dtype(model)

    def linearize_chunk(batch: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            leaf = batch.detach().to(precision).requires_grad_(True)
            logits = model(leaf)
            value = margin(logits, labels)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient, logits.detach()

    value, gradient, logits = in_chunks(linearize_chunk, images, label, chunk=chunk)
    return Linearization(value.to(images.dtype), gradient.to(images.dtype), logits.to(images.dtype))
