"""Maps that rank no pixel above another: constant maps, and maps with a value that is not finite.

Such a map says nothing about *where*. The metrics and the benchmarks therefore never give it a score: they name it with
a reason instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.batch_algebra import all_finite

NOT_FINITE = "the map has values that are not finite"
CONSTANT = "the map is constant"


def is_constant(maps: Tensor) -> Tensor:
    """(B,) bool: whether all values of a map are equal; False where one is NaN. ``maps``: (B, H, W), or flat (B, N),
    with at least one pixel."""
    flat = maps.flatten(1)
    return flat.amax(dim=1) == flat.amin(dim=1)


def degenerate_reasons(maps: Tensor) -> tuple[str | None, ...]:
    """For each map of (B, H, W) the reason why it ranks no pixel above another; ``None`` where it does rank pixels."""
    detached = maps.detach()
    finite, constant = all_finite(detached).tolist(), is_constant(detached).tolist()
    return tuple(
        NOT_FINITE if not map_is_finite else CONSTANT if map_is_constant else None
        for map_is_finite, map_is_constant in zip(finite, constant, strict=True)
    )


def ranks_pixels(reasons: tuple[str | None, ...], device: torch.device) -> Tensor:
    """(B,) bool on ``device``: True where :func:`degenerate_reasons` has no reason against the map."""
    return torch.tensor([reason is None for reason in reasons], dtype=torch.bool, device=device)
