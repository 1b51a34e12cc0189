"""Calls of metrics."""

from __future__ import annotations

from ssimpert import metrics
from tests.ssimpert.analysis.example import example_images
from tests.ssimpert.numbers_of_any_kind.inputs import TOKEN_LAYER, WINDOW, Calls, features, image, near, transformer

CALLS: Calls = {
    "ssimpert.feature_distance": (
        lambda **o: metrics.feature_distance(features(), image(), near(), **o),
        {"chunk": 1},
    ),
    "ssimpert.feature_distance: tokens": (
        lambda **o: metrics.feature_distance(transformer(), image(), near(), [TOKEN_LAYER], **o),
        {"prefix_tokens": 5, "chunk": 1},
    ),
    "ssimpert.lpips_distance": (
        lambda **o: metrics.lpips_distance(example_images(2), example_images(2).flip(0), "random", **o),
        {"chunk": 1},
    ),
    **{
        f"ssimpert.metrics.{name}": (
            lambda name=name, **o: getattr(metrics, name)(image(), near(), window=WINDOW, **o),
            {"data_range": 2.0},
        )
        for name in ("ssim", "ssim_map", "dissimilarity_map", "min_window_ssim")
    },
    "ssimpert.metrics.contrast_distance": (
        lambda **o: metrics.contrast_distance(image(), near(), **o),
        {"constant": 0.5, "pixel_scale": 1.5},
    ),
}
