"""The class that a benchmark asks about, one for each image."""

from __future__ import annotations

import torch
from torch import Tensor

from ssimpert.errors import InputError


def check_target(target: int | Tensor, count: int) -> None:
    """Raise :class:`InputError` unless ``target`` is a class number or (``count``,) of them, none negative."""
    if isinstance(target, Tensor):
        if target.dtype not in (torch.int64, torch.int32):
            raise InputError(f"target must hold class numbers (int64 or int32), got {target.dtype}")
        if target.shape != (count,):
            raise InputError(f"target must have shape ({count},), one class an image, got {tuple(target.shape)}")
        if bool((target < 0).any()):
            raise InputError(f"target must hold classes of at least 0, got {int(target.min())}")
    elif isinstance(target, bool) or not isinstance(target, int):
        raise InputError(f"target must be a class number or a tensor of {count} integers, got {target!r}")
    elif target < 0:
        raise InputError(f"target must be a class of at least 0, got {target}")


def check_classes(target: int | Tensor | None, classes: int) -> None:
    """Raise :class:`InputError` where ``target`` is a class that a model with ``classes`` of them doesn't have."""
    largest = -1 if target is None else int(target.max()) if isinstance(target, Tensor) else target
    if largest >= classes:
        raise InputError(f"target class {largest} does not exist; the model has classes 0 to {classes - 1}")


def targets_or_top1(target: int | Tensor | None, logits: Tensor) -> Tensor:
    """The classes asked about, (B,) int64 on the device of ``logits`` (B, K); ``None``: the largest logit's."""
    if target is None:
        return logits.argmax(dim=1)
    if isinstance(target, Tensor):
        return target.to(logits.device, torch.int64)
    return torch.full((logits.shape[0],), target, dtype=torch.int64, device=logits.device)
