"""How far two images are apart: the SSIM index, its map and least window, the global contrast distance, distances of
deep features."""

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
