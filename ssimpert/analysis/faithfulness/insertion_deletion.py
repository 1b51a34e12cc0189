"""Insertion and deletion: how fast the class's probability rises, or falls, as the highest pixels come, or go.

Petsiuk, Das, Saenko, "RISE: Randomized input sampling for explanation of black-box models", BMVC 2018, with
the settings of its released evaluation. All H*W pixels are ranked by falling saliency; ``step`` of them change
at a time, all channels together, so n = ceil(H*W/step) steps give n + 1 scores.

* deletion: from the image to the mean colour, which is zero in the model's normalised space; lower is better;
* insertion: from the blurred image to the image; higher is better.

A score is the softmax probability of the class. AUC = (sum of scores - first/2 - last/2)/n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from ssimpert.analysis.attributions.baseline_image import mean_colour
from ssimpert.analysis.attributions.class_targets import checked_logits, class_targets
from ssimpert.analysis.degenerate_maps import degenerate_reasons, ranks_pixels
from ssimpert.analysis.faithfulness.curve import Kind, PixelCurve
from ssimpert.analysis.perturbation_maps.smoothing import gaussian_smooth
from ssimpert.errors import InputError
from ssimpert.models.forward_copy import forward_copy
from ssimpert.models.forward_passes import Model, batch_size_for, keep_freed_memory
from ssimpert.validation import check_count, check_images, check_maps

BLUR_SIZE = 11
BLUR_SIGMA = 5.0
ROWS_A_STEP = 8
BATCH_SIZE = 64
MODEL_NOT_FINITE = "the model's probability is not finite"


def insertion(
    model: Model,
    images: Tensor,
    maps: Tensor,
    *,
    target: int | Tensor | None = None,
    step: int | None = None,
    batch_size: int | None = None,
    baseline: float | Tensor | None = None,
) -> PixelCurve:
    """The probability as the highest pixels of ``maps`` come back into the blurred image.

    The blur is the published one: :func:`blur_kernel` over normalised pixels with zeros beyond the edge. In pixels
    that is ``m + blur(image - m)`` for the mean colour ``m``, whatever the scale of the normalisation.

    Args:
        model: a classifier in evaluation mode, images (B, C, H, W) -> logits (B, K), or its
            :func:`~ssimpert.onnx_classifier`, which takes little more than half the time on the CPU.
        images: (B, C, H, W), float32 or float64, in whatever range the model takes ([0, 1] for this package's).
        maps: saliency (B, H, W), higher is more important, of any scale; on the images' device. Among equal values
            the pixel that comes first in row-major order ranks first. (The released code reverses an unstable
            ascending sort, which leaves the order of ties open.)
        target: the class, one for all images or (B,) integers; ``None`` (default): the model's top-1 on the clean
            image, as published.
        step: pixels changed at a time, at least 1, and need not divide H*W; default 8 rows of the image, the
            protocol's step in bulk (one row, 224 at 224x224, is the published one).
        batch_size: images that the model sees at once, of all steps and images; bounds the memory. Default 64. On the
            CPU as :func:`ssimpert.models.forward_passes.batch_size_for` says, 2 or 4 at 224 pixels, each image's steps
            by themselves: the scores of an image then don't depend on the others, to the last bit.
        baseline: the mean colour in the images' units, a number or (C,); ``None`` (default): ``model.mean``.

    Raises:
        InputError: wrong shapes or types, an unknown class, a model without ``mean`` and no ``baseline``.
    """
    return _curves(["insertion"], model, images, maps, target, step, batch_size, baseline)["insertion"]


def deletion(
    model: Model,
    images: Tensor,
    maps: Tensor,
    *,
    target: int | Tensor | None = None,
    step: int | None = None,
    batch_size: int | None = None,
    baseline: float | Tensor | None = None,
) -> PixelCurve:
    """The probability as the highest pixels of ``maps`` are overwritten by the mean colour.

    Arguments and errors as for :func:`insertion`.
    """
    return _curves(["deletion"], model, images, maps, target, step, batch_size, baseline)["deletion"]


def insertion_deletion(
    model: Model,
    images: Tensor,
    maps: Tensor,
    *,
    target: int | Tensor | None = None,
    step: int | None = None,
    batch_size: int | None = None,
    baseline: float | Tensor | None = None,
) -> dict[Kind, PixelCurve]:
    """Both curves, ``"insertion"`` and ``"deletion"``, as :func:`insertion` and :func:`deletion` give them, in less
    time: they share what is prepared, and the clean image's pass.

    Arguments and errors as for :func:`insertion`.
    """
    return _curves(["insertion", "deletion"], model, images, maps, target, step, batch_size, baseline)


def blur_kernel() -> Tensor:
    """The published blur's kernel, (11, 11) float64, sum 1: a Gaussian of sigma 5 over a delta in an 11x11 field.

    The field mirrors at its edge (scipy's ``gaussian_filter`` default), which folds the Gaussian's tails back in: the
    kernel is flatter than a Gaussian cut at 11 pixels.
    """
    delta = torch.zeros(1, BLUR_SIZE, BLUR_SIZE, dtype=torch.float64)
    delta[0, BLUR_SIZE // 2, BLUR_SIZE // 2] = 1
    return gaussian_smooth(delta, BLUR_SIGMA)[0]


def blurred(images: Tensor, baseline: Tensor) -> Tensor:
    """Images (B, C, H, W) blurred around the colour ``baseline`` (1, C, 1, 1), as insertion starts from them."""
    # The kernel is the product of its marginals, so two passes of 11 taps do what one of 121 does.
    taps = blur_kernel().sum(dim=0).to(images)
    batch, channels, height, width = images.shape
    planes = (images - baseline).reshape(batch * channels, 1, height, width)
    planes = conv2d(planes, taps.view(1, 1, 1, -1), padding=(0, BLUR_SIZE // 2))
    planes = conv2d(planes, taps.view(1, 1, -1, 1), padding=(BLUR_SIZE // 2, 0))
    return planes.reshape(images.shape) + baseline


def pixel_ranks(maps: Tensor) -> Tensor:
    """(B, H, W) -> (B, H, W) int64, 0 for the highest pixel to H*W - 1; equal values rank in row-major order."""
    flat = maps.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).reshape(maps.shape)


def _curves(
    kinds: Sequence[Kind],
    model: Model,
    images: Tensor,
    maps: Tensor,
    target: int | Tensor | None,
    step: int | None,
    batch_size: int | None,
    baseline: float | Tensor | None,
) -> dict[Kind, PixelCurve]:
    step = _check(images, maps, target, step, batch_size)
    colour = _mean_colour(model, images, baseline)
    steps = math.ceil(images.shape[-2] * images.shape[-1] / step)
    keep_freed_memory(images)
    curves: dict[Kind, PixelCurve] = {}
    with torch.no_grad():
        given = torch.zeros(0, dtype=torch.int64) if target is None else class_targets(target, images)
        # Whether a copy pays is asked of one image and one curve, so that a batch is treated as its images are.
        forward = forward_copy(model, images[:1], steps + 1)
        apart = batch_size is None and images.device.type == "cpu"
        if batch_size is None:
            batch_size = batch_size_for(None, images, forward_only=forward is not model) if apart else BATCH_SIZE
        logits_of = checked_logits(forward, given)
        # A class that the model doesn't have shows here, before most of the work.
        clean = torch.cat([logits_of(part) for part in images.split(1 if apart else batch_size)])
        classes = clean.argmax(dim=1) if target is None else given
        reasons = degenerate_reasons(maps)
        kept = ranks_pixels(reasons, images.device).nonzero()[:, 0]
        chosen, ranks, followed = images[kept], pixel_ranks(maps[kept]), classes[kept]
        # One end of either curve is the clean image, whose probability is known already.
        known = _probability(clean[kept], followed)[:, None]
        passes = _passes(ranks, steps, batch_size, apart)
        for kind in kinds:
            scores = torch.full((len(images), steps + 1), float("nan"), dtype=torch.float64, device=images.device)
            if not len(kept):
                pass
            elif kind == "deletion":
                changed = _scores(logits_of, chosen, colour, ranks, followed, range(1, steps + 1), step, passes)
                scores[kept] = torch.cat([known, changed], dim=1)
            else:
                start = blurred(chosen, colour)
                changed = _scores(logits_of, start, chosen, ranks, followed, range(steps), step, passes)
                scores[kept] = torch.cat([changed, known], dim=1)
            curves[kind] = _curve(kind, scores, classes, reasons, step, images)
    return curves


def _curve(
    kind: Kind, scores: Tensor, classes: Tensor, reasons: tuple[str | None, ...], step: int, images: Tensor
) -> PixelCurve:
    """The curve of ``scores`` (B, n+1), which may still be NaN for want of a finite probability."""
    finite = scores.isfinite().all(dim=1).tolist()
    steps, pixels = scores.shape[1] - 1, images.shape[-2] * images.shape[-1]
    ordinals = torch.arange(steps + 1, dtype=torch.float64, device=scores.device)
    return PixelCurve(
        kind=kind,
        scores=scores,
        fractions=(ordinals * step).clamp(max=pixels) / pixels,
        auc=(scores.sum(dim=1) - scores[:, 0] / 2 - scores[:, -1] / 2) / steps,
        target=classes,
        reasons=tuple(
            reason or (None if sound else MODEL_NOT_FINITE) for reason, sound in zip(reasons, finite, strict=True)
        ),
    )


def _passes(ranks: Tensor, steps: int, batch_size: int, apart: bool) -> list[Tensor]:
    """Which pairs of image and step, numbered with the steps running fastest, go through the model together: at most
    ``batch_size``, of one image where images are to stay ``apart``."""
    pairs = torch.arange(len(ranks) * steps, device=ranks.device)
    return [part for group in pairs.split(steps if apart else max(1, len(pairs))) for part in group.split(batch_size)]


def _scores(
    logits_of: Model,
    before: Tensor,
    after: Tensor,
    ranks: Tensor,
    classes: Tensor,
    which: range,
    step: int,
    passes: list[Tensor],
) -> Tensor:
    """(B, len(which)) probabilities after k steps, for k in ``which``, by ``passes`` over them."""
    parts = []
    for pairs in passes:
        image, steps = pairs // len(which), pairs % len(which) + which.start
        changes = _rows(ranks, image) < (steps * step)[:, None, None]
        mixed = torch.where(changes[:, None], _rows(after, image), _rows(before, image))
        parts.append(_probability(logits_of(mixed), classes[image]))
    return torch.cat(parts).reshape(len(before), len(which))


def _rows(values: Tensor, which: Tensor) -> Tensor:
    """``values[which]``; a single row, which broadcasts, is not copied."""
    return values if len(values) == 1 else values[which]


def _probability(logits: Tensor, classes: Tensor) -> Tensor:
    """Softmax probability of one class an image: (B, K) and (B,) -> (B,) float64."""
    return logits.double().softmax(dim=1).gather(1, classes[:, None])[:, 0]


def _check(images: Tensor, maps: Tensor, target: int | Tensor | None, step: int | None, batch_size: int | None) -> int:
    """The step."""
    check_images("images", images)
    check_maps("maps", maps)
    expected = (images.shape[0], *images.shape[-2:])
    if maps.shape != expected:
        raise InputError(f"maps must have shape {expected}, a value for each pixel of images, got {tuple(maps.shape)}")
    if maps.device != images.device:
        raise InputError(f"maps are on {maps.device}, images on {images.device}; bring both to one device")
    if target is not None:
        class_targets(target, images)
    if step is None:
        step = ROWS_A_STEP * images.shape[-1]
    check_count("step", step)
    if batch_size is not None:
        check_count("batch_size", batch_size)
    return step


def _mean_colour(model: Model, images: Tensor, baseline: float | Tensor | None) -> Tensor:
    """(1, C, 1, 1) in the images' type, on their device."""
    channels = images.shape[1]
    if baseline is None:
        baseline = mean_colour(model, channels)
        if baseline is None:
            raise InputError(f"{type(model).__name__} has no mean colour; give baseline= in the images' units")
    if isinstance(baseline, bool) or not isinstance(baseline, int | float | Tensor):
        raise InputError(f"baseline must be a number or a tensor of {channels} numbers, got {baseline!r}")
    colour = torch.as_tensor(baseline).detach().to(images)
    if colour.numel() not in (1, channels) or not bool(colour.isfinite().all()):
        raise InputError(f"baseline must be 1 or {channels} finite numbers, got {colour.flatten().tolist()}")
    return colour.reshape(1, -1, 1, 1).expand(1, channels, 1, 1)
