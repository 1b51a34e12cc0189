"""The gradient of a class's logit with respect to the pixels, and the maps made of it.

Computed by autograd; equal to captum's ``Saliency`` and ``InputXGradient``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.baseline_image import Baseline, baseline_image
from ssimpert.analysis.attributions.class_targets import class_targets, target_logit
from ssimpert.analysis.attributions.postprocessing import check_channels, min_max, reduce_channels
from ssimpert.models.forward_passes import batch_size_for, in_chunks
from ssimpert.validation import check_count, check_images, check_positive, check_seed

SMOOTH_GRAD_SAMPLES = 50
SMOOTH_GRAD_NOISE = 0.15


def gradient(
    model: nn.Module, images: Tensor, target: int | Tensor, *, normalize: bool = True, channels: str = "max"
) -> Tensor:
    """The gradient's map ("saliency"; Simonyan et al., ICLR workshop 2014): (B, C, H, W) -> (B, H, W), detached.

    Args:
        model: images -> logits (B, K).
        images: (B, C, H, W), float32 or float64, in the range that the model takes.
        target: the class explained, one for all images or a (B,) tensor of integers.
        normalize: min-max each map to [0, 1], a constant one to zeros; ``False`` leaves it in logits per unit of pixel.
        channels: ``"max"`` (default, the paper's: largest magnitude over the channels), ``"sum"``, ``"signed"`` or
            ``"positive"`` (:mod:`ssimpert.analysis.attributions.postprocessing`).
    """
    check_images("images", images)
    check_channels(channels)
    maps = reduce_channels(input_gradient(model, images, class_targets(target, images)), channels)
    return min_max(maps) if normalize else maps


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

    The paper's input is the network's: normalised pixels. Multiplying by x - baseline with the default baseline, the
    mean colour, is exactly that; ``baseline=0.0`` multiplies by the pixels as they are.

    Args:
        baseline: ``None`` (default) for the model's mean colour, or as
            :func:`ssimpert.analysis.attributions.baseline_image.baseline_image` takes it.
        channels: default ``"positive"``: the channels' shares of a pixel add up, and what speaks for the class is kept.
            The rest as in :func:`gradient`; not normalised, the map is in logits.
    """
    check_images("images", images)
    check_channels(channels)
    reference = baseline_image(model, images, baseline)
    attributions = (images.detach() - reference) * input_gradient(model, images, class_targets(target, images))
    maps = reduce_channels(attributions, channels)
    return min_max(maps) if normalize else maps


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

    The gradients are averaged with their signs, as in the paper; the channels are reduced afterwards.

    Args:
        samples: noisy copies of each image; default 50 (the paper sees little change beyond).
        noise: standard deviation of the Gaussian noise, in the units of the pixels that the model takes. Default 0.15:
            for pixels in [0, 1] 15% of their range, the middle of the paper's 10% to 20%. Noisy pixels are not clipped.
        seed: of the noise, which is drawn on the CPU: the same for every image of a batch, on every device and for
            every ``batch_size``. The global random state is not touched.
        batch_size: copies a forward and backward pass; ``None`` (default) for
            :func:`ssimpert.models.forward_passes.batch_size_for`'s choice: 2 at 224 pixels on a CPU, 32 elsewhere.
        normalize, channels: as in :func:`gradient`.
    """
    check_images("images", images)
    check_channels(channels)
    check_count("samples", samples)
    copies = batch_size_for(batch_size, images)
    check_seed(seed)
    deviation = check_positive("noise", noise)
    targets = class_targets(target, images)
    means = []
    for image, label in zip(images.detach(), targets, strict=True):
        generator = torch.Generator().manual_seed(seed)
        total = torch.zeros_like(image)
        for start in range(0, samples, copies):
            count = min(copies, samples - start)
            # One draw a sample: a draw of several at once would depend on how many.
            drawn = [torch.randn(image.shape, generator=generator, dtype=torch.float64) for _ in range(count)]
            noisy = image + deviation * torch.stack(drawn).to(image)
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
    """d logit / d x with its sign, (B, C, H, W), detached, for classes ``targets`` (B,).

    NaN for an image whose logit isn't finite. Works under ``torch.no_grad`` and ``torch.inference_mode``; neither
    parameters nor ``images`` collect gradients.

    Args:
        within: a context that the forward passes run in, entered anew for each.
        chunk: images a pass, ``None`` as in :func:`smooth_grad`; halved where memory runs out.
    """

    def one(batch: Tensor, classes: Tensor) -> tuple[Tensor]:
        # The clone keeps the graph off the caller's tensor, which may have been made under inference_mode.
        pixels = batch.detach().clone().requires_grad_()
        with within or nullcontext():
            logit = target_logit(model, pixels, classes)
        (slopes,) = torch.autograd.grad(logit.sum(), pixels)
        # A ReLU's derivative at NaN is 0: without this an image of NaN would get a map like any other.
        return (torch.where(logit.isfinite()[:, None, None, None], slopes, slopes.new_full((), float("nan"))),)

    with torch.inference_mode(False), torch.enable_grad():
        return in_chunks(one, images, targets, chunk=batch_size_for(chunk, images))[0]
