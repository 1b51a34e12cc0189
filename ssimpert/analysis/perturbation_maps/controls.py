"""Control maps that know nothing of a perturbation: what an agreement has to beat before it means anything.

A structural constraint makes a perturbation follow the photo's local contrast, and any ascent makes it follow
the gradient; and objects stand in the middle of photos. All of these therefore stand beside every perturbation's
agreement with a class activation map.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from solvers import Window
from ssimpert.analysis.perturbation_maps.saliency import SMOOTHING
from ssimpert.analysis.perturbation_maps.smoothing import gaussian_smooth
from ssimpert.errors import InputError
from ssimpert.validation import check_images, check_positive

LOCAL_WINDOW = Window.uniform(7)
CENTRE_SIGMA = 0.25


def local_std(image: Tensor, window: Window = LOCAL_WINDOW) -> Tensor:
    """Local standard deviation of the image alone: (B, C, H, W) -> (B, H, W), in the pixels' units.

    Root of the mean over channels of the weighted population variance in the window centred on each pixel,
    cut at the image's edge (``border="full"``, stride 1, whatever ``window`` says). Odd window sizes only.
    Evaluated in float64, returned in the image's dtype. Not smoothed further: the window already smooths.
    """
    return _variance(image, window).sqrt().to(image.dtype)


def local_variance(image: Tensor, window: Window = LOCAL_WINDOW) -> Tensor:
    """Local variance of the image alone: (B, C, H, W) -> (B, H, W), in squared units of the pixels.

    The square of :func:`local_std`, with its arguments: the mean over channels. It orders the pixels alike, so rank
    metrics can't tell the two apart but for rounding; Pearson, SIM, KL, NSS and the share of energy can. It is the
    term that the structural index divides by.
    """
    return _variance(image, window).to(image.dtype)


def centred_gaussian(
    height: int,
    width: int,
    sigma: float = CENTRE_SIGMA,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """A Gaussian in the image's middle, (H, W), 1 at the centre: what agreement the habit of centring objects gives.

    ``sigma`` is the standard deviation as a share of each side, default 1/4: ``sigma * height`` pixels down and
    ``sigma * width`` across, a round Gaussian stretched to the image's shape as the centre model of the MIT saliency
    benchmark is (Bylinskii et al. 2018). The centre is ((H - 1)/2, (W - 1)/2), between pixels where a side is even.
    Expand it to compare it with a batch: ``centred_gaussian(H, W).expand(B, -1, -1)``.
    """
    for name, side in (("height", height), ("width", width)):
        if isinstance(side, bool) or not isinstance(side, int) or side < 1:
            raise InputError(f"{name} must be a positive number of pixels, got {side!r}")
    sigma = check_positive("sigma", sigma)
    if not dtype.is_floating_point:
        raise InputError(f"dtype must be a floating-point type, got {dtype}")

    def falling(side: int) -> Tensor:
        offset = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
        return torch.exp(-0.5 * (offset / (sigma * side)) ** 2)

    return torch.outer(falling(height), falling(width)).to(device=device, dtype=dtype)


def gradient_magnitude(gradient: Tensor, *, sigma: float = SMOOTHING) -> Tensor:
    """Euclidean norm over channels of the margin's gradient: (B, C, H, W) -> (B, H, W).

    Smoothed like the perturbation maps that it is compared with (``sigma`` pixels, default 2, 0 turns it
    off); unsmoothed gradients are too noisy for a fair comparison.
    """
    check_images("gradient", gradient)
    return gaussian_smooth(gradient.square().sum(dim=1).sqrt(), sigma)


def _variance(image: Tensor, window: Window) -> Tensor:
    check_images("image", image)
    if window.size % 2 == 0:
        raise InputError(f"window size must be odd to be centred on a pixel, got {window.size}")
    centred = replace(window, border="full", stride=1)
    exact = image.double()
    # From one of its pixels on, so that a flat image has exactly none: its rounding noise would pass for a map.
    exact = exact - exact[..., :1, :1]
    return centred.operator_for(exact).variance(exact).mean(dim=1)
