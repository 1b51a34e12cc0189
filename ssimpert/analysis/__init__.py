"""Maps of a perturbation, class activation maps, and how far they agree, with the controls beside them."""

from ssimpert.analysis.attributions import ATTRIBUTIONS, attribution
from ssimpert.analysis.attributions.grad_cam import grad_cam
from ssimpert.analysis.attributions.grad_cam_variants import grad_cam_plus_plus, guided_grad_cam, hires_cam, layer_cam
from ssimpert.analysis.attributions.gradients import gradient, input_x_gradient, smooth_grad
from ssimpert.analysis.attributions.guided_backprop import deconvolution, guided_backprop
from ssimpert.analysis.attributions.integrated_gradients import (
    PathAttributions,
    integrated_gradients,
    path_attributions,
)
from ssimpert.analysis.attributions.model_randomization import random_labels, randomizable_layers, randomized_model
from ssimpert.analysis.attributions.occlusion import occlusion
from ssimpert.analysis.attributions.postprocessing import CHANNEL_REDUCTIONS
from ssimpert.analysis.attributions.rise import rise
from ssimpert.analysis.comparison import CAMS, AgreementRow, Comparison, compare
from ssimpert.analysis.comparison.scores import MapScores
from ssimpert.analysis.faithfulness import deletion, insertion, insertion_deletion
from ssimpert.analysis.faithfulness.curve import PixelCurve
from ssimpert.analysis.localization import (
    MaxBoxAcc,
    PointingResult,
    ThresholdedBoxes,
    centre_points,
    chance_of_hit,
    difficult_pairs,
    max_box_acc,
    point_game,
    pointing_game,
    thresholded_boxes,
)
from ssimpert.analysis.localization.cross_validation import HeldOutLocalization, choose_alpha, cross_validated, judged
from ssimpert.analysis.localization.mask_agreement import mask_agreement
from ssimpert.analysis.map_agreement import (
    Agreement,
    ShiftNull,
    agreement,
    auc,
    energy_share,
    kl_divergence,
    nss,
    pearson,
    shift_null,
    similarity,
    spearman,
    top_iou,
)
from ssimpert.analysis.perturbation_maps import (
    SALIENCY_KINDS,
    centred_gaussian,
    contribution,
    gradient_magnitude,
    local_std,
    local_variance,
    perceptual_ball_saliency,
    rms,
    saliency,
    saliency_maps,
    ssim_saliency,
)
from ssimpert.analysis.statistics import (
    Interval,
    SignFlipTest,
    agreement_table,
    bootstrap_interval,
    check_table,
    cohens_dz,
    holm,
    paired_differences,
    rank_biserial,
    sign_flip_test,
    summarize,
)
from ssimpert.analysis.statistics.table_file import read_table, write_table

__all__ = [
    "ATTRIBUTIONS",
    "CAMS",
    "CHANNEL_REDUCTIONS",
    "SALIENCY_KINDS",
    "Agreement",
    "AgreementRow",
    "Comparison",
    "HeldOutLocalization",
    "Interval",
    "MapScores",
    "MaxBoxAcc",
    "PathAttributions",
    "PixelCurve",
    "PointingResult",
    "ShiftNull",
    "SignFlipTest",
    "ThresholdedBoxes",
    "agreement",
    "agreement_table",
    "attribution",
    "auc",
    "bootstrap_interval",
    "centre_points",
    "centred_gaussian",
    "chance_of_hit",
    "check_table",
    "choose_alpha",
    "cohens_dz",
    "compare",
    "contribution",
    "cross_validated",
    "deconvolution",
    "deletion",
    "difficult_pairs",
    "energy_share",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "gradient_magnitude",
    "guided_backprop",
    "guided_grad_cam",
    "hires_cam",
    "holm",
    "input_x_gradient",
    "insertion",
    "insertion_deletion",
    "integrated_gradients",
    "judged",
    "kl_divergence",
    "layer_cam",
    "local_std",
    "local_variance",
    "mask_agreement",
    "max_box_acc",
    "nss",
    "occlusion",
    "paired_differences",
    "path_attributions",
    "pearson",
    "perceptual_ball_saliency",
    "point_game",
    "pointing_game",
    "random_labels",
    "randomizable_layers",
    "randomized_model",
    "rank_biserial",
    "read_table",
    "rise",
    "rms",
    "saliency",
    "saliency_maps",
    "shift_null",
    "sign_flip_test",
    "similarity",
    "smooth_grad",
    "spearman",
    "ssim_saliency",
    "summarize",
    "thresholded_boxes",
    "top_iou",
    "write_table",
]
