"""Relatives of Grad-CAM: other weightings of one layer's activations by the logit's gradient.

With A_k the layer's feature maps and g_k = d logit / d A_k, every map is ReLU(sum_k of a weighting of A_k):

* Grad-CAM (:func:`ssimpert.analysis.grad_cam`): spatial mean of g_k, times A_k;
* Grad-CAM++ (:func:`grad_cam_plus_plus`): a weighted sum of ReLU(g_k), times A_k;
* HiResCAM (:func:`hires_cam`): g_k A_k, pixel by pixel;
* LayerCAM (:func:`layer_cam`): ReLU(g_k) A_k, pixel by pixel;
* guided Grad-CAM (:func:`guided_grad_cam`): Grad-CAM times guided backpropagation, at the image's resolution.

All take and give what Grad-CAM does: images (B, C, H, W) in the model's range -> (B, H, W), detached; the layer's map
is made nonnegative, upsampled bilinearly (``align_corners=False``) and, by default, min-max scaled per image, a
constant map to zeros. Raises as :func:`ssimpert.analysis.attributions.layer_gradients.layer_gradients`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.grad_cam import grad_cam
from ssimpert.analysis.attributions.guided_backprop import rectified_gradient
from ssimpert.analysis.attributions.layer_gradients import layer_gradients
from ssimpert.analysis.attributions.postprocessing import check_channels, image_sized, min_max, reduce_channels
from ssimpert.validation import check_images


def grad_cam_plus_plus(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    layer: str | nn.Module | None = None,
    normalize: bool = True,
) -> Tensor:
    """Grad-CAM++ (Chattopadhay et al., WACV 2018), the closed form for the score Y = exp(logit): (B, H, W).

    The weights are w_k = sum over pixels of alpha_k ReLU(dY / dA_k) with (equation 19, g = d logit / d A)
    alpha_k = g_k^2 / (2 g_k^2 + g_k^3 sum_ab A_k,ab). Only pixels with g_k > 0 count, where
    alpha_k = 1 / (2 + g_k sum_ab A_k,ab): that is how it is computed, for g^3 underflows. dY / dA_k = exp(logit) g_k;
    the factor exp(logit), one number an image, is left out, so maps that are not normalised are in the logit's units.
    The alphas are as in the paper; its released code also divides them by their sum over each feature map.
    Where the denominator is exactly zero (only a layer with negative activations can make it so) alpha is 0.
    """
    check_images("images", images)
    found = layer_gradients(model, images, target, layer)
    total = found.activation.sum(dim=(2, 3), keepdim=True)
    positive = found.gradient.clamp(min=0)
    denominator = 2 + positive * total
    alpha = torch.where(denominator == 0, torch.zeros_like(denominator), 1 / denominator)
    weights = (alpha * positive).sum(dim=(2, 3), keepdim=True)
    return image_sized((weights * found.activation).sum(dim=1).clamp(min=0), images, normalize)


def hires_cam(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    layer: str | nn.Module | None = None,
    normalize: bool = True,
) -> Tensor:
    """HiResCAM (Draelos, Carin, arXiv 2011.08891, 2020): ReLU(sum_k g_k A_k), (B, H, W).

    Before the ReLU the layer's map sums to the logit, up to a bias, where only linear layers follow.
    """
    check_images("images", images)
    found = layer_gradients(model, images, target, layer)
    return image_sized((found.gradient * found.activation).sum(dim=1).clamp(min=0), images, normalize)


def layer_cam(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    layer: str | nn.Module | None = None,
    normalize: bool = True,
) -> Tensor:
    """LayerCAM (Jiang et al., IEEE TIP 2021, equations 6 and 7): ReLU(sum_k ReLU(g_k) A_k), (B, H, W)."""
    check_images("images", images)
    found = layer_gradients(model, images, target, layer)
    return image_sized((found.gradient.clamp(min=0) * found.activation).sum(dim=1).clamp(min=0), images, normalize)


def guided_grad_cam(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    layer: str | nn.Module | None = None,
    normalize: bool = True,
    channels: str = "max",
) -> Tensor:
    """Guided Grad-CAM (Selvaraju et al., ICCV 2017, section 3.2): Grad-CAM times guided backpropagation, (B, H, W).

    As captum's ``GuidedGradCam`` with bilinear instead of nearest upsampling (the paper's), and with guided
    backpropagation through every ReLU and ReLU6, not only through modules of type ``nn.ReLU``
    (:mod:`ssimpert.analysis.attributions.guided_backprop`).

    Args:
        channels: how the product's channels become one map; default ``"max"``, the largest magnitude, as for guided
            backpropagation (:func:`ssimpert.analysis.attributions.postprocessing.reduce_channels`).
    """
    check_images("images", images)
    check_channels(channels)
    guided = rectified_gradient(model, images, target, guided=True)
    maps = reduce_channels(guided * grad_cam(model, images, target, layer, normalize=False)[:, None], channels)
    return min_max(maps) if normalize else maps
