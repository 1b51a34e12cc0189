"""Occlusion: how far the class's probability falls when a window of the image is painted over.

Zeiler, Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2. Equal to captum's
``Occlusion`` of the probability, which returns float32 whatever it is given.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssimpert.analysis.attributions.baseline_image import Baseline, baseline_image
from ssimpert.analysis.attributions.class_targets import class_probability, class_targets
from ssimpert.analysis.attributions.postprocessing import min_max
from ssimpert.errors import InputError
from ssimpert.models.forward_copy import forward_copy
from ssimpert.models.forward_passes import Model, batch_size_for, keep_freed_memory
from ssimpert.validation import check_count, check_images

OCCLUSION_WINDOW = 32
OCCLUSION_STRIDE = 16


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

    Each pixel has the mean fall over the windows that cover it; below 0 where covering it helps the class. All
    channels are painted together. Windows start at multiples of the stride; the last of a row or column is cut at the
    edge, so every pixel is covered.

    Args:
        model: images -> logits (B, K), or its :func:`~ssimpert.onnx_classifier`, which takes little more than half the
            time on the CPU.
        target: the class explained, one for all images or a (B,) tensor of integers.
        window: side of the square in pixels; default 32.
        stride: step between windows in pixels, at most ``window``; default 16. At 224 pixels that is 169 forward passes
            an image.
        baseline: what is painted: ``None`` (default) for the model's mean colour, the grey of the paper; or as
            :func:`ssimpert.analysis.attributions.baseline_image.baseline_image` takes it.
        batch_size: occluded copies a forward pass; ``None`` (default) for
            :func:`ssimpert.models.forward_passes.batch_size_for`'s choice: 2 or 4 at 224 pixels on a CPU, 32 elsewhere.
        normalize: min-max each map to [0, 1]; ``False`` leaves it in probability.

    Raises:
        InputError: a window that does not fit the images, a stride beyond the window, a class that the model hasn't.
    """
    check_images("images", images)
    check_count("window", window)
    check_count("stride", stride)
    batch_size_for(batch_size, images)  # refuses what is no number before the work begins
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
    covers = torch.zeros(height, width, dtype=images.dtype, device=images.device)
    for top, left in corners:
        covers[top : top + window, left : left + window] += 1
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
    drops = falls / covers
    return min_max(drops) if normalize else drops


def _starts(side: int, window: int, stride: int) -> list[int]:
    """Where windows start so that every pixel of ``side`` is covered; the last may hang over the edge."""
    return [stride * index for index in range(-(-(side - window) // stride) + 1)]
