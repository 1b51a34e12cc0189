"""The blurred image from which insertion starts, as the released code of RISE blurs it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from ssimpert.analysis.perturbation_maps.smoothing import gaussian_smooth

BLUR_SIZE = 11
BLUR_SIGMA = 5.0


def blur_kernel() -> Tensor:
    """The kernel of the published blur, (11, 11) float64, sum 1: a Gaussian of sigma 5 over a delta in an 11x11 field.

    The field mirrors at its edge (the default of ``scipy.ndimage.gaussian_filter``). The mirror folds the Gaussian's
    tails back into the field, so the kernel is flatter than a Gaussian cut at 11 pixels.
    """
    delta = torch.zeros(1, BLUR_SIZE, BLUR_SIZE, dtype=torch.float64)
    delta[0, BLUR_SIZE // 2, BLUR_SIZE // 2] = 1
    return gaussian_smooth(delta, BLUR_SIGMA)[0]


def blurred(images: Tensor, mean_colour: Tensor) -> Tensor:
    """Images (B, C, H, W) blurred around the mean colour m (1, C, 1, 1): m + blur(image - m), (B, C, H, W).

    In normalised pixels this is the published blur with zeros beyond the edge, whatever the scale of the normalisation.
    """
    # The kernel is the product of its marginals. Two passes of 11 taps therefore do what one pass of 121 taps does.
    taps = blur_kernel().sum(dim=0).to(images)
    batch, channels, height, width = images.shape
    planes = (images - mean_colour).reshape(batch * channels, 1, height, width)
    planes = conv2d(planes, taps.view(1, 1, 1, -1), padding=(0, BLUR_SIZE // 2))
    planes = conv2d(planes, taps.view(1, 1, -1, 1), padding=(BLUR_SIZE // 2, 0))
    return planes.reshape(images.shape) + mean_colour
