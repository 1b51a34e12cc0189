"""What counts as a valid image, map, number and list of numbers. Every package asks here.

Numbers of Python, numpy and torch are checked alike, by the same functions as in :mod:`solvers.validation`. Each check
returns the value as Python's own, and results and records keep that value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solvers.validation import as_integer, as_list, as_real, plain, shown
from ssimpert.errors import InputError

Numbers = Sequence[float] | NDArray[Any] | Tensor
"""A list of numbers: a list, a tuple, or an array or a tensor with one axis."""
Integers = Sequence[int] | NDArray[Any] | Tensor
"""A list of integers, as :data:`Numbers`."""
Names = Sequence[str] | NDArray[Any]
"""A list of strings: a list, a tuple, or an array with one axis. A single string is not a list of names."""

Number = TypeVar("Number", int, float)

_VALID_DTYPES = (torch.float32, torch.float64)


def check_count(name: str, value: int, minimum: int = 1) -> int:
    """``value`` as an int; :class:`InputError` unless it is an integer of at least ``minimum``."""
    number = as_integer(value)
    if number is None or number < minimum:
        raise InputError(f"{name} must be an integer of at least {minimum}, got {shown(value)}")
    return number


def check_seed(seed: int) -> int:
    """``seed`` as an int; :class:`InputError` unless it is an integer from 0 to 2**63 - 1."""
    number = as_integer(seed)
    if number is None or not 0 <= number < 2**63:
        raise InputError(f"seed must be an integer from 0 to 2**63 - 1, got {shown(seed)}")
    return number


def check_number(name: str, value: float, *, minimum: float = -math.inf) -> float:
    """``value`` as a float; :class:`InputError` unless it is a finite number of at least ``minimum``."""
    number = as_real(value)
    if number is None or not math.isfinite(number):
        raise InputError(f"{name} must be a finite number, got {shown(value)}")
    if number < minimum:
        raise InputError(f"{name} must be at least {minimum:g}, got {shown(value)}")
    return number


def check_positive(name: str, value: float) -> float:
    """``value`` as a float; :class:`InputError` unless it is a positive finite number."""
    number = as_real(value)
    if number is None:
        raise InputError(f"{name} must be a positive number, got {shown(value)}")
    if not (math.isfinite(number) and number > 0):
        raise InputError(f"{name} must be positive and finite, got {shown(value)}")
    return number


def check_share(name: str, value: float) -> float:
    """``value`` as a float; :class:`InputError` unless it is a number strictly between 0 and 1."""
    number = as_real(value)
    if number is None or not 0 < number < 1:
        raise InputError(f"{name} must lie strictly between 0 and 1, got {shown(value)}")
    return number


def check_flag(name: str, value: bool) -> bool:
    """``value`` as a bool; :class:`InputError` unless it is a boolean of Python, numpy or torch."""
    switch = plain(value)
    if not isinstance(switch, bool):
        raise InputError(f"{name} must be True or False, got {shown(value)}")
    return switch


def check_numbers(name: str, values: Numbers) -> tuple[float, ...]:
    """``values`` as floats; :class:`InputError` unless they are a list of numbers (:data:`Numbers`), perhaps empty."""
    return _converted(name, values, as_real, "numbers")


def check_integers(name: str, values: Integers) -> tuple[int, ...]:
    """``values`` as ints; :class:`InputError` unless they are a list of integers (:data:`Integers`), perhaps empty."""
    return _converted(name, values, as_integer, "integers")


def _converted(name: str, values: object, convert: Callable[[object], Number | None], noun: str) -> tuple[Number, ...]:
    """The entries of a list, each converted; :class:`InputError` where one gives ``None``."""
    entries = as_list(values)
    if entries is None:
        raise InputError(f"{name} must be a list of {noun}, got {shown(values)}")
    converted = []
    for entry in entries:
        number = convert(entry)
        if number is None:
            raise InputError(f"{name} must be a list of {noun}, got {shown(entry)} among them")
        converted.append(number)
    return tuple(converted)


def check_names(name: str, values: Names) -> tuple[str, ...]:
    """``values`` as strings; :class:`InputError` unless they are a list of strings (:data:`Names`), perhaps empty."""
    entries = as_list(values)
    if entries is None:
        raise InputError(f"{name} must be a list of names, got {shown(values)}")
    for entry in entries:
        if not isinstance(entry, str):
            raise InputError(f"{name} must be a list of names, got {shown(entry)} among them")
    return tuple(str(entry) for entry in entries)


def check_radii(name: str, radius: float | Numbers, images: Tensor) -> Tensor:
    """``radius``, one positive number or one for each image, as (B,) float64 on the device of ``images`` (B, C, H, W).

    Raises:
        InputError: anything else.
    """
    number = as_real(radius)
    if number is not None:
        radii = [check_positive(name, number)] * len(images)
    else:
        radii = _radii_per_image(name, radius, len(images))
    # The tensor outlives the call. A tensor made under inference_mode could never be used for a gradient afterwards.
    with torch.inference_mode(False):
        return torch.tensor(radii, dtype=torch.float64, device=images.device)


def check_images(name: str, images: Tensor) -> None:
    """Raise :class:`InputError` unless ``images`` is (B, C, H, W), not empty, in float32 or float64.

    Half precision and integers are refused, not converted. An SSIM index in float16 exceeds 1 (protocols, section 1),
    and the range of an integer image would have to be guessed.
    """
    _check_tensor(name, images, ("B", "C", "H", "W"))


def check_pixels(name: str, images: Tensor, *, smallest_side: int) -> None:
    """Raise :class:`InputError` unless ``images`` are valid images whose pixels are finite and lie in [0, 1].

    Args:
        name: what the error calls the images.
        images: (B, C, H, W), float32 or float64 (:func:`check_images`).
        smallest_side: the least height and width in pixels: the side of the window that SSIM is measured in.
    """
    check_images(name, images)
    unusable = (~images.isfinite()).flatten(1).sum(dim=1)
    if bool(unusable.any()):
        first = int(unusable.argmax())
        raise InputError(f"{name} {first} has {int(unusable[first])} NaN or infinite pixels")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise InputError(f"{name} pixels reach from {low:.6g} to {high:.6g}; they must lie in [0, 1]")
    height, width = images.shape[-2:]
    if width in (1, 3) and min(images.shape[1:3]) >= smallest_side:
        raise InputError(
            f"{name} has shape {tuple(images.shape)}, channels last; give (B, C, H, W): permute(0, 3, 1, 2)"
        )
    if min(height, width) < smallest_side:
        raise InputError(
            f"{name} is {width}x{height} pixels; SSIM is measured in windows of {smallest_side}x{smallest_side}"
        )


def check_maps(name: str, maps: Tensor) -> None:
    """Raise :class:`InputError` unless ``maps`` is (B, H, W) in float32 or float64."""
    _check_tensor(name, maps, ("B", "H", "W"), may_be_empty=True)


def check_same(names: tuple[str, str], first: Tensor, second: Tensor) -> None:
    """Raise :class:`InputError` unless both tensors have one shape, dtype and device."""
    for attribute in ("shape", "dtype", "device"):
        values = getattr(first, attribute), getattr(second, attribute)
        if values[0] != values[1]:
            shown_values = [tuple(value) if attribute == "shape" else value for value in values]
            raise InputError(
                f"{names[0]} and {names[1]} must have the same {attribute}, got {shown_values[0]} and {shown_values[1]}"
            )


def _check_tensor(name: str, tensor: Tensor, axes: tuple[str, ...], *, may_be_empty: bool = False) -> None:
    expected = f"({', '.join(axes)})"
    if not isinstance(tensor, Tensor):
        raise InputError(f"{name} must be a torch tensor {expected}, got {type(tensor).__name__}")
    if tensor.ndim != len(axes) or (not may_be_empty and tensor.numel() == 0):
        raise InputError(f"{name} must have shape {expected}, got {tuple(tensor.shape)}")
    if tensor.dtype not in _VALID_DTYPES:
        raise InputError(f"{name} must be float32 or float64, got {tensor.dtype}; convert it with .float()")


def _radii_per_image(name: str, radius: Any, count: int) -> list[float]:
    if isinstance(radius, (Tensor, np.ndarray)) and radius.ndim > 1:
        raise InputError(f"{name} must be one number or one per image ({count},), got {tuple(radius.shape)}")
    entries = as_list(radius)
    if entries is None or any(as_real(entry) is None for entry in entries):
        raise InputError(f"{name} must be a positive number or one per image, got {shown(radius)}")
    if len(entries) != count:
        raise InputError(f"{name} must be one number or one per image ({count},), got ({len(entries)},)")
    radii = [float(entry) for entry in entries]
    for index, value in enumerate(radii):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} must be positive and finite, got {value} for image {index}")
    return radii
