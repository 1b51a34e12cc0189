"""What counts as a valid number. Numbers of Python, numpy and torch are checked alike and become Python's own.

An integer is what ``operator.index`` takes, and a real number is what ``float`` takes. Booleans and strings are
neither.
``ssimpert`` asks the same functions (:mod:`ssimpert.validation`).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solvers.errors import ProblemError


def plain(value: Any) -> Any:
    """A scalar of numpy, or an array or a tensor without axes, as a value of Python; anything else as it is."""
    if isinstance(value, (np.generic, np.ndarray, Tensor)) and value.ndim == 0:
        try:
            return value.item()
        except RuntimeError:  # a tensor on the meta device has no value
            return value
    return value


def as_integer(value: Any) -> int | None:
    """``value`` as an int where ``operator.index`` takes it; ``None`` for anything else, a boolean among them."""
    number = plain(value)
    if isinstance(number, (bool, np.ndarray, Tensor)):
        return None
    try:
        return operator.index(number)
    except TypeError:
        return None


def as_real(value: Any) -> float | None:
    """``value`` as a float where ``float`` takes it; ``None`` for anything else, booleans and strings among them."""
    number = plain(value)
    if isinstance(number, (bool, str, bytes, bytearray, np.ndarray, Tensor)):
        return None
    try:
        return float(number)
    except (TypeError, ValueError, OverflowError):
        return None


def as_list(values: Any) -> list[Any] | None:
    """A list, tuple, array or tensor with one axis, or another iterable, as a list of values of Python.

    ``None`` for anything else: a string, a mapping, a number, an array of several axes.
    """
    if isinstance(values, (np.ndarray, Tensor)):
        return values.tolist() if values.ndim == 1 else None
    if isinstance(values, (str, bytes, bytearray, Mapping)) or not isinstance(values, Iterable):
        return None
    return [plain(value) for value in values]


def shown(value: Any) -> str:
    """``value`` for an error message of one line. An array or a tensor with axes is shown by its shape and type."""
    number = plain(value)
    if isinstance(number, (np.ndarray, Tensor)):
        kind = "array" if isinstance(number, np.ndarray) else "tensor"
        return f"{kind} of shape {tuple(number.shape)} and {number.dtype}"
    return repr(number)


def real(name: str, value: Any) -> float:
    """``value`` as a float. ``name`` is for the error message, here and below.

    Raises:
        ProblemError: not a real number: a boolean, a string, an array.
    """
    number = as_real(value)
    if number is None:
        raise ProblemError(f"{name} must be a number, got {shown(value)}")
    return number


def positive(name: str, value: Any) -> float:
    """``value`` as a float, positive and finite.

    Raises:
        ProblemError: anything else.
    """
    number = real(name, value)
    if not (math.isfinite(number) and number > 0):
        raise ProblemError(f"{name} must be positive and finite, got {shown(value)}")
    return number


def share(name: str, value: Any) -> float:
    """``value`` as a float strictly between 0 and 1.

    Raises:
        ProblemError: anything else.
    """
    number = real(name, value)
    if not 0 < number < 1:
        raise ProblemError(f"{name} must lie strictly between 0 and 1, got {shown(value)}")
    return number


def integer(name: str, value: Any) -> int:
    """``value`` as an int.

    Raises:
        ProblemError: anything else: a boolean, a float, even one without a fraction.
    """
    number = as_integer(value)
    if number is None:
        raise ProblemError(f"{name} must be an integer, got {shown(value)}")
    return number


def whole(name: str, value: Any, *, minimum: int) -> int:
    """``value`` as an int of at least ``minimum``.

    Raises:
        ProblemError: anything else.
    """
    number = as_integer(value)
    if number is None or number < minimum:
        raise ProblemError(f"{name} must be an integer of at least {minimum}, got {shown(value)}")
    return number


def flag(name: str, value: Any) -> bool:
    """``value`` as a bool.

    Raises:
        ProblemError: not a boolean of Python, numpy or torch.
    """
    switch = plain(value)
    if not isinstance(switch, bool):
        raise ProblemError(f"{name} must be True or False, got {shown(value)}")
    return switch


def radii(name: str, value: Any) -> float | Tensor:
    """One positive number as a float, or one per image as a float64 tensor (B,) from a tensor, array or list.

    The tensor is a copy, so that no later change of ``value`` changes the radii.

    Raises:
        ProblemError: anything else.
    """
    if isinstance(plain(value), bool):
        raise ProblemError(f"{name} must be a number, got {shown(value)}")
    number = as_real(value)
    if number is not None:
        return positive(name, number)
    if isinstance(value, (np.ndarray, Tensor)) and value.ndim > 1:
        raise ProblemError(f"{name} must be one number, or one per image (B,), got shape {tuple(value.shape)}")
    numbers = as_list(value)
    entries = None if numbers is None else [as_real(entry) for entry in numbers]
    if entries is None or None in entries:
        raise ProblemError(f"{name} must be a positive number, or one per image (B,), got {shown(value)}")
    device = value.device if isinstance(value, Tensor) else None
    # The tensor outlives the call. A tensor made under inference_mode could never be used for a gradient afterwards.
    with torch.inference_mode(False):
        tensor = torch.tensor(entries, dtype=torch.float64, device=device)
    if not bool((torch.isfinite(tensor) & (tensor > 0)).all()):
        raise ProblemError(f"{name} must be positive and finite, got {tensor.tolist()}")
    return tensor


def check_batch(name: str, value: float | Tensor, batch: int) -> None:
    """Raise :class:`ProblemError` where ``value`` is a tensor (B,) of one number per image and B is not ``batch``."""
    if isinstance(value, Tensor) and value.shape[0] != batch:
        raise ProblemError(f"{name} has {value.shape[0]} values for a batch of {batch} images; give one or that many")
