"""What the methods of this package accept: images, labels, and where a perturbation may live."""

from __future__ import annotations

import torch
from torch import Tensor

import solvers
from ssimpert.errors import InputError
from ssimpert.linearization import Margin
from ssimpert.linearization.margins import Criterion
from ssimpert.metrics import STANDARD_WINDOW
from ssimpert.models.forward_passes import Model, forward
from ssimpert.validation import check_pixels


def check_image(image: Tensor) -> None:
    """Raise :class:`InputError` unless ``image`` is (B, C, H, W), float32 or float64, finite and in [0, 1]."""
    check_pixels("image", image, smallest_side=STANDARD_WINDOW.size)


def labels_of(model: Model, image: Tensor, label: Tensor | None, margin: Margin) -> Tensor:
    """The classes (B,) that ``margin`` is measured against: ``label``, or the model's own; both checked."""
    logits = forward(model, image)
    if logits.ndim != 2 or logits.shape[0] != image.shape[0]:
        raise InputError(
            f"the model must return logits (B, K) for {image.shape[0]} images, got shape {tuple(logits.shape)}"
        )
    label = _own_label(logits, label, margin)
    margin.check(logits.shape[1])
    return label


def _own_label(logits: Tensor, label: Tensor | None, margin: Margin) -> Tensor:
    own = margin.labels(logits) if isinstance(margin, Criterion) else logits.argmax(dim=1)
    if label is None:
        return own
    if not isinstance(label, Tensor):
        raise InputError(f"label must be a long tensor of shape {tuple(own.shape)}, got {label!r}")
    if label.shape != own.shape or label.dtype != torch.long:
        raise InputError(
            f"label must be a long tensor of shape {tuple(own.shape)}, got {label.dtype} {tuple(label.shape)}"
        )
    if bool(((label < 0) | (label >= logits.shape[1])).any()):
        raise InputError(f"label {label.tolist()} is out of range; classes are 0 to {logits.shape[1] - 1}")
    return label.to(own.device)


def region_of(support: Tensor | None, image: Tensor) -> solvers.Support | None:
    """The set of perturbations that vanish where ``support`` is False; ``None`` where there is no mask.

    Args:
        support: bool, (H, W), (C, H, W) or (B, C or 1, H, W), True where pixels may change.

    Raises:
        InputError: not a mask, or one that leaves an image no pixel.
        solvers.ProblemError: a shape that does not fit ``image`` (B, C, H, W).
    """
    if support is None:
        return None
    if not isinstance(support, Tensor) or support.dtype != torch.bool:
        got = f"a tensor of {support.dtype}" if isinstance(support, Tensor) else type(support).__name__
        raise InputError(f"support must be a bool tensor, True where pixels may change, got {got}")
    region = solvers.Support(support)
    region.check(image)
    if not bool(support.expand(image.shape).flatten(1).any(dim=1).all()):
        raise InputError("support is False everywhere for an image: no pixel may change")
    return region


def share_of(support: Tensor | None) -> float | None:
    """The share of pixels that may change, for records."""
    return None if support is None else float(support.to(torch.float64).mean())
