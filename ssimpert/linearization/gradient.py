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
    """A margin and its first-order model, ``margin(x + d) ~ value + gradient'd``.

    Attributes:
        value: (B,), in the images' dtype.
        gradient: (B, C, H, W).
        logits: (B, K).
    """

    value: Tensor
    gradient: Tensor
    logits: Tensor


def linearize(model: Model, images: Tensor, label: Tensor, margin: Margin, *, chunk: int = CHUNK) -> Linearization:
    """Value and gradient of ``margin`` per image; images don't influence one another.

    Args:
        model: maps images (B, C, H, W) in [0, 1] to logits (B, K); evaluated in float32 unless its own parameters
            are wider.
        images: (B, C, H, W), float32 or float64.
        label: the images' own classes, (B,) long.
        margin: for instance :class:`~ssimpert.Untargeted`.
        chunk: images a pass; halved, once more each time, where memory runs out.
    """
    check_model(model)
    if not isinstance(label, Tensor) or label.shape != images.shape[:1]:
        got = tuple(label.shape) if isinstance(label, Tensor) else repr(label)
        raise InputError(f"label must be a long tensor of shape {tuple(images.shape[:1])}, got {got}")
    precision = model_dtype(model)

    def one(batch: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            leaf = batch.detach().to(precision).requires_grad_(True)
            logits = model(leaf)
            value = margin(logits, labels)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient, logits.detach()

    value, gradient, logits = in_chunks(one, images, label, chunk=chunk)
    return Linearization(value.to(images.dtype), gradient.to(images.dtype), logits.to(images.dtype))
