"""Grad-CAM: the class activation map that perturbations are compared with.

Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization", ICCV 2017,
equations 1 and 2. With A_k the feature maps of a layer, weight_k is the spatial mean of d logit / d A_k, and the map is
ReLU(sum_k weight_k A_k). Captum computes it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.class_targets import checked_logits, class_targets
from ssimpert.analysis.attributions.layer_gradients import layer_name, leads_nowhere, module_of_layer, runs_often
from ssimpert.analysis.attributions.postprocessing import image_sized
from ssimpert.errors import InputError
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import batch_size_for, in_chunks
from ssimpert.validation import check_images


@takes_model
def grad_cam(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    layer: str | nn.Module | None = None,
    normalize: bool = True,
) -> Tensor:
    """Grad-CAM of ``target`` for each image, at the size of the image: (B, H, W), nonnegative, detached.

    The map has the size of the layer at first. It is upsampled bilinearly (``align_corners=False``) and then scaled. A
    map that is constant has no highest pixel: most often it is zero everywhere, because nothing speaks for the class.
    Such a map is returned as zeros when scaled, and the agreement metrics give NaN for it.

    The function works under ``torch.no_grad`` and ``torch.inference_mode`` and leaves no hook behind. Neither
    parameters nor ``images`` collect gradients.

    Args:
        model: a classifier in evaluation mode, images (B, C, H, W) -> logits (B, K).
        images: (B, C, H, W), float32 or float64, in the range that the model takes.
        target: the class that the map explains, one for all images or (B,) integers.
        layer: the convolution whose activations are weighted: a module of the model, its name, or ``None`` (default)
            for ``model.cam_layer``.
        normalize: True (default) min-max scales each map to [0, 1], and a constant map to zeros. False leaves the map
            in the units of the logit.

    Raises:
        InputError: an unknown layer; a layer that does not run, that runs more than once, that has no feature maps (B,
            K, h, w), or that does not lead to the logits; a class that the model does not have.
    """
    check_images("images", images)
    # Imported here: captum takes a second, and `ssimpert --help` should not wait for that.
    from captum.attr import LayerGradCam

    module = module_of_layer(model, layer)
    name = layer_name(layer, module)
    targets = class_targets(target, images)
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    def coarse_maps(batch: Tensor, classes: Tensor) -> tuple[Tensor]:
        nonlocal runs
        runs = 0
        # The inputs require gradients, because a graph is needed even where all parameters are frozen. The clone keeps
        # the graph off the caller's tensor.
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
        if runs > 1:  # captum keeps one of them
            raise runs_often(name, runs)
        if not isinstance(coarse, Tensor) or coarse.ndim != 4:
            shape = tuple(coarse.shape) if isinstance(coarse, Tensor) else f"{len(coarse)} outputs"
            raise InputError(f"layer {name!r} has no feature maps (B, K, h, w); its attribution is {shape}")
        return (coarse.detach()[:, 0],)

    handle = module.register_forward_hook(count)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            (coarse,) = in_chunks(coarse_maps, images, targets, chunk=batch_size_for(None, images))
    finally:
        handle.remove()
    return image_sized(coarse, images, normalize)
