"""Which torch device a name such as "auto" or "cuda:1" stands for."""

from __future__ import annotations

import torch

from ssimpert.errors import InputError

_KINDS = ("cpu", "cuda", "mps")


def resolve_device(device: str | torch.device) -> torch.device:
    """The torch device that ``device`` names. It is checked that this machine can use the device.

    Args:
        device: "auto" (a CUDA device where there is one, else the CPU), "cpu", "cuda", "cuda:N", "mps", or a torch
            device.

    Raises:
        InputError: there is no such device, or this machine can't use it.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"unknown device {device!r}; valid: auto, cpu, cuda, cuda:N, mps") from error
    if resolved.type not in _KINDS:
        raise InputError(f"unsupported device {str(device)!r}; valid: auto, cpu, cuda, cuda:N, mps")
    if resolved.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise InputError(f"device {str(device)!r} is not available: no CUDA device here; use cpu or auto")
        if resolved.index is not None and resolved.index >= count:
            raise InputError(f"device {str(device)!r} is not available; valid: cuda:0 to cuda:{count - 1}")
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"device {str(device)!r} is not available: no Metal device here; use cpu or auto")
    return resolved
