"""Grad-CAM: the class activation map that perturbations are compared with.

Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization",
ICCV 2017, equations 1 and 2: weights = spatial mean of d logit / d A_k, map = ReLU(sum_k weight_k A_k).
Computed by captum.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.class_targets import checked_logits, class_targets
from ssimpert.analysis.attributions.layer_gradients import find_layer, layer_name, leads_nowhere, runs_often
from ssimpert.analysis.attributions.postprocessing import image_sized
from ssimpert.errors import InputError
from ssimpert.models.forward_passes import batch_size_for, in_chunks
from ssimpert.validation import check_images


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
        InputError: unknown layer; a layer that does not run, runs more than once, has no feature maps (B, K, h, w) or
            does not lead to the logits; a class that the model doesn't have.
    """
    check_images("images", images)
    # Here and not above: importing captum takes a second, which `ssimpert --help` should not wait for.
    from captum.attr import LayerGradCam

    module = find_layer(model, layer)
    name = layer_name(layer, module)
    targets = class_targets(target, images)
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    def one(batch: Tensor, classes: Tensor) -> tuple[Tensor]:
        nonlocal runs
        runs = 0
        # A graph is needed even where all parameters are frozen; the clone keeps it off the caller's tensor.
        inputs = batch.detach().clone().requires_grad_()
        explainer = LayerGradCam(checked_logits(model, classes), module)
        try:
            coarse = explainer.attribute(inputs, classes, relu_attributions=True)
        except AssertionError as error:
            if "did not obtain any outputs" not in str(error):
                raise
            raise InputError(f"layer {name!r} does not run in the model's forward pass") from error
        except RuntimeError as error:
            if "allow_unused" not in str(error) and "does not require grad" not in str(error):
                raise
            raise leads_nowhere(name) from error
        if runs > 1:  # of which captum keeps one
            raise runs_often(name, runs)
        if not isinstance(coarse, Tensor) or coarse.ndim != 4:
            shape = tuple(coarse.shape) if isinstance(coarse, Tensor) else f"{len(coarse)} outputs"
            raise InputError(f"layer {name!r} has no feature maps (B, K, h, w); its attribution is {shape}")
        return (coarse.detach()[:, 0],)

    handle = module.register_forward_hook(count)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            (coarse,) = in_chunks(one, images, targets, chunk=batch_size_for(None, images))
    finally:
        handle.remove()
    return image_sized(coarse, images, normalize)
