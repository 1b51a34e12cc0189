"""Saliency maps of a perturbation: where it is large, changes structure, or moves the decision.

The evaluation protocol (section 2) has three maps. For an image ``x``, a perturbation ``d`` and the gradient ``g`` of
the margin at ``x`` they are:

* ``rms``: sqrt(mean over channels of d^2), smoothed (Elliott, Law, Russell, CVPR 2021);
* ``ssim``: 1 - SSIM map of ``x`` and ``x + d`` (Pochimireddy et al., arXiv 2106.12731);
* ``contribution``: the positive part of the sum over channels of g d, smoothed. This is the pixel's share of the
  first-order gain in margin.

All maps are (B, H, W), in the dtype of their inputs, nonnegative, and not normalised.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from solvers import Window
from ssimpert.analysis.perturbation_maps.smoothing import gaussian_smooth
from ssimpert.errors import InputError, unknown_name
from ssimpert.metrics import STANDARD_WINDOW, dissimilarity_map
from ssimpert.models import Classifier
from ssimpert.validation import check_images, check_same

SALIENCY_KINDS = ("rms", "ssim", "contribution")
SMOOTHING = 2.0
MAX_ROUNDINGS = 8
"""A perturbation whose magnitude varies by at most this many roundings of a pixel in [0, 1] is flat. (A pixel is
rounded twice, as it is and when it is normalised.)"""


def rms(delta: Tensor, *, sigma: float = SMOOTHING) -> Tensor:
    """The root mean square of the perturbation over channels: (B, C, H, W) -> (B, H, W), in the units of ``delta``.

    ``sigma`` is the standard deviation, in pixels, of the Gaussian that smooths the map; default 2 (the protocol's),
    and 0 turns the smoothing off. A map that is constant but for the rounding of pixels in [0, 1] is made constant: the
    signs of a gradient, for instance, have a magnitude but no place.
    """
    check_images("delta", delta)
    magnitude = delta.square().mean(dim=1).sqrt()
    low, high = magnitude.amin(dim=(1, 2), keepdim=True), magnitude.amax(dim=(1, 2), keepdim=True)
    flat = high - low <= MAX_ROUNDINGS * torch.finfo(delta.dtype).eps
    return gaussian_smooth(torch.where(flat, low, magnitude), sigma)


def perceptual_ball_saliency(
    model: nn.Module, image: Tensor, adversarial: Tensor, *, sigma: float = SMOOTHING
) -> Tensor:
    """The map of the perceptual ball as its paper makes it (Elliott, Law, Russell, CVPR 2021): (B, H, W).

    The map is :func:`rms` of the difference of two images (B, C, H, W) in *normalised* pixels. The difference is
    divided by the ``std`` of ``model`` if that is a :class:`~ssimpert.Classifier`; the pixels of any other module count
    as normalised. ``sigma`` as in :func:`rms`.
    """
    check_images("image", image)
    check_images("adversarial", adversarial)
    check_same(("image", "adversarial"), image, adversarial)
    delta = adversarial - image
    if isinstance(model, Classifier):
        delta = delta / model.std.to(delta.dtype)
    return rms(delta, sigma=sigma)


def ssim_saliency(image: Tensor, adversarial: Tensor, *, data_range: float, window: Window = STANDARD_WINDOW) -> Tensor:
    """1 - SSIM map of two images (B, C, H, W), averaged over channels: (B, H, W), in [0, 2].

    The standard map has whole windows only, so it is smaller than the image. Here the window of a pixel is centred on
    that pixel and cut at the image's edge, where its weights are renormalised (``border="full"``, stride 1, whatever
    ``window`` says). Inside the valid region the map is therefore the standard one, and no edge is left out.

    Args:
        image: the clean images (B, C, H, W).
        adversarial: the perturbed images (B, C, H, W).
        data_range: the dynamic range of the pixels, 1 for pixels in [0, 1].
        window: the window, of odd size, since an even one has no centre; default 11x11, Gaussian.

    Raises:
        InputError: images that do not fit together, or a window of even size.
    """
    if window.size % 2 == 0:
        raise InputError(f"window size must be odd to be centred on a pixel, got {window.size}")
    centred = replace(window, border="full", stride=1)
    full = dissimilarity_map(image, adversarial, data_range=data_range, window=centred)
    return full.mean(dim=1).clamp(min=0)


def contribution(gradient: Tensor, delta: Tensor, *, sigma: float = SMOOTHING) -> Tensor:
    """The positive part of ``sum_c g_c d_c``: gradient g and perturbation d, (B, C, H, W) each -> (B, H, W).

    The map is in the units of the margin. The sum over channels comes before the positive part, so without smoothing
    the map adds up to the first-order gain in margin if no pixel works against that gain. ``sigma`` as in :func:`rms`.
    """
    check_images("gradient", gradient)
    check_images("delta", delta)
    check_same(("gradient", "delta"), gradient, delta)
    return gaussian_smooth((gradient * delta).sum(dim=1).clamp(min=0), sigma)


def saliency(
    kind: str,
    image: Tensor,
    adversarial: Tensor,
    gradient: Tensor | None = None,
    *,
    sigma: float = SMOOTHING,
    window: Window = STANDARD_WINDOW,
    data_range: float = 1.0,
) -> Tensor:
    """One saliency map by its name (``rms``, ``ssim``, ``contribution``): (B, H, W).

    Args:
        kind: a name in :data:`SALIENCY_KINDS`.
        image: the clean images, (B, C, H, W).
        adversarial: the perturbed images, (B, C, H, W).
        gradient: the margin's gradient at ``image``, (B, C, H, W). Only ``contribution`` needs it; default ``None``.
        sigma: the smoothing of ``rms`` and ``contribution`` in pixels, default 2; 0 turns the smoothing off.
        window: the window of ``ssim``, of odd size; default 11x11, Gaussian.
        data_range: the dynamic range of the pixels for ``ssim``; default 1, for pixels in [0, 1].

    Raises:
        InputError: an unknown kind, tensors that do not fit together, or no gradient for ``contribution``.
    """
    if kind not in SALIENCY_KINDS:
        raise unknown_name("saliency map", kind, SALIENCY_KINDS)
    if kind == "ssim":
        return ssim_saliency(image, adversarial, data_range=data_range, window=window)
    check_images("image", image)
    check_images("adversarial", adversarial)
    check_same(("image", "adversarial"), image, adversarial)
    delta = adversarial - image
    if kind == "rms":
        return rms(delta, sigma=sigma)
    if gradient is None:
        raise InputError("saliency map 'contribution' needs the margin's gradient at the image, got None")
    return contribution(gradient, delta, sigma=sigma)


def saliency_maps(
    image: Tensor,
    adversarial: Tensor,
    gradient: Tensor,
    *,
    sigma: float = SMOOTHING,
    window: Window = STANDARD_WINDOW,
    data_range: float = 1.0,
) -> dict[str, Tensor]:
    """All three maps by name, each (B, H, W). The arguments are those of :func:`saliency`; all three maps share them.

    Args:
        image: the clean images, (B, C, H, W).
        adversarial: the perturbed images, (B, C, H, W).
        gradient: the margin's gradient at ``image``, (B, C, H, W).
        sigma, window, data_range: as in :func:`saliency`.
    """
    return {
        kind: saliency(kind, image, adversarial, gradient, sigma=sigma, window=window, data_range=data_range)
        for kind in SALIENCY_KINDS
    }
