"""Occlusion: how far the class's probability falls when a window of the image is painted over.

Zeiler, Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2. Computed by captum,
image by image, so that a batch gives what its images give alone and memory does not grow with it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssimpert.analysis.attribution_checks import check_count
from ssimpert.analysis.baseline import Baseline, baseline_image
from ssimpert.analysis.class_targets import class_targets, target_probability
from ssimpert.analysis.map_scaling import min_max
from ssimpert.errors import InputError
from ssimpert.metrics.images import check_images

OCCLUSION_WINDOW = 32
OCCLUSION_STRIDE = 16
FORWARD_BATCH = 32


def occlusion(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    *,
    window: int = OCCLUSION_WINDOW,
    stride: int = OCCLUSION_STRIDE,
    baseline: Baseline = None,
    batch_size: int = FORWARD_BATCH,
    normalize: bool = True,
) -> Tensor:
    """The map of the fall in softmax probability: images (B, C, H, W) -> (B, H, W), detached.

    Each pixel has the mean fall over the windows that cover it; below 0 where covering it helps the class. All
    channels are painted together. Windows start at multiples of the stride; the last of a row or column is cut at the
    edge, so every pixel is covered.

    Args:
        model: images -> logits (B, K).
        target: the class explained, one for all images or a (B,) tensor of integers.
        window: side of the square in pixels; default 32.
        stride: step between windows in pixels, at most ``window``; default 16. At 224 pixels that is 169 forward passes
            an image.
        baseline: what is painted: ``None`` (default) for the model's mean colour, the grey of the paper; or as
            :func:`ssimpert.analysis.baseline.baseline_image` takes it.
        batch_size: occluded copies a forward pass.
        normalize: min-max each map to [0, 1]; ``False`` leaves it in probability.

    Raises:
        InputError: a window that does not fit the images, a stride beyond the window, a class that the model hasn't.
    """
    check_images("images", images)
    for name, value in (("window", window), ("stride", stride), ("batch_size", batch_size)):
        check_count(name, value)
    channels, height, width = images.shape[1:]
    if window > min(height, width):
        raise InputError(f"window must be at most {min(height, width)} for images {height}x{width}, got {window}")
    if stride > window:
        raise InputError(f"stride must be at most the window's {window}, or pixels are left out, got {stride}")
    targets = class_targets(target, images)
    reference = baseline_image(model, images, baseline)
    from captum.attr import Occlusion  # here, since it takes a second

    maps = []
    with torch.no_grad():
        for image, label, paint in zip(images.detach(), targets, reference, strict=True):
            falls = Occlusion(lambda batch, label=label: target_probability(model, batch, label[None])).attribute(
                image[None],
                sliding_window_shapes=(channels, window, window),
                strides=(channels, stride, stride),
                baselines=paint[None],
                perturbations_per_eval=batch_size,
            )
            maps.append(falls[:, 0])
    drops = torch.cat(maps)
    return min_max(drops) if normalize else drops
