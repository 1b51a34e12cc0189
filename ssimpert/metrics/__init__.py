"""How far two images are apart.

Found here: the SSIM index, its map and least window, and the global contrast distance (``ssim``), the distance of a
classifier's own deep features (``feature_distance``), and LPIPS (``lpips``).
"""

from ssimpert.metrics.feature_distance import feature_distance
from ssimpert.metrics.lpips import lpips_distance
from ssimpert.metrics.ssim import (
    STANDARD_WINDOW,
    contrast_distance,
    dissimilarity_map,
    min_window_ssim,
    ssim,
    ssim_map,
)

__all__ = [
    "STANDARD_WINDOW",
    "contrast_distance",
    "dissimilarity_map",
    "feature_distance",
    "lpips_distance",
    "min_window_ssim",
    "ssim",
    "ssim_map",
]
