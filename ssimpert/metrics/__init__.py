"""Image quality metrics: the SSIM index, its map and least window, and the global contrast distance."""

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
    "min_window_ssim",
    "ssim",
    "ssim_map",
]
