"""What counts as a valid number. Numbers of Python and numpy are checked alike and become Python's own."""

from __future__ import annotations

import math
import numbers
from typing import Any

import torch
from torch import Tensor

from solvers.errors import ProblemError


def real(name: str, value: Any) -> float:
    """``value`` as a float. ``name`` is for the error message, here and below.

    Raises:
        ProblemError: not a real number: a boolean, a string, an array.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ProblemError(f"{name} must be a number, got {value!r}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """``value`` as a float, positive and finite.

    Raises:
        ProblemError: anything else.
    """
    number = real(name, value)
    if not (math.isfinite(number) and number > 0):
        raise ProblemError(f"{name} must be positive and finite, got {value}")
    return number


def share(name: str, value: Any) -> float:
    """``value`` as a float strictly between 0 and 1.

    Raises:
        ProblemError: anything else.
    """
    number = real(name, value)
    if not 0 < number < 1:
        raise ProblemError(f"{name} must lie strictly between 0 and 1, got {value!r}")
    return number


def whole(name: str, value: Any, *, minimum: int) -> int:
    """``value`` as an int of at least ``minimum``.

    Raises:
        ProblemError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < minimum:
        raise ProblemError(f"{name} must be an integer of at least {minimum}, got {value!r}")
    return int(value)


def radii(name: str, value: Any) -> float | Tensor:
    """One positive number as a float, or one per image as a float64 tensor (B,) from a tensor, array or list.

    Raises:
        ProblemError: anything else.
    """
    if isinstance(value, numbers.Real):
        return positive(name, value)
    try:
        tensor = torch.as_tensor(value, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError):
        raise ProblemError(f"{name} must be a positive number, or one per image (B,), got {value!r}") from None
    if tensor.ndim > 1:
        raise ProblemError(f"{name} must be one number, or one per image (B,), got shape {tuple(tensor.shape)}")
    if not bool((torch.isfinite(tensor) & (tensor > 0)).all()):
        raise ProblemError(f"{name} must be positive and finite, got {tensor.tolist()}")
    return float(tensor) if tensor.ndim == 0 else tensor


def check_batch(name: str, value: float | Tensor, batch: int) -> None:
    """Raise :class:`ProblemError` where ``value`` is a tensor (B,) of one number per image and B is not ``batch``."""
    if isinstance(value, Tensor) and value.shape[0] != batch:
        raise ProblemError(f"{name} has {value.shape[0]} values for a batch of {batch} images; give one or that many")
