"""The class that a map explains, and the model's score for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from solvers.validation import as_integer, as_list, shown
from ssimpert.errors import InputError
from ssimpert.models.forward_passes import Model
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
    # The clone matters: a tensor made under inference_mode cannot enter a graph.
    with torch.inference_mode(False):
        return target.to(images.device, torch.int64).clone()


def checked_logits(model: Model, targets: Tensor) -> Model:
    """``model`` with a check at each call: its logits are (B, K) and have every class in ``targets``.

    A module gets its images in the dtype of its own parameters, as in :func:`ssimpert.linearization.linearize`.

    The call raises:
        InputError: a class that the model does not have, or an output that is not (B, K).
    """
    # The classes are read once: a check on the device would wait for the device at every call.
    classes: list[int] = targets.tolist()
    # model_dtype is not used here: a module without parameters computes in the dtype of its images.
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    dtype = next((weight.dtype for weight in weights if weight.is_floating_point()), None)

    def logits_of(batch: Tensor) -> Tensor:
        logits = model(batch if dtype is None else batch.to(dtype))
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != batch.shape[0]:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(f"the model must give logits (B, K), here ({batch.shape[0]}, K), got {got}")
        for wrong in (number for number in classes if not 0 <= number < logits.shape[1]):
            last = logits.shape[1] - 1
            raise InputError(f"target class {wrong} does not exist; the model has classes 0 to {last}")
        return logits

    return logits_of


def target_logit(model: Model, batch: Tensor, targets: Tensor) -> Tensor:
    """The logit of each image's class: images (B, C, H, W), classes (B,) -> (B,)."""
    return checked_logits(model, targets)(batch).gather(1, targets[:, None])[:, 0]


def class_probability(model: Model, target: Tensor) -> Model:
    """The softmax probability of one class, ``target`` (1,), as a function of images: (N, C, H, W) -> (N,)."""
    logits_of = checked_logits(model, target)
    return lambda batch: logits_of(batch).softmax(dim=1).index_select(1, target)[:, 0]
