"""What figures call methods, maps and metrics."""
# ruff: noqa: RUF001 - the minus sign is drawn

from __future__ import annotations

CAM_NAMES = {
    "grad_cam": "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "guided_grad_cam": "guided Grad-CAM",
}
MAP_NAMES = {
    "rms": "rms of d",
    "ssim": "1 − SSIM",
    "contribution": "contribution g·d",
    "gradient_magnitude": "gradient magnitude",
    "local_std": "local std of the photo",
    "local_variance": "local variance of the photo",
    "centred_gaussian": "centred Gaussian",
    **CAM_NAMES,
    "gradient": "gradient",
    "input_x_gradient": "input × gradient",
    "smooth_grad": "SmoothGrad",
    "integrated_gradients": "integrated gradients",
    "occlusion": "occlusion",
    "deconvolution": "deconvolution",
    "guided_backprop": "guided backprop",
    "rise": "RISE",
}
METRIC_NAMES = {
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "similarity": "SIM",
    "kl_divergence": "KL divergence",
    "nss": "NSS",
    "auc": "AUC",
    "top20_iou": "IoU of the top 20% of pixels",
    "energy_share": "energy where CAM ≥ 0.5",
    "energy_over_area": "energy in object / area",
    "pointing_hit": "pointing hit",
    "best_box_iou": "best box IoU",
    "insertion_auc": "insertion AUC",
    "deletion_auc": "deletion AUC",
}


def map_name(kind: str) -> str:
    """The name of a kind of map in figures. An unknown kind keeps its name, with spaces for underscores."""
    return MAP_NAMES.get(kind, kind.replace("_", " "))


def metric_name(metric: str) -> str:
    """The name of a metric in figures. An unknown metric keeps its name, with spaces for underscores."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def method_and_map(method: str, kind: str) -> str:
    """The method and its map, or the map alone where both have the same name."""
    same = method.replace("_", " ").lower() == kind.replace("_", " ")
    return map_name(kind) if same else f"{method}, {map_name(kind)}"
