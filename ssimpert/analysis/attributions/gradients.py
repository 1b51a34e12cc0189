"""The gradient of a class's logit with respect to the pixels, and the maps that are made of this gradient.

Autograd computes the gradient. The maps equal captum's ``Saliency`` and ``InputXGradient``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.baseline_image import Baseline, baseline_image
from ssimpert.analysis.attributions.class_targets import class_targets, target_logit
from ssimpert.analysis.attributions.postprocessing import check_channels, min_max, reduce_channels
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import batch_size_for, gradient_at, gradients_enabled, in_chunks
from ssimpert.validation import check_count, check_images, check_positive, check_seed

SMOOTH_GRAD_SAMPLES = 50
SMOOTH_GRAD_NOISE = 0.15


@takes_model
def gradient(
    model: nn.Module, images: Tensor, target: int | Tensor, *, normalize: bool = True, channels: str = "max"
) -> Tensor:
    """The gradient's map ("saliency"; Simonyan et al., ICLR workshop 2014): (B, C, H, W) -> (B, H, W), detached.

    Args:
        model: a classifier in evaluation mode, images (B, C, H, W) -> logits (B, K).
        images: (B, C, H, W), float32 or float64, in the range that the model takes.
        target: the class that the map explains, one for all images or (B,) integers.
        normalize: True (default) min-max scales each map to [0, 1], and a constant map to zeros. False leaves the map
            in logits per unit of pixel.
        channels: how the channels become one map, a name in :data:`ssimpert.analysis.CHANNEL_REDUCTIONS`; default
            ``"max"``, the largest magnitude over the channels, as in the paper.

    Raises:
        InputError: an unknown reduction, or a class that the model does not have.
    """
    check_images("images", images)
    check_channels(channels)
    maps = reduce_channels(input_gradient(model, images, class_targets(target, images)), channels)
    return min_max(maps) if normalize else maps


@takes_model
def input_x_gradient(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    *,
    baseline: Baseline = None,
    normalize: bool = True,
    channels: str = "positive",
) -> Tensor:
    """Input times gradient (Shrikumar et al., arXiv 1605.01713): (x - baseline) d logit / d x, as (B, H, W).

    The input in the paper is the input of the network: normalised pixels. With the default baseline, the mean colour,
    the factor x - baseline is exactly this input, up to a scale that the gradient undoes. ``baseline=0.0`` multiplies
    by the pixels as they are.

    Args:
        model: a classifier in evaluation mode, images (B, C, H, W) -> logits (B, K).
        images: (B, C, H, W), float32 or float64, in the range that the model takes.
        target: the class that the map explains, one for all images or (B,) integers.
        baseline: ``None`` (default) for the model's mean colour, or what
            :func:`ssimpert.analysis.attributions.baseline_image.baseline_image` takes.
        normalize: True (default) min-max scales each map to [0, 1], and a constant map to zeros. False leaves the map
            in logits.
        channels: as in :func:`gradient`; default ``"positive"``: the shares of a pixel's channels are added, and the
            positive part of the sum, which speaks for the class, is kept.

    Raises:
        InputError: as :func:`gradient`, and a baseline that does not fit the images.
    """
    check_images("images", images)
    check_channels(channels)
    reference = baseline_image(model, images, baseline)
    attributions = (images.detach() - reference) * input_gradient(model, images, class_targets(target, images))
    maps = reduce_channels(attributions, channels)
    return min_max(maps) if normalize else maps


@takes_model
def smooth_grad(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    *,
    samples: int = SMOOTH_GRAD_SAMPLES,
    noise: float = SMOOTH_GRAD_NOISE,
    seed: int = 0,
    batch_size: int | None = None,
    normalize: bool = True,
    channels: str = "max",
) -> Tensor:
    """SmoothGrad (Smilkov et al., arXiv 1706.03825): the map of the mean gradient over noisy copies, (B, H, W).

    The gradients are averaged with their signs, as in the paper, and the channels are reduced afterwards.

    Args:
        model: a classifier in evaluation mode, images (B, C, H, W) -> logits (B, K).
        images: (B, C, H, W), float32 or float64, in the range that the model takes.
        target: the class that the map explains, one for all images or (B,) integers.
        samples: how many noisy copies of each image there are, 1 or more; default 50. (The paper sees little change
            with more.)
        noise: the standard deviation of the Gaussian noise, above 0, in the units of the pixels that the model takes.
            Default 0.15: for pixels in [0, 1] this is 15% of their range, the middle of the paper's 10% to 20%. Noisy
            pixels are not clipped.
        seed: an integer from 0, default 0, that decides the noise. The noise is drawn on the CPU and is the same for
            every image of a batch, on every device and for every ``batch_size``. The global random state is not
            touched.
        batch_size: how many copies go through the model at once. Default ``None``: the choice of
            :func:`ssimpert.models.forward_passes.batch_size_for`, 2 at 224 pixels on a CPU and 32 elsewhere.
        normalize: as in :func:`gradient`.
        channels: as in :func:`gradient`; default ``"max"``.

    Raises:
        InputError: as :func:`gradient`, and a number out of range.
    """
    check_images("images", images)
    check_channels(channels)
    samples = check_count("samples", samples)
    copies = batch_size_for(batch_size, images)
    seed = check_seed(seed)
    deviation = check_positive("noise", noise)
    targets = class_targets(target, images)
    means = []
    for image, label in zip(images.detach(), targets, strict=True):
        generator = torch.Generator().manual_seed(seed)
        total = torch.zeros_like(image)
        for start in range(0, samples, copies):
            count = min(copies, samples - start)
            # Each sample is drawn by itself: a draw of several samples at once would depend on their number.
            noises = [torch.randn(image.shape, generator=generator, dtype=torch.float64) for _ in range(count)]
            noisy = image + deviation * torch.stack(noises).to(image)
            total = total + input_gradient(model, noisy, label.expand(count), chunk=copies).sum(dim=0)
        means.append(total / samples)
    maps = reduce_channels(torch.stack(means), channels)
    return min_max(maps) if normalize else maps


def input_gradient(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    within: AbstractContextManager[object] | None = None,
    chunk: int | None = None,
) -> Tensor:
    """The gradient d logit / d x with its sign, (B, C, H, W), detached; NaN for an image whose logit is not finite.

    Neither parameters nor ``images`` collect gradients.

    Args:
        model: images (B, C, H, W) -> logits (B, K).
        images: (B, C, H, W).
        targets: (B,) int64, the class of each image.
        within: a context in which each forward pass runs; it is entered anew for each pass. Default ``None``.
        chunk: how many images go through the model at once; halved where memory runs out. Default ``None``, as for
            ``batch_size`` in :func:`smooth_grad`.
    """

    def gradients(batch: Tensor, classes: Tensor) -> tuple[Tensor]:
        pixels = batch.detach().clone().requires_grad_()
        with within or nullcontext():
            logit = target_logit(model, pixels, classes)
        slopes = gradient_at(pixels, logit, model)
        # A ReLU's derivative at NaN is 0. Without this line an image of NaN would get a map like any other image.
        return (torch.where(logit.isfinite()[:, None, None, None], slopes, slopes.new_full((), float("nan"))),)

    with gradients_enabled():
        return in_chunks(gradients, images, targets, chunk=batch_size_for(chunk, images))[0]
