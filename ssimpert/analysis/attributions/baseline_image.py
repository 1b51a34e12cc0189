"""The image that stands for "nothing there".

Occlusion paints this image, the masks of RISE fade to it, and path integrals start from it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solvers.validation import as_list, as_real, shown
from ssimpert.errors import InputError
from ssimpert.models.forward_passes import Model
from ssimpert.validation import Numbers

Baseline = float | Tensor | NDArray[Any] | None


def mean_colour(model: Model, channels: int) -> Tensor | None:
    """The tensor ``model.mean`` as (1, C, 1, 1); ``None`` for a model without such a tensor.

    Raises:
        InputError: a ``mean`` that has neither 1 nor ``channels`` numbers, or that is not finite.
    """
    mean = getattr(model, "mean", None)
    if not isinstance(mean, Tensor):
        return None
    if mean.numel() not in (1, channels) or not bool(mean.isfinite().all()):
        raise InputError(f"the model's mean must be 1 or {channels} finite numbers, got {mean.flatten().tolist()}")
    return mean.detach().reshape(1, -1, 1, 1).expand(1, channels, 1, 1)


def given_colour(baseline: float | Numbers, images: Tensor) -> Tensor:
    """A number, an array or a list of numbers as a tensor, in the dtype and on the device of ``images``.

    Raises:
        InputError: anything else.
    """
    number = as_real(baseline)
    if number is not None:
        return torch.tensor(number, device=images.device, dtype=images.dtype)
    if isinstance(baseline, np.ndarray) and baseline.dtype.kind in "iuf":
        return torch.from_numpy(baseline.astype(np.float64)).to(images)
    if isinstance(baseline, Tensor) and baseline.dtype != torch.bool and not baseline.is_complex():
        return baseline.detach().to(images)
    entries = None if isinstance(baseline, (np.ndarray, Tensor)) else as_list(baseline)
    if not entries or any(as_real(entry) is None for entry in entries):
        raise InputError(f"baseline must be None, a finite number or a tensor, got {shown(baseline)}")
    return torch.tensor(entries, device=images.device, dtype=images.dtype)


def baseline_image(model: Model, images: Tensor, baseline: Baseline = None) -> Tensor:
    """``baseline`` as an image for each of ``images``: (B, C, H, W), in their dtype and on their device (a view).

    Args:
        model: the classifier, whose ``mean`` is the default baseline.
        images: (B, C, H, W).
        baseline: ``None`` (default) for the mean colour, :func:`mean_colour`, which is zero in normalised pixels. The
            deletion metric writes the same colour, so that attributions and metrics mean the same by "absent"; black
            would attribute nothing to black pixels. A model without a mean gets 0: its pixels count as normalised. A
            number paints every channel with that number. A tensor must broadcast to the images, for instance a colour
            (1, C, 1, 1) or an image (1, C, H, W).

    Raises:
        InputError: a number that is not finite, or a tensor that does not broadcast or is not finite.
    """
    if baseline is None:
        mean = mean_colour(model, images.shape[1])
        colour = torch.zeros((), device=images.device) if mean is None else mean
    else:
        colour = given_colour(baseline, images)
        if not bool(colour.isfinite().all()):
            got = "it has NaN or infinite pixels" if colour.ndim else f"got {shown(baseline)}"
            raise InputError(f"baseline must be finite; {got}")
    try:
        return colour.to(images).expand(images.shape)
    except RuntimeError as error:
        raise InputError(
            f"baseline of shape {tuple(colour.shape)} does not fit images {tuple(images.shape)}; "
            "give a colour (1, C, 1, 1) or an image (1, C, H, W)"
        ) from error
