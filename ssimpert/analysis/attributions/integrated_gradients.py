"""Integrated gradients: gradients summed along the straight path from a baseline to the image.

Sundararajan, Taly, Yan, "Axiomatic attribution for deep networks", ICML 2017. Captum computes the sums, image by image:
a batch then gives what its images give alone, and the memory does not grow with the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.baseline_image import Baseline, baseline_image
from ssimpert.analysis.attributions.class_targets import checked_logits, class_targets
from ssimpert.analysis.attributions.postprocessing import check_channels, min_max, reduce_channels
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import batch_size_for, gradients_enabled, not_differentiable
from ssimpert.validation import check_count, check_images

INTEGRATION_STEPS = 50


@dataclass(frozen=True, eq=False)
class PathAttributions:
    """Integrated gradients of every channel, before the channels become a map; detached.

    Attributes:
        attributions: (B, C, H, W), in logits: the share of each channel of each pixel in the rise of the logit.
        logit_rise: (B,), the target's logit at the image minus the logit at the baseline.
        completeness_error: (B,), ``|sum of attributions - logit_rise|``, in logits. The exact integral has an error of
            0 (the paper's completeness axiom). Where the error is not small against ``logit_rise``, take more steps.
    """

    attributions: Tensor
    logit_rise: Tensor
    completeness_error: Tensor


@takes_model
def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    *,
    baseline: Baseline = None,
    steps: int = INTEGRATION_STEPS,
    batch_size: int | None = None,
    normalize: bool = True,
    channels: str = "positive",
) -> Tensor:
    """The map of integrated gradients: images (B, C, H, W) -> (B, H, W), detached.

    Args:
        model: a classifier in evaluation mode, images (B, C, H, W) -> logits (B, K).
        images: (B, C, H, W), float32 or float64, in the range that the model takes.
        target: the class that the map explains, one for all images or (B,) integers.
        baseline: where the path starts. Default ``None``: the model's mean colour, which is zero in normalised pixels
            and which deletion writes for "absent". Else what
            :func:`ssimpert.analysis.attributions.baseline_image.baseline_image` takes, such as 0.0 for black.
        steps: how many points the Gauss-Legendre rule has on the path, 1 or more; default 50, as in captum.
            :func:`path_attributions` tells how far from complete the sum is. For efficientnet-lite0 on chelsea and
            coffee, the error is 10% and 11% of the rise of the logit at 50 steps, 6% and 7% at 100, 4% and 4% at 200.
        batch_size: how many points go through the model at once. Default ``None``: the choice of
            :func:`ssimpert.models.forward_passes.batch_size_for`, 2 at 224 pixels on a CPU and 32 elsewhere.
        normalize: True (default) min-max scales each map to [0, 1], and a constant map to zeros. False leaves the map
            in logits.
        channels: how the channels become one map, a name in :data:`ssimpert.analysis.CHANNEL_REDUCTIONS`; default
            ``"positive"``: the shares of a pixel's channels are added, and the positive part of the sum, which speaks
            for the class, is kept. ``"signed"`` keeps the sum complete.

    Raises:
        InputError: an unknown reduction, a number out of range, a baseline that does not fit the images, or a class
            that the model does not have.
    """
    check_channels(channels)
    path = path_attributions(model, images, target, baseline=baseline, steps=steps, batch_size=batch_size)
    maps = reduce_channels(path.attributions, channels)
    return min_max(maps) if normalize else maps


@takes_model
def path_attributions(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    *,
    baseline: Baseline = None,
    steps: int = INTEGRATION_STEPS,
    batch_size: int | None = None,
) -> PathAttributions:
    """Integrated gradients of every channel, with their completeness error.

    Args:
        model, images, target, baseline, steps, batch_size: as for :func:`integrated_gradients`.

    Raises:
        InputError: as :func:`integrated_gradients`.
    """
    check_images("images", images)
    steps = check_count("steps", steps)
    points = batch_size_for(batch_size, images)
    targets = class_targets(target, images)
    from captum.attr import IntegratedGradients  # here, since it takes a second

    integrator = IntegratedGradients(checked_logits(model, targets), multiply_by_inputs=True)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    with gradients_enabled():
        start = baseline_image(model, images, baseline).clone()
        pixels = images.detach().clone()
        for index in range(len(pixels)):
            image, begin, label = pixels[index, None], start[index, None], targets[index, None].clone()
            try:
                attributions = integrator.attribute(
                    image, begin, label, n_steps=steps, method="gausslegendre", internal_batch_size=points
                ).detach()
            except RuntimeError as error:
                if "allow_unused" not in str(error):
                    raise
                raise not_differentiable(model) from error
            with torch.no_grad():
                logits = [checked_logits(model, label)(batch)[:, int(label)] for batch in (image, begin)]
            rise = (logits[0] - logits[1]).to(images.dtype)
            total = attributions.double().flatten(1).sum(dim=1).to(images.dtype)
            parts.append((attributions, rise, (total - rise).abs()))
    return PathAttributions(*(torch.cat(column) for column in zip(*parts, strict=True)))
