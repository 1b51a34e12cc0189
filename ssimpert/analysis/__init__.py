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
from ssimpert.analysis.bootstrap import Interval, bootstrap_interval
from ssimpert.analysis.cam import grad_cam
from ssimpert.analysis.compare import AgreementRow, Comparison, compare
from ssimpert.analysis.controls import centred_gaussian, gradient_magnitude, local_std, local_variance
from ssimpert.analysis.paired_tests import SignFlipTest, cohens_dz, holm, rank_biserial, sign_flip_test
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
from ssimpert.analysis.statistics import paired_differences, summarize
from ssimpert.analysis.table import agreement_table, check_table
from ssimpert.analysis.table_file import read_table, write_table

__all__ = [
    "SALIENCY_KINDS",
    "Agreement",
    "AgreementRow",
    "Comparison",
    "Interval",
    "ShiftNull",
    "SignFlipTest",
    "agreement",
    "agreement_table",
    "auc",
    "bootstrap_interval",
    "centred_gaussian",
    "check_table",
    "cohens_dz",
    "compare",
    "contribution",
    "energy_share",
    "grad_cam",
    "gradient_magnitude",
    "holm",
    "kl_divergence",
    "local_std",
    "local_variance",
    "nss",
    "paired_differences",
    "pearson",
    "perceptual_ball_saliency",
    "random_labels",
    "randomizable_layers",
    "randomized_model",
    "rank_biserial",
    "read_table",
    "rms",
    "saliency",
    "saliency_maps",
    "shift_null",
    "sign_flip_test",
    "similarity",
    "spearman",
    "ssim_saliency",
    "summarize",
    "top_iou",
    "write_table",
]
