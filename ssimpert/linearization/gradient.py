"""A margin's value and gradient at a batch of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.linearization.margins import Criterion, Margin, margin_for
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import (
    CHUNK,
    Model,
    detached,
    differentiable_logits,
    gradient_at,
    gradients_enabled,
    in_chunks,
    model_dtype,
)
from ssimpert.validation import check_images


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


@takes_model
def linearize(model: Model, images: Tensor, label: Tensor, margin: Margin, *, chunk: int = CHUNK) -> Linearization:
    """Value and gradient of ``margin`` for each image. Images don't influence one another.

    Args:
        model: images (B, C, H, W) in [0, 1] -> logits (B, K). It is evaluated in the dtype of its own parameters, in
            float32 if it has none.
        images: (B, C, H, W), float32 or float64.
        label: (B,) long, the class of each image that the margin is measured against.
        margin: for instance :class:`~ssimpert.Untargeted`. Names of classes are looked up in ``model.labels``.
        chunk: at most so many images in one pass (default 16); halved, repeatedly, where memory runs out.

    Raises:
        InputError: ``model`` is not callable, is in training mode, or returns no logits (B, K) with a gradient;
            ``images`` or ``label`` of another shape or type; or a margin that can't be posed for so many classes.
    """
    check_images("images", images)
    if not isinstance(label, Tensor) or label.shape != images.shape[:1] or label.dtype != torch.long:
        got = f"{label.dtype} {tuple(label.shape)}" if isinstance(label, Tensor) else repr(label)
        raise InputError(f"label must be a long tensor of shape {tuple(images.shape[:1])}, got {got}")
    return linearize_in_chunks(model, images, label, margin_for(margin, model), chunk=chunk)


def linearize_in_chunks(
    model: Model, images: Tensor, label: Tensor, margin: Margin, *, chunk: int = CHUNK
) -> Linearization:
    """:func:`linearize` without its checks, for loops that have checked model, images and label already.

    Args:
        model, images, label, margin, chunk: as for :func:`linearize`.

    Raises:
        InputError: the model returns no logits (B, K), or logits without a gradient, or the margin can't be posed for
            so many classes.
    """
    precision = model_dtype(model)

    def linearize_chunk(batch: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with gradients_enabled():
            leaf, logits = differentiable_logits(model, batch, dtype=precision)
            if isinstance(margin, Criterion):  # a plain function has no check
                margin.check(logits.shape[1])
            value = margin(logits, detached(labels))
            gradient = gradient_at(leaf, value, model)
        # Cloned, since a compiled model may return the same memory at every call.
        return value.detach(), gradient, logits.detach().clone()

    value, gradient, logits = in_chunks(linearize_chunk, images, label, chunk=chunk)
    return Linearization(value.to(images.dtype), gradient.to(images.dtype), logits.to(images.dtype))
