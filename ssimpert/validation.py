"""What functions accept as images, maps, counts, seeds and positive numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssimpert.errors import InputError

_EXACT_ENOUGH = (torch.float32, torch.float64)


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raise :class:`InputError` unless ``value`` is an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} must be an integer of at least {least}, got {value!r}")


def check_seed(seed: int) -> None:
    """Raise :class:`InputError` unless ``seed`` is an integer from 0 to 2**63 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"seed must be an integer from 0 to 2**63 - 1, got {seed!r}")


def check_images(name: str, images: Tensor) -> None:
    """Raise :class:`InputError` unless ``images`` is (B, C, H, W), not empty, in float32 or float64.

    Half precision and integers are refused, not converted: an SSIM index in float16 exceeds 1 (protocols,
    section 1), and the range of an integer image would have to be guessed.
    """
    _check(name, images, ("B", "C", "H", "W"))


def check_maps(name: str, maps: Tensor) -> None:
    """Raise :class:`InputError` unless ``maps`` is (B, H, W) in float32 or float64."""
    _check(name, maps, ("B", "H", "W"), empty=True)


def check_same(names: tuple[str, str], first: Tensor, second: Tensor) -> None:
    """Raise :class:`InputError` unless both tensors have one shape, dtype and device."""
    for what in ("shape", "dtype", "device"):
        left, right = getattr(first, what), getattr(second, what)
        if left != right:
            left, right = (tuple(v) if what == "shape" else v for v in (left, right))
            raise InputError(f"{names[0]} and {names[1]} must have the same {what}, got {left} and {right}")


def check_positive(name: str, value: float) -> float:
    """``value`` as a float; :class:`InputError` unless it is a positive finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} must be a positive number, got {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} must be positive and finite, got {value!r}")
    return float(value)


def _check(name: str, tensor: Tensor, axes: tuple[str, ...], *, empty: bool = False) -> None:
    expected = f"({', '.join(axes)})"
    if not isinstance(tensor, Tensor):
        raise InputError(f"{name} must be a torch tensor {expected}, got {type(tensor).__name__}")
    if tensor.ndim != len(axes) or (not empty and tensor.numel() == 0):
        raise InputError(f"{name} must have shape {expected}, got {tuple(tensor.shape)}")
    if tensor.dtype not in _EXACT_ENOUGH:
        raise InputError(f"{name} must be float32 or float64, got {tensor.dtype}; convert it with .float()")
