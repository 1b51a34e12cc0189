"""Saliency maps of a perturbation: where it is large, changes structure, or moves the decision.

The three maps of the evaluation protocol (section 2) for an image ``x``, a perturbation ``d`` and the
margin's gradient ``g`` at ``x``:

* ``rms``: sqrt(mean over channels of d^2), smoothed (Elliott, Law, Russell, CVPR 2021);
* ``ssim``: 1 - SSIM map of ``x`` and ``x + d`` (Pochimireddy et al., arXiv 2106.12731);
* ``contribution``: positive part of the sum over channels of g d, smoothed: the pixel's share of the
  first-order gain in margin.

All are (B, H, W), in the inputs' dtype, nonnegative and not normalised.
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
ROUNDINGS = 8  # of a pixel in [0, 1], twice its own and those of normalised pixels


def rms(delta: Tensor, *, sigma: float = SMOOTHING) -> Tensor:
    """Root mean square of the perturbation over channels: (B, C, H, W) -> (B, H, W).

    ``sigma``: standard deviation in pixels of the Gaussian that smooths the map; default 2 (protocol), 0
    turns it off. In the units of ``delta``. A map that is constant but for the rounding of pixels in [0, 1] is made
    constant: the signs of a gradient, for instance, have a magnitude but no place.
    """
    check_images("delta", delta)
    magnitude = delta.square().mean(dim=1).sqrt()
    low, high = magnitude.amin(dim=(1, 2), keepdim=True), magnitude.amax(dim=(1, 2), keepdim=True)
    flat = high - low <= ROUNDINGS * torch.finfo(delta.dtype).eps
    return gaussian_smooth(torch.where(flat, low, magnitude), sigma)


def perceptual_ball_saliency(
    model: nn.Module, image: Tensor, adversarial: Tensor, *, sigma: float = SMOOTHING
) -> Tensor:
    """The perceptual ball's map as the paper makes it: :func:`rms` of the difference of two images (B, C, H, W) in
    *normalised* pixels, (B, H, W) (Elliott, Law, Russell, CVPR 2021).

    ``model``: a :class:`~ssimpert.Classifier`, by whose ``std`` the difference is divided; any other module's pixels
    count as normalised.
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

    The standard map has whole windows only and is smaller than the image. Here each pixel gets the window
    centred on it, cut at the image's edge with its weights renormalised (``border="full"``, stride 1,
    whatever ``window`` says), so that inside the valid region it is the standard map and no edge is left out.
    ``window`` must have an odd size, for an even one has no centre. ``data_range``: the dynamic range of the
    pixels.
    """
    if window.size % 2 == 0:
        raise InputError(f"window size must be odd to be centred on a pixel, got {window.size}")
    centred = replace(window, border="full", stride=1)
    full = dissimilarity_map(image, adversarial, data_range=data_range, window=centred)
    return full.mean(dim=1).clamp(min=0)


def contribution(gradient: Tensor, delta: Tensor, *, sigma: float = SMOOTHING) -> Tensor:
    """Positive part of ``sum_c g_c d_c``: two (B, C, H, W) -> (B, H, W), in the margin's units.

    The sum over channels comes first, so the map without smoothing adds up to the first-order gain in margin
    wherever no pixel works against it. ``sigma`` as in :func:`rms`.
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
        image, adversarial: the clean and the perturbed image, (B, C, H, W).
        gradient: the margin's gradient at ``image``, (B, C, H, W); only ``contribution`` needs it.
        sigma: smoothing of ``rms`` and ``contribution`` in pixels; 0 turns it off.
        window: the window of the ``ssim`` map.
        data_range: dynamic range of the pixels; the package's images lie in [0, 1], hence 1.
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
    """All three maps by name, each (B, H, W). Arguments as in :func:`saliency`."""
    return {
        kind: saliency(kind, image, adversarial, gradient, sigma=sigma, window=window, data_range=data_range)
        for kind in SALIENCY_KINDS
    }
