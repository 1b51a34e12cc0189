"""The class that a map explains, and the model's score for it."""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.validation import as_integer, as_list, shown
from ssimpert.errors import InputError
from ssimpert.models.forward_passes import Model, call_model
from ssimpert.validation import Integers


def class_targets(target: int | Integers, images: Tensor) -> Tensor:
    """``target`` as one class for each image: (B,) int64, on the device of ``images``.

    Raises:
        InputError: ``target`` is neither a class number nor (B,) integers: a tensor, an array, a list or a tuple.
    """
    count = images.shape[0]
    number = as_integer(target)
    if number is not None:
        target = torch.full((count,), number)
    elif not isinstance(target, Tensor):
        entries = as_list(target)
        if entries is None or any(as_integer(entry) is None for entry in entries):
            raise InputError(f"target must be a class number or a tensor of {count} integers, got {shown(target)}")
        target = torch.tensor(entries, dtype=torch.int64)
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise InputError(f"target must be a class number or a tensor of {count} integers, got {target.dtype}")
    if target.shape != (count,):
        raise InputError(f"target must have shape ({count},), one class an image, got {tuple(target.shape)}")
    return target.to(images.device, torch.int64, copy=True)


def checked_logits(model: Model, targets: Tensor) -> Model:
    """``model`` with a check at each call: its logits are (B, K) and have every class in ``targets``.

    A module gets a copy of its images in the dtype of its own parameters
    (:func:`~ssimpert.models.forward_passes.call_model`).

    The call raises:
        InputError: a class that the model does not have, or an output that is not (B, K).
    """
    # The classes are read once: a check on the device would wait for the device at every call.
    classes: list[int] = targets.tolist()

    def logits_of(batch: Tensor) -> Tensor:
        logits = call_model(model, batch)
        for wrong in (number for number in classes if not 0 <= number < logits.shape[1]):
            last = logits.shape[1] - 1
            raise InputError(f"target class {wrong} does not exist; the model has classes 0 to {last}")
        return logits

    return logits_of


def target_logit(model: Model, batch: Tensor, targets: Tensor) -> Tensor:
    """The logit of each image's class: images (B, C, H, W), classes (B,) -> (B,)."""
    return checked_logits(model, targets)(batch).gather(1, targets[:, None])[:, 0]


def class_probability(model: Model, target: Tensor) -> Model:
    """The softmax probability of one class, ``target`` (1,), as a function of images: (N, C, H, W) -> (N,).

    The call raises:
        InputError: as for :func:`checked_logits`, and a model of one class, whose probability is always 1.
    """
    logits_of = checked_logits(model, target)

    def probability_of(batch: Tensor) -> Tensor:
        logits = logits_of(batch)
        check_probability(logits)
        return logits.softmax(dim=1).index_select(1, target)[:, 0]

    return probability_of


def check_probability(logits: Tensor) -> None:
    """Raise :class:`InputError` for logits (B, 1): the probability of a single class is always 1."""
    if logits.shape[1] < 2:
        raise InputError(f"the probability of a class needs at least 2 classes, the model has {logits.shape[1]}")
