"""The images, gradients, masks and feature operators of the standard problems."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from solvers.conformance.problems.photos import photo
from solvers.constraints import LinearOperator

# Constant images, given a photo's gradient, and photos spoilt so that they can't be solved.
LEVELS = {"grey": 0.5, "black": 0.0, "white": 1.0}
GROUPS = {"plain": ("grey", "black", "white"), "defect": ("chelsea-32", "nan", "outside")}


def images(
    names: str | tuple[str, ...] = "chelsea-32",
    *,
    crop: int | None = None,
    channels: int = 3,
    contrast: float = 1.0,
    scale: float = 1.0,
    sizes: tuple[float, ...] = (1.0,),
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Photos and gradients, (B, C, H, W): stretched about 1/2 by ``contrast`` and clipped, times ``scale``; the
    gradients times ``sizes``, one per image or one for all."""
    if isinstance(names, str):
        names = GROUPS.get(names, (names,))
    pairs = [_pair(name) for name in names]
    image, gradient = (torch.cat(values)[:, :channels, :crop, :crop] for values in zip(*pairs, strict=True))
    image = ((image - 0.5) * contrast + 0.5).clamp(0, max(1.0, float(image.max()))) * scale
    gradient = gradient * torch.tensor(sizes, dtype=torch.float64).reshape(-1, 1, 1, 1)
    return image.to(dtype), gradient.to(dtype)


def _pair(name: str) -> tuple[Tensor, Tensor]:
    """One image and gradient: a photo, a constant image with a photo's gradient, or a photo spoilt."""
    taken = photo("coffee-32" if name in (*LEVELS, "nan", "outside") else name)
    image, gradient = taken.image.clone(), taken.gradient.clone()
    if name in LEVELS:
        image = torch.full_like(image, LEVELS[name])
    if name == "nan":
        gradient[0, 1, 2, 3] = math.nan
    if name == "outside":
        image[0, 2, 1, 0] = 1.5
    return image, gradient


def disc(size: int) -> Tensor:
    """A bool mask (size, size), True within 3/8 of the size from the centre."""
    line = torch.arange(size) - (size - 1) / 2
    return line[:, None].square() + line[None, :].square() <= (3 * size / 8) ** 2


def smooth_features(features: int = 24, size: int = 32, seed: int = 0) -> LinearOperator:
    """A feature Jacobian as an explicit matrix (features, 3*size*size): random, smooth over the pixels as deep
    features are, rows of norm 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(features, 3, size // 4, size // 4, generator=generator, dtype=torch.float64)
    rows = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear").flatten(1)
    matrix = rows / rows.norm(dim=1, keepdim=True)
    return LinearOperator(
        lambda image: image.flatten(1) @ matrix.T.to(image.device),
        lambda values: (values @ matrix.to(values.device)).reshape(-1, 3, size, size),
        torch.float64,
    )
