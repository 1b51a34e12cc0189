"""What the methods of this package accept: images, labels and margins, and masks of pixels that may change."""

from __future__ import annotations

import torch
from torch import Tensor

import solvers
from ssimpert.errors import InputError
from ssimpert.linearization import Margin
from ssimpert.linearization.margins import Criterion
from ssimpert.metrics import STANDARD_WINDOW
from ssimpert.models.forward_passes import Model, forward
from ssimpert.perturbation.goal import Goal
from ssimpert.validation import check_pixels


def check_image(image: Tensor) -> None:
    """Raise :class:`InputError` unless ``image`` is (B, C, H, W), float32 or float64, finite and in [0, 1]."""
    check_pixels("image", image, smallest_side=STANDARD_WINDOW.size)


def checked_goal(model: Model, image: Tensor, label: Tensor | None, margin: Margin) -> Goal:
    """The goal of perturbing ``image`` (B, C, H, W).

    Args:
        model: must return logits (B, K).
        image: the clean images.
        label: the classes that the margin is measured against, (B,) long; default those that the margin takes, which
            are the model's own labels for most margins.
        margin: must fit the model's number of classes.

    Raises:
        InputError: logits, labels or a margin that can't be used.
    """
    logits = forward(model, image)
    default = margin.labels(logits) if isinstance(margin, Criterion) else logits.argmax(dim=1)
    if label is None:
        label = default
    else:
        _check_label(label, logits)
    margin.check(logits.shape[1])
    return Goal(model, label.to(logits.device), margin)


def _check_label(label: Tensor, logits: Tensor) -> None:
    shape = tuple(logits.shape[:1])
    if not isinstance(label, Tensor):
        raise InputError(f"label must be a long tensor of shape {shape}, got {label!r}")
    if tuple(label.shape) != shape or label.dtype != torch.long:
        raise InputError(f"label must be a long tensor of shape {shape}, got {label.dtype} {tuple(label.shape)}")
    if bool(((label < 0) | (label >= logits.shape[1])).any()):
        raise InputError(f"label {label.tolist()} is out of range; classes are 0 to {logits.shape[1] - 1}")


def support_set(support: Tensor | None, image: Tensor) -> solvers.Support | None:
    """The set of perturbations that vanish where ``support`` is False; ``None`` where there is no mask.

    Args:
        support: bool, (H, W), (C, H, W) or (B, C or 1, H, W), True where pixels may change.
        image: the images that are perturbed, (B, C, H, W).

    Raises:
        InputError: not a mask, or a mask that leaves an image no pixel.
        solvers.ProblemError: a shape that does not fit ``image``.
    """
    if support is None:
        return None
    if not bool(support_mask(support, image).flatten(1).any(dim=1).all()):
        raise InputError("support is False everywhere for an image: no pixel may change")
    return solvers.Support(support)


def support_mask(support: Tensor, image: Tensor) -> Tensor:
    """The mask ``support``, as for :func:`support_set`, in the shape of ``image`` (B, C, H, W) and on its device.

    Raises:
        InputError: not a mask.
        solvers.ProblemError: a shape that does not fit ``image``.
    """
    if not isinstance(support, Tensor) or support.dtype != torch.bool:
        got = f"a tensor of {support.dtype}" if isinstance(support, Tensor) else type(support).__name__
        raise InputError(f"support must be a bool tensor, True where pixels may change, got {got}")
    solvers.Support(support).check(image)
    return support.to(image.device).expand(image.shape)


def support_share(support: Tensor | None) -> float | None:
    """The share of pixels that may change, for records; ``None`` where there is no mask."""
    return None if support is None else float(support.to(torch.float64).mean())
