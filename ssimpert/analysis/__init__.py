"""Maps of a perturbation, class activation maps, and how far they agree, with the controls beside them."""

from ssimpert.analysis.agreement import agreement, pearson, spearman, top_iou
from ssimpert.analysis.attributions import ATTRIBUTIONS, attribution
from ssimpert.analysis.cam import grad_cam
from ssimpert.analysis.cam_family import grad_cam_plus_plus, guided_grad_cam, hires_cam, layer_cam
from ssimpert.analysis.channel_reduction import CHANNEL_REDUCTIONS
from ssimpert.analysis.compare import AgreementRow, Comparison, compare
from ssimpert.analysis.controls import gradient_magnitude, local_std
from ssimpert.analysis.input_gradients import gradient, input_x_gradient, smooth_grad
from ssimpert.analysis.integrated_gradients import PathAttributions, integrated_gradients, path_attributions
from ssimpert.analysis.occlusion import occlusion
from ssimpert.analysis.rectified_gradients import deconvolution, guided_backprop
from ssimpert.analysis.rise import rise
from ssimpert.analysis.saliency import (
    SALIENCY_KINDS,
    contribution,
    perceptual_ball_saliency,
    rms,
    saliency,
    saliency_maps,
    ssim_saliency,
)

__all__ = [
    "ATTRIBUTIONS",
    "CHANNEL_REDUCTIONS",
    "SALIENCY_KINDS",
    "AgreementRow",
    "Comparison",
    "PathAttributions",
    "agreement",
    "attribution",
    "compare",
    "contribution",
    "deconvolution",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "gradient_magnitude",
    "guided_backprop",
    "guided_grad_cam",
    "hires_cam",
    "input_x_gradient",
    "integrated_gradients",
    "layer_cam",
    "local_std",
    "occlusion",
    "path_attributions",
    "pearson",
    "perceptual_ball_saliency",
    "rise",
    "rms",
    "saliency",
    "saliency_maps",
    "smooth_grad",
    "spearman",
    "ssim_saliency",
    "top_iou",
]
