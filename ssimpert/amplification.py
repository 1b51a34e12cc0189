"""By which factor a perturbation is amplified, so that it can be seen."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def amplification(delta: NDArray[np.floating]) -> float:
    """The largest of 1, 2, 5 times a power of ten that keeps the 99.5th percentile of |delta| within 0.5."""
    large = float(np.percentile(np.abs(delta), 99.5))
    if not (math.isfinite(large) and large > 0):
        return 1.0
    largest_factor = 0.5 / large
    power = 10.0 ** math.floor(math.log10(largest_factor))
    return max(step * power for step in (1, 2, 5) if step * power <= largest_factor * (1 + 1e-9))
