"""Saliency maps of a perturbation, and the maps that serve as controls."""

from ssimpert.analysis.perturbation_maps.controls import centred_gaussian, gradient_magnitude, local_std, local_variance
from ssimpert.analysis.perturbation_maps.saliency import (
    SALIENCY_KINDS,
    contribution,
    perceptual_ball_saliency,
    rms,
    saliency,
    saliency_maps,
    ssim_saliency,
)

__all__ = [
    "SALIENCY_KINDS",
    "centred_gaussian",
    "contribution",
    "gradient_magnitude",
    "local_std",
    "local_variance",
    "perceptual_ball_saliency",
    "rms",
    "saliency",
    "saliency_maps",
    "ssim_saliency",
]
