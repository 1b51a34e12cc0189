"""The structural similarity index (SSIM), its map, its least window, and the global contrast distance.

Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity",
IEEE TIP 2004. In a window with mean ``m``, variance ``V`` and covariance ``cov``, for images x, y of dynamic
range L, with C1 = (0.01 L)^2 and C2 = (0.03 L)^2:

    S1 = (2 m_x m_y + C1) / (m_x^2 + m_y^2 + C1),   S2 = (2 cov + C2) / (V_x + V_y + C2),   SSIM = S1 S2.

Everything is evaluated in float64 through these forms, which are equal but free of cancellation:

    1 - S1 = (m_x - m_y)^2 / (m_x^2 + m_y^2 + C1),   1 - S2 = V(x - y) / (V_x + V_y + C2),

So identical images give exactly 1, and 1 - SSIM keeps its digits for imperceptible differences.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from solvers import Window
from solvers.constraints.global_ssim import pixel_range
from solvers.data_range import VALID_RANGES, first_beyond, widest_spread
from ssimpert.errors import InputError
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
    """``1 - SSIM`` in every window of ``window``, with the window's own border and stride.

    Args:
        x, y: images (B, C, H, W), float32 or float64, equal in shape, dtype and device.
        data_range: the dynamic range L of the pixels (1 for [0, 1], 255 for 8 bits), positive; never guessed. Refused
            where the pixels of both images of a pair spread over more than 4 L in a channel.
        window: the sliding window. With ``border="full"`` windows are cut at the edges, so that at stride 1 and an odd
            size the map covers every pixel. Default: :data:`STANDARD_WINDOW`.
        sample_covariance: whether to scale variances and covariance by N/(N - 1), where N is the number of pixels
            inside the window whatever the weights are (as scikit-image does). Default ``False``: population values, as
            published.

    Returns:
        (B, C, P_h, P_w) in the inputs' dtype, differentiable; in [0, 2] for nonnegative pixels. If a pixel isn't
        finite, the image's map has NaN in the windows over that pixel, and perhaps in others.

    Raises:
        InputError: a wrong shape, dtype or data range.
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

    The standard index has whole windows only. So the border and stride of ``window`` are ignored; ``valid`` and 1 are
    used. Libraries that pad give other values for the same pair. The map equals scikit-image's full map without
    ``(size - 1)//2`` pixels at each edge. For errors see :func:`dissimilarity_map`.

    Args:
        x, y, data_range, sample_covariance: see :func:`dissimilarity_map`.
        window: the sliding window, of which size and weights count. Default: :data:`STANDARD_WINDOW`.
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
    sigma=1.5, use_sample_covariance=False)``. scikit-image's own default is ``window=Window.uniform(7),
    sample_covariance=True``. Identical finite images give exactly 1. A pixel that isn't finite gives NaN for its image
    alone. For errors see :func:`dissimilarity_map`.

    Args:
        x, y, data_range, sample_covariance: see :func:`dissimilarity_map`.
        window: the sliding window, of which size and weights count. Default: :data:`STANDARD_WINDOW`.
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

    A mean SSIM of 0.99 can hide windows at 0.7, so both values are reported together. For errors see
    :func:`dissimilarity_map`.

    Args:
        x, y, data_range, sample_covariance: see :func:`dissimilarity_map`.
        window: the sliding window, of which size and weights count. Default: :data:`STANDARD_WINDOW`.
    """
    return _valid_map(x, y, data_range, window, sample_covariance).amin(dim=(1, 2, 3)).to(x.dtype)


def contrast_distance(x: Tensor, y: Tensor, *, constant: float = 9e-4, pixel_scale: float = 2.0) -> Tensor:
    """``d2 = sqrt(1 - S2)`` of each pair, with the whole image, all channels together, as one window.

    Source: Pochimireddy, Siripuram, Channappayya (arXiv 2106.12731). Let ``x~`` be the image minus its mean over all
    channels and pixels; then ``1 - S2 = |x~ - y~|^2 / (|x~|^2 + |y~|^2 + constant)``. A shift of the mean does not
    change d2. d2 is a metric (Brunet, Vrscay, Wang, TIP 2012), so the distance after several steps is at most the sum
    of the steps' distances.

    Args:
        x, y: images (B, C, H, W), float32 or float64, equal in shape, dtype and device.
        constant: c2 > 0, in the units after scaling; it is added to the sums of squares, not to their means.
        pixel_scale: a positive factor for the pixels. The default 2 takes [0, 1] to the paper's range [-1, 1] (the
            offset has no effect). Use 1 for pixels that are already in [-1, 1], and 2/L for pixels with a range of L.
            Refused where the pixels of both images of a pair spread over more than 4 L.

    Returns:
        (B,) in [0, sqrt 2], in the inputs' dtype; exactly 0 for identical images, where the gradient is the
        subgradient 0.

    Raises:
        InputError: a wrong shape or dtype, or a constant or scale that is not positive or can't be right.
    """
    _check_pair(x, y)
    constant = check_positive("constant", constant)
    scale = check_positive("pixel_scale", pixel_scale)
    whole = x.flatten(1)[:, None], y.flatten(1)[:, None]
    _check_spread("pixel_scale", f"{scale:g}; give 2/255 for 8 bits", pixel_range(constant, scale), whole)
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
    _check_spread("data_range", f"{data_range:g}; give {VALID_RANGES}", data_range, (x.flatten(2), y.flatten(2)))
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    x, y = x.double(), y.double()
    windows = window.operator_for(x)
    # Four windowed means suffice: m_y is m_x - m(x - y), and only the sum of V_x and V_y is needed.
    difference = x - y
    mean_x, mean_difference = windows.mean(x), windows.mean(difference)
    mean_squares = mean_x.square() + (mean_x - mean_difference).square()
    luminance = mean_difference.square() / (mean_squares + c1)
    spread = (windows.mean(x.square() + y.square()) - mean_squares).clamp(min=0)
    changed = (windows.mean(difference.square()) - mean_difference.square()).clamp(min=0)
    # kappa scales V_x, V_y and V(x - y) alike. To divide C2 by kappa has the same effect, and is finite where a window
    # is cut down to one pixel (N = 1: all variances are 0, and so is 1 - S2).
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


def _check_spread(name: str, given: str, data_range: float, values: tuple[Tensor, Tensor]) -> None:
    """Refuse pairs of images, both of which spread over more than ``data_range`` can mean.

    One image of a pair may: a perturbed image that nothing has clipped, say.

    Args:
        name: the option that says the range.
        given: its value, and what would be valid, for the error.
        data_range: L, the range that the option stands for.
        values: of both images, (B, G, N) each; see :func:`~solvers.data_range.widest_spread`.
    """
    spread = torch.minimum(widest_spread(values[0]), widest_spread(values[1]))
    pair = first_beyond(spread, data_range)
    if pair is not None:
        raise InputError(f"pixels of pair {pair} lie {float(spread[pair]):.6g} apart, too far for {name}={given}")


def _centred(vectors: Tensor) -> Tensor:
    return vectors - vectors.mean(dim=1, keepdim=True)
