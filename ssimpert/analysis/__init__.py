"""Maps of a perturbation, class activation maps, and how far they agree, with the controls beside them."""

from ssimpert.analysis.agreement import (
    Agreement,
    agreement,
    auc,
    energy_share,
    kl_divergence,
    nss,
    pearson,
    similarity,
    spearman,
    top_iou,
)
from ssimpert.analysis.cam import grad_cam
from ssimpert.analysis.compare import AgreementRow, Comparison, compare
from ssimpert.analysis.controls import centred_gaussian, gradient_magnitude, local_std, local_variance
from ssimpert.analysis.randomization import random_labels, randomizable_layers, randomized_model
from ssimpert.analysis.saliency import (
    SALIENCY_KINDS,
    contribution,
    perceptual_ball_saliency,
    rms,
    saliency,
    saliency_maps,
    ssim_saliency,
)
from ssimpert.analysis.shift_null import ShiftNull, shift_null

__all__ = [
    "SALIENCY_KINDS",
    "Agreement",
    "AgreementRow",
    "Comparison",
    "ShiftNull",
    "agreement",
    "auc",
    "centred_gaussian",
    "compare",
    "contribution",
    "energy_share",
    "grad_cam",
    "gradient_magnitude",
    "kl_divergence",
    "local_std",
    "local_variance",
    "nss",
    "pearson",
    "perceptual_ball_saliency",
    "random_labels",
    "randomizable_layers",
    "randomized_model",
    "rms",
    "saliency",
    "saliency_maps",
    "shift_null",
    "similarity",
    "spearman",
    "ssim_saliency",
    "top_iou",
]
