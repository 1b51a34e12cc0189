"""Grad-CAM: the class activation map that perturbations are compared with.

Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization",
ICCV 2017, equations 1 and 2: weights = spatial mean of d logit / d A_k, map = ReLU(sum_k weight_k A_k).
Computed by captum.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ssimpert.errors import InputError
from ssimpert.metrics.images import check_images


def grad_cam(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    layer: str | nn.Module | None = None,
    normalize: bool = True,
) -> Tensor:
    """Grad-CAM of ``target`` for each image, brought to image size: (B, H, W), nonnegative, detached.

    Args:
        model: a classifier in evaluation mode, images (B, C, H, W) -> logits (B, K).
        images: (B, C, H, W), float32 or float64, in whatever range the model takes ([0, 1] for this
            package's).
        target: the class explained, one for all images or a (B,) tensor of integers.
        layer: the convolution explained: a module of the model, its name, or ``None`` for
            ``model.cam_layer``.
        normalize: min-max each map to [0, 1]; ``False`` leaves it in the logit's units.

    The map of the layer's size is upsampled bilinearly (``align_corners=False``) and then normalised. A map
    that is constant (most often zero everywhere: nothing speaks for the class) has no highest pixel and is
    returned as zeros when normalised; the agreement metrics give NaN for it. Works under ``torch.no_grad``
    and ``torch.inference_mode``, leaves no hook behind, and neither parameters nor ``images`` collect
    gradients.

    Raises:
        InputError: unknown layer, a layer without feature maps, a class that the model doesn't have.
    """
    check_images("images", images)
    # Here and not above: importing captum takes a second, which `ssimpert --help` should not wait for.
    from captum.attr import LayerGradCam

    module = _module(model, layer)
    name = layer if isinstance(layer, str) else type(module).__name__
    with torch.inference_mode(False), torch.enable_grad():
        # A graph is needed even where all parameters are frozen; the clone keeps it off the caller's tensor.
        inputs = images.detach().clone().requires_grad_()
        targets = _targets(target, inputs)

        def checked_logits(batch: Tensor) -> Tensor:
            logits = model(batch)
            _check_classes(targets, logits)
            return logits

        explainer = LayerGradCam(checked_logits, module)
        try:
            coarse = explainer.attribute(inputs, targets, relu_attributions=True)
        except AssertionError as error:
            if "did not obtain any outputs" not in str(error):
                raise
            raise InputError(f"layer {name!r} does not run in the model's forward pass") from error
    if not isinstance(coarse, Tensor) or coarse.ndim != 4:
        shape = tuple(coarse.shape) if isinstance(coarse, Tensor) else f"{len(coarse)} outputs"
        raise InputError(f"layer {name!r} has no feature maps (B, K, h, w); its attribution is {shape}")
    coarse = coarse.detach()
    cam = interpolate(coarse, size=tuple(images.shape[-2:]), mode="bilinear", align_corners=False)[:, 0]
    return _min_max(cam, coarse[:, 0]) if normalize else cam


def _min_max(cam: Tensor, coarse: Tensor) -> Tensor:
    """Min-max per map. ``coarse`` decides what is constant: upsampling a constant leaves rounding noise,
    which min-max would blow up to a full-range map. NaN stays NaN."""
    low, high = cam.amin(dim=(1, 2), keepdim=True), cam.amax(dim=(1, 2), keepdim=True)
    constant = (coarse.amax(dim=(1, 2), keepdim=True) == coarse.amin(dim=(1, 2), keepdim=True)) | (high == low)
    return torch.where(constant, torch.zeros_like(cam), (cam - low) / torch.where(constant, 1.0, high - low))


def _module(model: nn.Module, layer: str | nn.Module | None) -> nn.Module:
    if isinstance(layer, nn.Module):
        return layer
    if layer is None:
        layer = getattr(model, "cam_layer", None)
        if not isinstance(layer, str):
            raise InputError(f"{type(model).__name__} has no cam_layer; name the convolution with layer=")
    named = getattr(model, "layer", None)
    if callable(named) and not isinstance(named, nn.Module):
        return named(layer)
    modules = dict(model.named_modules())
    if layer not in modules or layer == "":
        raise InputError(f"unknown layer {layer!r}; the model has {', '.join(filter(None, modules))}")
    return modules[layer]


def _targets(target: int | Tensor, images: Tensor) -> Tensor:
    count = images.shape[0]
    if isinstance(target, int) and not isinstance(target, bool):
        return torch.full((count,), target, device=images.device)
    if not isinstance(target, Tensor) or target.dtype not in (torch.int64, torch.int32):
        got = target.dtype if isinstance(target, Tensor) else repr(target)
        raise InputError(f"target must be a class number or a tensor of {count} integers, got {got}")
    if target.shape != (count,):
        raise InputError(f"target must have shape ({count},), one class an image, got {tuple(target.shape)}")
    return target.to(images.device, torch.int64)


def _check_classes(targets: Tensor, logits: Tensor) -> None:
    classes = logits.shape[-1]
    wrong = targets[(targets < 0) | (targets >= classes)]
    if len(wrong):
        raise InputError(f"target class {int(wrong[0])} does not exist; the model has classes 0 to {classes - 1}")
