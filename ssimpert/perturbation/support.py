"""Where a perturbation may live."""

from __future__ import annotations

import torch
from torch import Tensor

import solvers
from ssimpert.errors import InputError


def region_of(support: Tensor | None, image: Tensor) -> solvers.Support | None:
    """The set of perturbations that vanish where ``support`` is False; ``None`` where there is no mask.

    Args:
        support: bool, (H, W), (C, H, W) or (B, C or 1, H, W), True where pixels may change.

    Raises:
        InputError: not a mask, or one that leaves an image no pixel.
        solvers.ProblemError: a shape that does not fit ``image`` (B, C, H, W).
    """
    if support is None:
        return None
    if not isinstance(support, Tensor) or support.dtype != torch.bool:
        got = f"a tensor of {support.dtype}" if isinstance(support, Tensor) else type(support).__name__
        raise InputError(f"support must be a bool tensor, True where pixels may change, got {got}")
    region = solvers.Support(support)
    region.check(image)
    if not bool(support.expand(image.shape).flatten(1).any(dim=1).all()):
        raise InputError("support is False everywhere for an image: no pixel may change")
    return region


def share_of(support: Tensor | None) -> float | None:
    """The share of pixels that may change, for records."""
    return None if support is None else float(support.to(torch.float64).mean())
