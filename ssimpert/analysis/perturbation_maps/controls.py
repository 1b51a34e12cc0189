"""Control maps that know nothing of a perturbation. An agreement means something only if it beats theirs.

A structural constraint makes a perturbation follow the photo's local contrast. Any ascent makes a perturbation follow
the gradient. Objects stand in the middle of photos. Local contrast, gradient and a centred Gaussian therefore stand
beside the agreement of every perturbation with a class activation map.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from solvers import Window
from ssimpert.analysis.perturbation_maps.saliency import SMOOTHING
from ssimpert.analysis.perturbation_maps.smoothing import gaussian_smooth
from ssimpert.errors import InputError
from ssimpert.validation import check_count, check_images, check_positive

LOCAL_WINDOW = Window.uniform(7)
CENTRE_SIGMA = 0.25


def local_std(image: Tensor, window: Window = LOCAL_WINDOW) -> Tensor:
    """The local standard deviation of the image alone: (B, C, H, W) -> (B, H, W), in the units of the pixels.

    The value of a pixel is the root of the mean over channels of the weighted population variance in the window centred
    on that pixel. The window is cut at the image's edge (``border="full"``, stride 1, whatever ``window`` says); its
    size must be odd. Default: 7x7, all weights equal. The map is computed in float64 and returned in the dtype of
    ``image``. It is not smoothed further, because the window already smooths.

    Raises:
        InputError: an image of another shape or dtype, or a window of even size.
    """
    return _variance(image, window).sqrt().to(image.dtype)


def local_variance(image: Tensor, window: Window = LOCAL_WINDOW) -> Tensor:
    """The local variance of the image alone: (B, C, H, W) -> (B, H, W), in squared units of the pixels.

    The map is the square of :func:`local_std` and takes the same arguments. Both maps order the pixels alike, so rank
    metrics differ by rounding only; Pearson, SIM, KL, NSS and the share of energy tell the two maps apart. The
    structural index divides by this variance.
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
    """A Gaussian in the middle of the image, (H, W), 1 at the centre.

    Its agreement with a map is what comes from the habit of centring objects alone. The Gaussian is round and stretched
    to the shape of the image, as the centre model of the MIT saliency benchmark (Bylinskii et al. 2018). The centre is
    ((H - 1)/2, (W - 1)/2), which lies between pixels where a side is even. For a batch, expand the map:
    ``centred_gaussian(H, W).expand(B, -1, -1)``.

    Args:
        height: H, in pixels.
        width: W, in pixels.
        sigma: the standard deviation as a share of each side, above 0: ``sigma * height`` pixels down and ``sigma *
            width`` pixels across. Default 1/4.
        dtype: a floating-point type, default float32.
        device: default the CPU.

    Raises:
        InputError: sizes that are no positive integers, a sigma that is not positive, or another dtype.
    """
    height, width = check_count("height", height), check_count("width", width)
    sigma = check_positive("sigma", sigma)
    if not dtype.is_floating_point:
        raise InputError(f"dtype must be a floating-point type, got {dtype}")

    def profile(side: int) -> Tensor:
        offset = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
        return torch.exp(-0.5 * (offset / (sigma * side)) ** 2)

    return torch.outer(profile(height), profile(width)).to(device=device, dtype=dtype)


def gradient_magnitude(gradient: Tensor, *, sigma: float = SMOOTHING) -> Tensor:
    """The Euclidean norm over channels of the margin's gradient: (B, C, H, W) -> (B, H, W).

    The map is smoothed like the perturbation maps that stand beside it, because a gradient as it is would be too noisy
    for a fair comparison. ``sigma``: pixels, default 2; 0 turns the smoothing off.
    """
    check_images("gradient", gradient)
    return gaussian_smooth(gradient.square().sum(dim=1).sqrt(), sigma)


def _variance(image: Tensor, window: Window) -> Tensor:
    check_images("image", image)
    if window.size % 2 == 0:
        raise InputError(f"window size must be odd to be centred on a pixel, got {window.size}")
    centred = replace(window, border="full", stride=1)
    exact = image.double()
    # One pixel is subtracted from all, so that a flat image has a variance of exactly 0. Its rounding noise would
    # otherwise pass for a map.
    exact = exact - exact[..., :1, :1]
    return centred.operator_for(exact).variance(exact).mean(dim=1)
