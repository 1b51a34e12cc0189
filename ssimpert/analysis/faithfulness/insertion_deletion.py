"""Insertion and deletion: how fast the class's probability rises or falls as the highest pixels come or go.

Petsiuk, Das, Saenko, "RISE: Randomized input sampling for explanation of black-box models", BMVC 2018, with the
settings of its released evaluation. All H*W pixels are ranked by falling saliency. ``step`` of them change at a time,
all channels together, so there are n = ceil(H*W/step) steps and n + 1 scores.

* Deletion goes from the image to the mean colour, which is zero in the model's normalised space. Lower is better.
* Insertion goes from the blurred image to the image. Higher is better.

A score is the softmax probability of the class. AUC = (sum of scores - first/2 - last/2)/n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ssimpert.analysis.attributions.baseline_image import given_colour, mean_colour
from ssimpert.analysis.attributions.class_targets import check_probability, checked_logits, class_targets
from ssimpert.analysis.degenerate_maps import degenerate_reasons, ranks_pixels
from ssimpert.analysis.faithfulness.blurred_image import blurred
from ssimpert.analysis.faithfulness.curve import Kind, PixelCurve
from ssimpert.analysis.faithfulness.pixel_replacement import class_probabilities, passes_over, pixel_ranks, scores_after
from ssimpert.errors import InputError
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_copy import forward_copy
from ssimpert.models.forward_passes import Model, batch_size_for, keep_freed_memory
from ssimpert.validation import Integers, Numbers, check_count, check_images, check_maps

ROWS_A_STEP = 8
"""The default step, in rows of the image."""
BATCH_SIZE = 64
"""The images that the model gets at once, on any device but the CPU."""
MODEL_NOT_FINITE = "the model's probability is not finite"


@takes_model
def insertion(
    model: Model,
    images: Tensor,
    maps: Tensor,
    *,
    target: int | Integers | None = None,
    step: int | None = None,
    batch_size: int | None = None,
    baseline: float | Numbers | None = None,
) -> PixelCurve:
    """The probability of the class while the highest pixels of ``maps`` come back into the blurred image.

    The blur is the published one (:func:`ssimpert.analysis.faithfulness.blurred_image.blurred`).

    Args:
        model: a classifier in evaluation mode, images (B, C, H, W) -> logits (B, K), or its
            :func:`~ssimpert.onnx_classifier`, which takes little more than half the time on the CPU.
        images: (B, C, H, W), float32 or float64, in the range that the model takes ([0, 1] for this package's models).
        maps: the saliency (B, H, W), float32 or float64, of any scale, on the device of ``images``. Higher values are
            more important. Among equal values the first pixel in row-major order ranks first. (The released code
            reverses an unstable ascending sort, which leaves the order of equal values open.)
        target: the class, one for all images or (B,) integers. Default ``None``: the class that the model gives to the
            clean image, as published.
        step: how many pixels change at a time, 1 or more; ``step`` need not divide H*W. Default ``None``: 8 rows of the
            image. (The published step is one row, 224 pixels at 224x224.)
        batch_size: how many images the model gets at once, over all steps and images; this bounds the memory. Default
            ``None``: 64. On the CPU the default is the choice of
            :func:`ssimpert.models.forward_passes.batch_size_for`, 2 or 4 at 224 pixels, and the steps of each image run
            by themselves, so that the scores of an image do not depend on the other images to the last bit.
        baseline: the mean colour in the units of ``images``, a number or (C,). Default ``None``: ``model.mean``.

    Returns:
        The curve. An image whose map is constant or not finite has NaN and a reason.

    Raises:
        InputError: wrong shapes or types, an unknown class, or a model without ``mean`` where no ``baseline`` is given.
    """
    return _curves(["insertion"], model, images, maps, target, step, batch_size, baseline)["insertion"]


@takes_model
def deletion(
    model: Model,
    images: Tensor,
    maps: Tensor,
    *,
    target: int | Integers | None = None,
    step: int | None = None,
    batch_size: int | None = None,
    baseline: float | Numbers | None = None,
) -> PixelCurve:
    """The probability of the class while the mean colour overwrites the highest pixels of ``maps``.

    Args:
        model, images, maps, target, step, batch_size, baseline: as for :func:`insertion`.

    Raises:
        InputError: as :func:`insertion`.
    """
    return _curves(["deletion"], model, images, maps, target, step, batch_size, baseline)["deletion"]


@takes_model
def insertion_deletion(
    model: Model,
    images: Tensor,
    maps: Tensor,
    *,
    target: int | Integers | None = None,
    step: int | None = None,
    batch_size: int | None = None,
    baseline: float | Numbers | None = None,
) -> dict[Kind, PixelCurve]:
    """Both curves by name, ``"insertion"`` and ``"deletion"``.

    The curves are those of :func:`insertion` and :func:`deletion`. Together they take less time, because they share the
    preparation and the forward pass of the clean image.

    Args:
        model, images, maps, target, step, batch_size, baseline: as for :func:`insertion`.

    Raises:
        InputError: as :func:`insertion`.
    """
    return _curves(["insertion", "deletion"], model, images, maps, target, step, batch_size, baseline)


def _curves(
    kinds: Sequence[Kind],
    model: Model,
    images: Tensor,
    maps: Tensor,
    target: int | Integers | None,
    step: int | None,
    batch_size: int | None,
    baseline: float | Numbers | None,
) -> dict[Kind, PixelCurve]:
    """The curves of ``kinds``. The arguments are those of :func:`insertion`."""
    step = _checked_step(images, maps, target, step)
    batch_size = None if batch_size is None else check_count("batch_size", batch_size)
    colour = _mean_colour(model, images, baseline)
    steps = math.ceil(images.shape[-2] * images.shape[-1] / step)
    keep_freed_memory(images)
    curves: dict[Kind, PixelCurve] = {}
    with torch.no_grad():
        given_classes = torch.zeros(0, dtype=torch.int64) if target is None else class_targets(target, images)
        # Whether a copy pays is asked for one image and one curve, so that a batch is treated as its images are.
        forward = forward_copy(model, images[:1], steps + 1)
        one_by_one = batch_size is None and images.device.type == "cpu"
        if batch_size is None:
            batch_size = batch_size_for(None, images, forward_only=forward is not model) if one_by_one else BATCH_SIZE
        logits_of = checked_logits(forward, given_classes)
        # A class that the model does not have shows here, before most of the work.
        clean = torch.cat([logits_of(part) for part in images.split(1 if one_by_one else batch_size)])
        check_probability(clean)
        classes = clean.argmax(dim=1) if target is None else given_classes
        reasons = degenerate_reasons(maps)
        ranked = ranks_pixels(reasons, images.device).nonzero()[:, 0]
        ranked_images, ranked_classes, ranks = images[ranked], classes[ranked], pixel_ranks(maps[ranked])
        # One end of either curve is the clean image, and its probability is known already.
        clean_scores = class_probabilities(clean[ranked], ranked_classes)[:, None]
        passes = passes_over(ranks, steps, batch_size, one_by_one)
        for kind in kinds:
            scores = torch.full((len(images), steps + 1), float("nan"), dtype=torch.float64, device=images.device)
            if not len(ranked):
                pass
            elif kind == "deletion":
                to_score = range(1, steps + 1)
                changed = scores_after(logits_of, ranked_images, colour, ranks, ranked_classes, to_score, step, passes)
                scores[ranked] = torch.cat([clean_scores, changed], dim=1)
            else:
                to_score = range(steps)
                start = blurred(ranked_images, colour)
                changed = scores_after(logits_of, start, ranked_images, ranks, ranked_classes, to_score, step, passes)
                scores[ranked] = torch.cat([changed, clean_scores], dim=1)
            curves[kind] = _curve(kind, scores, classes, reasons, step, images)
    return curves


def _curve(
    kind: Kind, scores: Tensor, classes: Tensor, reasons: tuple[str | None, ...], step: int, images: Tensor
) -> PixelCurve:
    """The curve of ``scores`` (B, n+1). A score can be NaN without a reason so far: the model's probability then is."""
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
            reason or (None if is_finite else MODEL_NOT_FINITE)
            for reason, is_finite in zip(reasons, finite, strict=True)
        ),
    )


def _checked_step(images: Tensor, maps: Tensor, target: int | Integers | None, step: int | None) -> int:
    """Check all these arguments of :func:`insertion`, and give the step in pixels."""
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
    return check_count("step", step)


def _mean_colour(model: Model, images: Tensor, baseline: float | Numbers | None) -> Tensor:
    """The mean colour, ``baseline`` or the model's own: (1, C, 1, 1), in the dtype and on the device of ``images``."""
    channels = images.shape[1]
    if baseline is None:
        baseline = mean_colour(model, channels)
        if baseline is None:
            raise InputError(f"{type(model).__name__} has no mean colour; give baseline= in the images' units")
    colour = given_colour(baseline, images)
    if colour.numel() not in (1, channels) or not bool(colour.isfinite().all()):
        raise InputError(f"baseline must be 1 or {channels} finite numbers, got {colour.flatten().tolist()}")
    return colour.reshape(1, -1, 1, 1).expand(1, channels, 1, 1)
