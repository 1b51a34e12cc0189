"""Maps that point nowhere. The benchmarks never let one score: it is named with its reason instead."""

from __future__ import annotations

import torch
from torch import Tensor

NOT_FINITE = "the map has values that are not finite"
CONSTANT = "the map is constant"


def degenerate_reasons(maps: Tensor) -> tuple[str | None, ...]:
    """Why each map of (B, H, W) ranks no pixel above another: not finite, or constant; ``None`` where it does rank."""
    flat = maps.detach().flatten(1)
    finite = flat.isfinite().all(dim=1).tolist()
    constant = (flat.amax(dim=1) == flat.amin(dim=1)).tolist()
    return tuple(
        NOT_FINITE if not sound else CONSTANT if same else None for sound, same in zip(finite, constant, strict=True)
    )


def ranks_pixels(reasons: tuple[str | None, ...], device: torch.device) -> Tensor:
    """(B,) bool: True where there is no reason against the map."""
    return torch.tensor([reason is None for reason in reasons], dtype=torch.bool, device=device)
