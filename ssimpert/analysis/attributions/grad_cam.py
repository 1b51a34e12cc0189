"""Grad-CAM: the class activation map that perturbations are compared with.

Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization", ICCV 2017,
equations 1 and 2. With A_k the feature maps of a layer, weight_k is the spatial mean of d logit / d A_k, and the map is
ReLU(sum_k weight_k A_k). Captum computes it.
"""

from __future__ import annotations

from torch import Tensor, nn

from ssimpert.analysis.attributions.class_targets import checked_logits, class_targets
from ssimpert.analysis.attributions.layer_gradients import leads_nowhere, mapped_layer
from ssimpert.analysis.attributions.postprocessing import image_sized
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import batch_size_for, gradients_enabled, in_chunks
from ssimpert.models.layouts import Layout
from ssimpert.validation import check_images


@takes_model
def grad_cam(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    layer: str | nn.Module | None = None,
    normalize: bool = True,
    *,
    layout: Layout | None = None,
    prefix_tokens: int | None = None,
) -> Tensor:
    """Grad-CAM of ``target`` for each image, at the size of the image: (B, H, W), nonnegative, detached.

    The map has the size of the layer at first. It is upsampled bilinearly (``align_corners=False``) and then scaled. A
    map that is constant has no highest pixel: most often it is zero everywhere, because nothing speaks for the class.
    Such a map is returned as zeros when scaled, and the agreement metrics give NaN for it.

    Of a transformer, the tokens of the patches are folded back to rows and columns, as pytorch-grad-cam does it
    ("How does it work with Vision Transformers"). ``Classifier.cam_layer`` says which layer is taken.

    The function works under ``torch.no_grad`` and ``torch.inference_mode`` and leaves no hook behind. Neither
    parameters nor ``images`` collect gradients. Several threads may use one model at a time.

    Args:
        model: a classifier in evaluation mode, images (B, C, H, W) -> logits (B, K).
        images: (B, C, H, W), float32 or float64, in the range that the model takes.
        target: the class that the map explains, one for all images or (B,) integers.
        layer: the layer whose activations are weighted: a module of the model, its name, or ``None`` (default) for
            ``model.cam_layer``.
        normalize: True (default) min-max scales each map to [0, 1], and a constant map to zeros. False leaves the map
            in the units of the logit.
        layout: where the layer's output has its feature map: ``"channels_first"`` (B, K, h, w), ``"channels_last"``
            (B, h, w, K) or ``"tokens"`` (B, N, K), the patches of a transformer in reading order. Default ``None``: the
            layout is found out (:mod:`ssimpert.models.layout_search`).
        prefix_tokens: how many tokens in front of those of the patches have no place in the image (class token,
            distillation token, registers) and are left out. Default ``None``: the number is found out.

    Raises:
        InputError: an unknown layer; a layer that does not run, that runs more than once, that has no feature map in
            one of these layouts, or that does not lead to the logits; a layout that is ambiguous and not given, or that
            does not fit; a class that the model does not have.
    """
    check_images("images", images)
    # Imported here: captum takes a second, and `ssimpert --help` should not wait for that.
    from captum.attr import LayerGradCam

    mapped = mapped_layer(model, layer, images, layout, prefix_tokens)
    targets = class_targets(target, images)
    # Captum watches this module, which belongs to this call alone: its hooks would act in all threads.
    feature_map = nn.Identity()

    def coarse_maps(batch: Tensor, classes: Tensor) -> tuple[Tensor]:
        # The inputs require gradients, because a graph is needed even where all parameters are frozen. The clone keeps
        # the graph off the caller's tensor.
        inputs = batch.detach().clone().requires_grad_()
        explainer = LayerGradCam(checked_logits(model, classes), feature_map)
        with mapped.feature_maps(batch, feature_map) as runs:
            try:
                coarse: Tensor = explainer.attribute(inputs, classes, relu_attributions=True)
            except AssertionError as error:
                if "did not obtain any outputs" not in str(error):
                    raise
                mapped.check_runs(0)
            except RuntimeError as error:
                if "allow_unused" not in str(error) and "does not require grad" not in str(error):
                    raise
                raise leads_nowhere(mapped.name) from error
        mapped.check_runs(len(runs))  # captum keeps one of several
        return (coarse.detach()[:, 0],)

    with gradients_enabled():
        (coarse,) = in_chunks(coarse_maps, images, targets, chunk=batch_size_for(None, images))
    return image_sized(coarse, images, normalize)
