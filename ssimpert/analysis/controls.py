"""Control maps that know nothing of a perturbation: what an agreement has to beat before it means anything.

A structural constraint makes a perturbation follow the photo's local contrast, and any ascent makes it follow
the gradient. Both therefore stand beside every perturbation's agreement with a class activation map.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from solvers import Window
from ssimpert.analysis.saliency import SMOOTHING
from ssimpert.analysis.smoothing import gaussian_smooth
from ssimpert.errors import InputError
from ssimpert.metrics.images import check_images

LOCAL_WINDOW = Window.uniform(7)


def local_std(image: Tensor, window: Window = LOCAL_WINDOW) -> Tensor:
    """Local standard deviation of the image alone: (B, C, H, W) -> (B, H, W), in the pixels' units.

    Root of the mean over channels of the weighted population variance in the window centred on each pixel,
    cut at the image's edge (``border="full"``, stride 1, whatever ``window`` says). Odd window sizes only.
    Evaluated in float64, returned in the image's dtype. Not smoothed further: the window already smooths.
    """
    check_images("image", image)
    if window.size % 2 == 0:
        raise InputError(f"window size must be odd to be centred on a pixel, got {window.size}")
    centred = replace(window, border="full", stride=1)
    exact = image.double()
    variance = centred.operator_for(exact).variance(exact)
    return variance.mean(dim=1).sqrt().to(image.dtype)


def gradient_magnitude(gradient: Tensor, *, sigma: float = SMOOTHING) -> Tensor:
    """Euclidean norm over channels of the margin's gradient: (B, C, H, W) -> (B, H, W).

    Smoothed like the perturbation maps that it is compared with (``sigma`` pixels, default 2, 0 turns it
    off); unsmoothed gradients are too noisy for a fair comparison.
    """
    check_images("gradient", gradient)
    return gaussian_smooth(gradient.square().sum(dim=1).sqrt(), sigma)
