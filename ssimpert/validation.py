"""What counts as a valid image, map, count, seed and positive number. Every package asks here."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssimpert.errors import InputError

_VALID_DTYPES = (torch.float32, torch.float64)


def check_count(name: str, value: int, minimum: int = 1) -> None:
    """Raise :class:`InputError` unless ``value`` is an integer of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise InputError(f"{name} must be an integer of at least {minimum}, got {value!r}")


def check_seed(seed: int) -> None:
    """Raise :class:`InputError` unless ``seed`` is an integer from 0 to 2**63 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"seed must be an integer from 0 to 2**63 - 1, got {seed!r}")


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
            shown = [tuple(value) if attribute == "shape" else value for value in values]
            raise InputError(f"{names[0]} and {names[1]} must have the same {attribute}, got {shown[0]} and {shown[1]}")


def check_positive(name: str, value: float) -> float:
    """Return ``value`` as a float; raise :class:`InputError` unless ``value`` is a positive finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} must be a positive number, got {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} must be positive and finite, got {value!r}")
    return float(value)


def _check_tensor(name: str, tensor: Tensor, axes: tuple[str, ...], *, may_be_empty: bool = False) -> None:
    expected = f"({', '.join(axes)})"
    if not isinstance(tensor, Tensor):
        raise InputError(f"{name} must be a torch tensor {expected}, got {type(tensor).__name__}")
    if tensor.ndim != len(axes) or (not may_be_empty and tensor.numel() == 0):
        raise InputError(f"{name} must have shape {expected}, got {tuple(tensor.shape)}")
    if tensor.dtype not in _VALID_DTYPES:
        raise InputError(f"{name} must be float32 or float64, got {tensor.dtype}; convert it with .float()")
