"""Algebra image by image: products, norms, tests and step lengths of a batch, one number for each image."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Batched = TypeVar("Batched", bound="DataclassInstance")


def per_image(value: Tensor) -> Tensor:
    """``value`` (B,) shaped (B, 1, 1, 1), to multiply images with."""
    return value.reshape(-1, 1, 1, 1)


def inner(first: Tensor, second: Tensor) -> Tensor:
    """Inner product per image: two (B, ...) -> (B,)."""
    return (first * second).flatten(1).sum(dim=1)


def norm(value: Tensor) -> Tensor:
    """Euclidean norm per image: (B, ...) -> (B,)."""
    return torch.linalg.vector_norm(value.flatten(1), dim=1)


def all_finite(value: Tensor) -> Tensor:
    """Whether all numbers of an image are finite: (B, ...) -> (B,) bool."""
    return value.isfinite().reshape(len(value), math.prod(value.shape[1:])).all(dim=1)


def take(batch: Batched, index: Any) -> Batched:
    """A dataclass of tensors that share their first axes, with every field at ``index``, which is any index of them."""
    return replace(batch, **{entry.name: getattr(batch, entry.name)[index] for entry in fields(batch)})


def ball_scale_factor(quadratic: Tensor, linear: Tensor, constant: Tensor) -> Tensor:
    """The largest t in [0, 1] with ``quadratic t^2 - 2 linear t + constant <= 0``, elementwise.

    This is the part of a step u that stays in a ball: for ``|t u - c|^2 <= r^2`` the coefficients are ``|u|^2``,
    ``u'c`` and ``|c|^2 - r^2``. The function needs quadratic >= 0 and constant <= 0, so that t = 0 is inside.
    """
    constant = constant.clamp_max(0)
    root = (linear.square() - quadratic * constant).clamp_min(0).sqrt()
    # (linear + root)/quadratic cancels for linear < 0; the conjugate form does not.
    conjugate = -constant / (root - linear).clamp_min(torch.finfo(root.dtype).tiny)
    direct = (linear + root) / quadratic.clamp_min(torch.finfo(root.dtype).tiny)
    factor = torch.where(linear < 0, conjugate, direct)
    inside = quadratic - 2 * linear + constant <= 0
    return torch.where(inside, torch.ones_like(factor), factor.clamp(0, 1))
