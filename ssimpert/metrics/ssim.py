"""The structural similarity index (SSIM), its map, its least window, and the global contrast distance.

Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity",
IEEE TIP 2004. In a window with mean ``m``, variance ``V`` and covariance ``cov``, for images x, y of dynamic
range L, with C1 = (0.01 L)^2 and C2 = (0.03 L)^2:

    S1 = (2 m_x m_y + C1) / (m_x^2 + m_y^2 + C1),   S2 = (2 cov + C2) / (V_x + V_y + C2),   SSIM = S1 S2.

Everything is evaluated in float64 through the equal but cancellation-free forms

    1 - S1 = (m_x - m_y)^2 / (m_x^2 + m_y^2 + C1),   1 - S2 = V(x - y) / (V_x + V_y + C2),

so that identical images give exactly 1 and 1 - SSIM keeps its digits for imperceptible differences.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from solvers import Window
from ssimpert.validation import check_images, check_positive, check_same

K1, K2 = 0.01, 0.03

STANDARD_WINDOW = Window.gaussian(1.5, 11, border="valid")
"""The window of Wang et al.: 11 x 11 Gaussian weights of standard deviation 1.5 pixels."""


def dissimilarity_map(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float,
    window: Window = STANDARD_WINDOW,
    sample_covariance: bool = False,
) -> Tensor:
    """``1 - SSIM`` in every window of ``window``, whose border and stride are used as given.

    Args:
        x, y: images (B, C, H, W), float32 or float64, equal in shape, dtype and device.
        data_range: the dynamic range L of the pixels (1 for [0, 1], 255 for 8 bits), positive; never guessed.
        window: the sliding window; ``border="full"`` has cut windows at the edges, so at stride 1 and an odd
            size the map covers every pixel.
        sample_covariance: scale variances and covariance by N/(N - 1), N the pixels inside the window
            (whatever the weights, as scikit-image does). Default ``False``: population values, as published.

    Returns:
        (B, C, P_h, P_w) in the inputs' dtype, differentiable; in [0, 2] for nonnegative pixels. An image with
        a pixel that isn't finite has NaN in its map, in the windows over that pixel and perhaps in others.

    Raises:
        InputError: wrong shape, dtype or data range.
        solvers.errors.ProblemError: the window is larger than the image.
    """
    return _dissimilarity(x, y, data_range, window, sample_covariance).to(x.dtype)


def ssim_map(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float,
    window: Window = STANDARD_WINDOW,
    sample_covariance: bool = False,
) -> Tensor:
    """The SSIM index of every whole window at stride 1: (B, C, H - size + 1, W - size + 1).

    The standard index knows whole windows only, so the border and stride of ``window`` are ignored (``valid``
    and 1 are used); libraries that pad give other values on the same pair. Equals scikit-image's full map
    with ``(size - 1)//2`` pixels cut from each edge. For arguments and errors see :func:`dissimilarity_map`.
    """
    return _valid_map(x, y, data_range, window, sample_covariance).to(x.dtype)


def ssim(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float,
    window: Window = STANDARD_WINDOW,
    sample_covariance: bool = False,
) -> Tensor:
    """The SSIM index of each pair, (B,): the mean of :func:`ssim_map` over windows and channels.

    The default is the published index, which is scikit-image's ``structural_similarity(gaussian_weights=True,
    sigma=1.5, use_sample_covariance=False)``; scikit-image's own default is ``window=Window.uniform(7),
    sample_covariance=True``. Identical finite images give exactly 1; a pixel that isn't finite gives NaN for
    its image alone. For arguments and errors see :func:`dissimilarity_map`.
    """
    return _valid_map(x, y, data_range, window, sample_covariance).mean(dim=(1, 2, 3)).to(x.dtype)


def min_window_ssim(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float,
    window: Window = STANDARD_WINDOW,
    sample_covariance: bool = False,
) -> Tensor:
    """The least value of :func:`ssim_map` over windows and channels, (B,); NaN where the map has a NaN.

    A mean SSIM of 0.99 can hide windows at 0.7, so the two are reported together.
    """
    return _valid_map(x, y, data_range, window, sample_covariance).amin(dim=(1, 2, 3)).to(x.dtype)


def contrast_distance(x: Tensor, y: Tensor, *, constant: float = 9e-4, pixel_scale: float = 2.0) -> Tensor:
    """``d2 = sqrt(1 - S2)`` with the whole image, all channels together, as one window: (B,), in [0, sqrt 2].

    Pochimireddy, Siripuram, Channappayya (arXiv 2106.12731): with ``x~`` the image minus its mean over all
    channels and pixels, ``1 - S2 = |x~ - y~|^2 / (|x~|^2 + |y~|^2 + constant)``. It is blind to a shift of
    the mean. d2 is a metric (Brunet, Vrscay, Wang, TIP 2012), so steps add up at most to their sum.

    Args:
        x, y: images (B, C, H, W), float32 or float64, equal in shape, dtype and device.
        constant: c2 > 0, added to the sums of squares (not to their means), in the units after scaling.
        pixel_scale: pixels are multiplied by it first. The default 2 takes [0, 1] to the paper's range
            [-1, 1] (the offset drops out); use 1 for pixels already in [-1, 1].

    Returns:
        (B,) in the inputs' dtype; exactly 0 for identical images, where the gradient is the subgradient 0.
    """
    _check_pair(x, y)
    constant = check_positive("constant", constant)
    scale = check_positive("pixel_scale", pixel_scale)
    first, second = (scale * v.double().flatten(1) for v in (x, y))
    difference = _centred(first - second)
    energy = _centred(first).square().sum(1) + _centred(second).square().sum(1) + constant
    return (torch.linalg.vector_norm(difference, dim=1) / energy.sqrt()).to(x.dtype)


def _valid_map(x: Tensor, y: Tensor, data_range: float, window: Window, sample_covariance: bool) -> Tensor:
    whole = replace(window, border="valid", stride=1)
    return 1.0 - _dissimilarity(x, y, data_range, whole, sample_covariance)


def _dissimilarity(x: Tensor, y: Tensor, data_range: float, window: Window, sample_covariance: bool) -> Tensor:
    """:func:`dissimilarity_map` in float64."""
    _check_pair(x, y)
    data_range = check_positive("data_range", data_range)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    x, y = x.double(), y.double()
    windows = window.operator_for(x)
    # Four windowed means serve all: m_y is m_x - m(x - y), and V_x and V_y are needed as a sum only.
    difference = x - y
    mean_x, mean_difference = windows.mean(x), windows.mean(difference)
    mean_squares = mean_x.square() + (mean_x - mean_difference).square()
    luminance = mean_difference.square() / (mean_squares + c1)
    spread = (windows.mean(x.square() + y.square()) - mean_squares).clamp(min=0)
    changed = (windows.mean(difference.square()) - mean_difference.square()).clamp(min=0)
    # kappa scales V_x, V_y and V(x - y) alike; dividing C2 by it does the same, and stays finite where a
    # window is cut down to one pixel (N = 1: all variances are 0, and so is 1 - S2).
    if sample_covariance:
        c2_over_kappa = c2 * (windows.pixels - 1) / windows.pixels
        structure = changed / torch.where(windows.pixels > 1, spread + c2_over_kappa, 1.0)
    else:
        structure = changed / (spread + c2)
    return luminance + structure - luminance * structure


def _check_pair(x: Tensor, y: Tensor) -> None:
    check_images("x", x)
    check_images("y", y)
    check_same(("x", "y"), x, y)


def _centred(vectors: Tensor) -> Tensor:
    return vectors - vectors.mean(dim=1, keepdim=True)
