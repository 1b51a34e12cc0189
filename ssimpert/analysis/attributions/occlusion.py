"""Occlusion: how far the class's probability falls when a window of the image is painted over.

Zeiler, Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2. The map equals captum's
``Occlusion`` of the probability. (Captum returns float32 whatever it is given.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssimpert.analysis.attributions.baseline_image import Baseline, baseline_image
from ssimpert.analysis.attributions.class_targets import class_probability, class_targets
from ssimpert.analysis.attributions.postprocessing import min_max
from ssimpert.errors import InputError
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_copy import forward_copy
from ssimpert.models.forward_passes import Model, batch_size_for, keep_freed_memory
from ssimpert.validation import check_count, check_images

OCCLUSION_WINDOW = 32
OCCLUSION_STRIDE = 16


@takes_model
def occlusion(
    model: Model,
    images: Tensor,
    target: int | Tensor,
    *,
    window: int = OCCLUSION_WINDOW,
    stride: int = OCCLUSION_STRIDE,
    baseline: Baseline = None,
    batch_size: int | None = None,
    normalize: bool = True,
) -> Tensor:
    """The map of the fall in softmax probability: images (B, C, H, W) -> (B, H, W), detached.

    The value of a pixel is the mean fall over the windows that cover the pixel. It is below 0 where covering the pixel
    helps the class. All channels are painted together. Windows start at multiples of the stride. The last window of a
    row or column is cut at the edge, so that every pixel is covered.

    Args:
        model: images (B, C, H, W) -> logits (B, K), or its :func:`~ssimpert.onnx_classifier`, which takes little more
            than half the time on the CPU.
        images: (B, C, H, W), float32 or float64, in the range that the model takes.
        target: the class that the map explains, one for all images or (B,) integers.
        window: the side of the square in pixels, from 1 to the smaller side of the images; default 32.
        stride: the step between windows in pixels, from 1 to ``window``; default 16. At 224 pixels this makes 169
            forward passes for each image.
        baseline: what is painted. Default ``None``: the mean colour of the model, the grey of the paper. Else what
            :func:`ssimpert.analysis.attributions.baseline_image.baseline_image` takes.
        batch_size: how many occluded copies go through the model at once. Default ``None``: the choice of
            :func:`ssimpert.models.forward_passes.batch_size_for`, 2 or 4 at 224 pixels on a CPU and 32 elsewhere.
        normalize: True (default) min-max scales each map to [0, 1], and a constant map to zeros. False leaves the map
            in probability.

    Raises:
        InputError: a window that does not fit the images, a stride larger than the window, a baseline that does not
            fit, or a class that the model does not have.
    """
    check_images("images", images)
    window, stride = check_count("window", window), check_count("stride", stride)
    batch_size_for(batch_size, images)  # refuses a batch_size that is no number before the work begins
    height, width = images.shape[-2:]
    if window > min(height, width):
        raise InputError(f"window must be at most {min(height, width)} for images {height}x{width}, got {window}")
    if stride > window:
        raise InputError(f"stride must be at most the window's {window}, or pixels are left out, got {stride}")
    targets = class_targets(target, images)
    reference = baseline_image(model, images, baseline)
    keep_freed_memory(images)
    corners = [(top, left) for top in _starts(height, window, stride) for left in _starts(width, window, stride)]
    falls = torch.zeros(len(images), height, width, dtype=images.dtype, device=images.device)
    times_covered = torch.zeros(height, width, dtype=images.dtype, device=images.device)
    for top, left in corners:
        times_covered[top : top + window, left : left + window] += 1
    with torch.no_grad():
        logits_of = forward_copy(model, images[:1], 1 + len(corners))
        copies = batch_size_for(batch_size, images, forward_only=logits_of is not model)
        for image, label, paint, fall in zip(images.detach(), targets, reference, falls, strict=True):
            probability = class_probability(logits_of, label[None])
            clean = probability(image[None])
            for start in range(0, len(corners), copies):
                part = corners[start : start + copies]
                painted = image.repeat(len(part), 1, 1, 1)
                for copy, (top, left) in zip(painted, part, strict=True):
                    square = (slice(None), slice(top, top + window), slice(left, left + window))
                    copy[square] = paint[square]
                differences = (clean - probability(painted)).to(fall.dtype)
                for difference, (top, left) in zip(differences, part, strict=True):
                    fall[top : top + window, left : left + window] += difference
    mean_falls = falls / times_covered
    return min_max(mean_falls) if normalize else mean_falls


def _starts(side: int, window: int, stride: int) -> list[int]:
    """The first pixels of the windows along one side of the image.

    Every pixel is covered; the last window may reach over the edge.
    """
    return [stride * index for index in range(-(-(side - window) // stride) + 1)]
