"""How perturbations and maps are scaled to be seen: the same in figures, on pages and in notebooks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

COLOUR_MAP = "viridis"
# The part of a map's pixels that may lie above its colours, so that a single pixel does not darken all others.
TOP_PERCENTILE = 99.9


def amplification(delta: NDArray[np.floating]) -> float:
    """The largest of 1, 2, 5 times a power of ten that keeps the 99.5th percentile of |delta| within 0.5."""
    large = float(np.percentile(np.abs(delta), 99.5))
    if not (math.isfinite(large) and large > 0):
        return 1.0
    largest_factor = 0.5 / large
    power = 10.0 ** math.floor(math.log10(largest_factor))
    return max(step * power for step in (1, 2, 5) if step * power <= largest_factor * (1 + 1e-9))


def coloured_map(values: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
    """A map (H, W), not negative, in colours (H, W, 3) in [0, 1] from 0 to its 99.9th percentile; also this value.

    NaN and infinity are shown as 0.
    """
    import matplotlib

    finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    top = float(np.percentile(finite, TOP_PERCENTILE))
    scaled = np.clip(finite / top, 0, 1) if top > 0 else np.zeros_like(finite)
    return matplotlib.colormaps[COLOUR_MAP](scaled)[..., :3], top


def eight_bits(pixels: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Pixels cut to [0, 1] and rounded to 8 bits."""
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
