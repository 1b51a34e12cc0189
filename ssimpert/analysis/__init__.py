"""Maps of a perturbation, class activation maps, how far they agree, with the controls beside them, and benchmarks."""

from ssimpert.analysis.agreement import agreement, pearson, spearman, top_iou
from ssimpert.analysis.cam import grad_cam
from ssimpert.analysis.compare import AgreementRow, Comparison, compare
from ssimpert.analysis.controls import gradient_magnitude, local_std
from ssimpert.analysis.held_out import HeldOutLocalization, choose_alpha, cross_validated, judged
from ssimpert.analysis.insertion_deletion import PixelCurve, deletion, insertion
from ssimpert.analysis.max_box_acc import MaxBoxAcc, max_box_acc
from ssimpert.analysis.pointing import (
    PointingResult,
    centre_points,
    chance_of_hit,
    difficult_pairs,
    point_game,
    pointing_game,
)
from ssimpert.analysis.saliency import (
    SALIENCY_KINDS,
    contribution,
    perceptual_ball_saliency,
    rms,
    saliency,
    saliency_maps,
    ssim_saliency,
)
from ssimpert.analysis.thresholded_boxes import ThresholdedBoxes, thresholded_boxes

__all__ = [
    "SALIENCY_KINDS",
    "AgreementRow",
    "Comparison",
    "HeldOutLocalization",
    "MaxBoxAcc",
    "PixelCurve",
    "PointingResult",
    "ThresholdedBoxes",
    "agreement",
    "centre_points",
    "chance_of_hit",
    "choose_alpha",
    "compare",
    "contribution",
    "cross_validated",
    "deletion",
    "difficult_pairs",
    "grad_cam",
    "gradient_magnitude",
    "insertion",
    "judged",
    "local_std",
    "max_box_acc",
    "pearson",
    "perceptual_ball_saliency",
    "point_game",
    "pointing_game",
    "rms",
    "saliency",
    "saliency_maps",
    "spearman",
    "ssim_saliency",
    "thresholded_boxes",
    "top_iou",
]
