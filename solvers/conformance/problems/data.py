"""The images, gradients, masks and feature operators of the standard problems."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from solvers.conformance.problems.photos import photo
from solvers.constraints import LinearOperator

# Constant images by their pixels' value; they get a photo's gradient.
CONSTANT_IMAGES = {"grey": 0.5, "black": 0.0, "white": 1.0}
# Several images under one name. "nan" and "outside" are photos with a defect.
IMAGE_GROUPS = {"plain": ("grey", "black", "white"), "defect": ("chelsea-32", "nan", "outside")}


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
    """Photos and gradients, (B, C, H, W) each, changed as asked.

    Args:
        names: of photos, constant images or images with a defect, or the name of a group of them.
        crop: the side of the top left square to cut out, in pixels. Default: the whole photo.
        channels: how many of the three channels to keep.
        contrast: by how much pixels are stretched about 1/2, before they are clipped.
        scale: what the stretched pixels are multiplied by.
        sizes: what the gradients are multiplied by, one number per image or one for all.
        dtype: of both tensors.
    """
    if isinstance(names, str):
        names = IMAGE_GROUPS.get(names, (names,))
    pairs = [_pair(name) for name in names]
    image, gradient = (torch.cat(values)[:, :channels, :crop, :crop] for values in zip(*pairs, strict=True))
    image = ((image - 0.5) * contrast + 0.5).clamp(0, max(1.0, float(image.max()))) * scale
    gradient = gradient * torch.tensor(sizes, dtype=torch.float64).reshape(-1, 1, 1, 1)
    return image.to(dtype), gradient.to(dtype)


def _pair(name: str) -> tuple[Tensor, Tensor]:
    """One image and its gradient: a photo, a constant image with a photo's gradient, or a photo with a defect."""
    crop = photo("coffee-32" if name in (*CONSTANT_IMAGES, "nan", "outside") else name)
    image, gradient = crop.image.clone(), crop.gradient.clone()
    if name in CONSTANT_IMAGES:
        image = torch.full_like(image, CONSTANT_IMAGES[name])
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
    """A feature Jacobian that is an explicit matrix (features, 3*size*size) with rows of norm 1.

    Its rows are random, and smooth over the pixels as those of deep features are.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(features, 3, size // 4, size // 4, generator=generator, dtype=torch.float64)
    rows = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear").flatten(1)
    matrix = rows / rows.norm(dim=1, keepdim=True)
    return LinearOperator(
        lambda image: image.flatten(1) @ matrix.T.to(image.device),
        lambda values: (values @ matrix.to(values.device)).reshape(-1, 3, size, size),
        torch.float64,
    )
