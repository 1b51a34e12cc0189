"""Relatives of Grad-CAM: other weightings of one layer's activations by the gradient of the logit.

With A_k the feature maps of the layer and g_k = d logit / d A_k, every map is ReLU(sum_k w_k A_k) with weights w_k:

* Grad-CAM (:func:`ssimpert.analysis.grad_cam`): w_k is the spatial mean of g_k;
* Grad-CAM++ (:func:`grad_cam_plus_plus`): w_k is a weighted sum of ReLU(g_k);
* HiResCAM (:func:`hires_cam`): w_k is g_k, pixel by pixel;
* LayerCAM (:func:`layer_cam`): w_k is ReLU(g_k), pixel by pixel.

Guided Grad-CAM (:func:`guided_grad_cam`) is Grad-CAM times guided backpropagation, at the resolution of the image.

All functions take what Grad-CAM takes and give what Grad-CAM gives: a map (B, H, W) for images (B, C, H, W) in the
range of the model, detached. The map of the layer is made nonnegative, upsampled bilinearly (``align_corners=False``)
and, by default, min-max scaled for each image; a constant map becomes zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.grad_cam import grad_cam
from ssimpert.analysis.attributions.guided_backprop import rectified_gradient
from ssimpert.analysis.attributions.layer_gradients import layer_gradients, mapped_layer
from ssimpert.analysis.attributions.postprocessing import check_channels, image_sized, min_max, reduce_channels
from ssimpert.models.entry_points import takes_model
from ssimpert.models.layouts import Layout
from ssimpert.validation import check_images


@takes_model
def grad_cam_plus_plus(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    layer: str | nn.Module | None = None,
    normalize: bool = True,
    *,
    layout: Layout | None = None,
    prefix_tokens: int | None = None,
) -> Tensor:
    """Grad-CAM++ (Chattopadhay et al., WACV 2018), the closed form for the score Y = exp(logit): (B, H, W).

    The weights are w_k = sum over pixels of alpha_k ReLU(dY / dA_k), where by equation 19
    alpha_k = g_k^2 / (2 g_k^2 + g_k^3 sum_ab A_k,ab). Only pixels with g_k > 0 count, and there
    alpha_k = 1 / (2 + g_k sum_ab A_k,ab). The second form is computed, because g^3 underflows.

    dY / dA_k is exp(logit) g_k. The factor exp(logit) is one number for each image and is left out, so that a map that
    is not scaled is in the units of the logit. The alphas are those of the paper; the released code also divides them
    by their sum over each feature map. Where the denominator is exactly 0, alpha is 0; only a layer with negative
    activations can make it 0.

    Args:
        model, images, target, layer, normalize, layout, prefix_tokens: as for :func:`~ssimpert.analysis.grad_cam`.

    Raises:
        InputError: as :func:`~ssimpert.analysis.grad_cam`.
    """
    check_images("images", images)
    layer_values = layer_gradients(model, images, target, mapped_layer(model, layer, images, layout, prefix_tokens))
    total = layer_values.activation.sum(dim=(2, 3), keepdim=True)
    positive = layer_values.gradient.clamp(min=0)
    denominator = 2 + positive * total
    alpha = torch.where(denominator == 0, torch.zeros_like(denominator), 1 / denominator)
    weights = (alpha * positive).sum(dim=(2, 3), keepdim=True)
    return image_sized((weights * layer_values.activation).sum(dim=1).clamp(min=0), images, normalize)


@takes_model
def hires_cam(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    layer: str | nn.Module | None = None,
    normalize: bool = True,
    *,
    layout: Layout | None = None,
    prefix_tokens: int | None = None,
) -> Tensor:
    """HiResCAM (Draelos, Carin, arXiv 2011.08891, 2020): ReLU(sum_k g_k A_k), (B, H, W).

    Where only linear layers follow, the map of the layer before the ReLU sums to the logit, up to a bias.

    Args:
        model, images, target, layer, normalize, layout, prefix_tokens: as for :func:`~ssimpert.analysis.grad_cam`.

    Raises:
        InputError: as :func:`~ssimpert.analysis.grad_cam`.
    """
    check_images("images", images)
    layer_values = layer_gradients(model, images, target, mapped_layer(model, layer, images, layout, prefix_tokens))
    return image_sized((layer_values.gradient * layer_values.activation).sum(dim=1).clamp(min=0), images, normalize)


@takes_model
def layer_cam(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    layer: str | nn.Module | None = None,
    normalize: bool = True,
    *,
    layout: Layout | None = None,
    prefix_tokens: int | None = None,
) -> Tensor:
    """LayerCAM (Jiang et al., IEEE TIP 2021, equations 6 and 7): ReLU(sum_k ReLU(g_k) A_k), (B, H, W).

    Args:
        model, images, target, layer, normalize, layout, prefix_tokens: as for :func:`~ssimpert.analysis.grad_cam`.

    Raises:
        InputError: as :func:`~ssimpert.analysis.grad_cam`.
    """
    check_images("images", images)
    layer_values = layer_gradients(model, images, target, mapped_layer(model, layer, images, layout, prefix_tokens))
    return image_sized(
        (layer_values.gradient.clamp(min=0) * layer_values.activation).sum(dim=1).clamp(min=0), images, normalize
    )


@takes_model
def guided_grad_cam(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    layer: str | nn.Module | None = None,
    normalize: bool = True,
    channels: str = "max",
    *,
    layout: Layout | None = None,
    prefix_tokens: int | None = None,
) -> Tensor:
    """Guided Grad-CAM (Selvaraju et al., ICCV 2017, section 3.2): Grad-CAM times guided backpropagation, (B, H, W).

    Captum's ``GuidedGradCam`` differs in two points: it upsamples to the nearest pixel, where the paper and this
    function are bilinear, and it guides modules of type ``nn.ReLU`` only, where this function guides every ReLU and
    ReLU6 (:mod:`ssimpert.analysis.attributions.guided_backprop`).

    Args:
        model, images, target, layer, normalize, layout, prefix_tokens: as for :func:`~ssimpert.analysis.grad_cam`.
        channels: how the channels of the product become one map, a name in
            :data:`ssimpert.analysis.CHANNEL_REDUCTIONS`; default ``"max"``, the largest magnitude.

    Raises:
        InputError: as :func:`~ssimpert.analysis.grad_cam`, and an unknown reduction.
    """
    check_images("images", images)
    check_channels(channels)
    guided = rectified_gradient(model, images, target, guided=True)
    cam = grad_cam(model, images, target, layer, normalize=False, layout=layout, prefix_tokens=prefix_tokens)
    maps = reduce_channels(guided * cam[:, None], channels)
    return min_max(maps) if normalize else maps
