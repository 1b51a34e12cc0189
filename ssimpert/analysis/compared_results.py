"""What a perturbation must be to be compared on given images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssimpert.errors import InputError

if TYPE_CHECKING:
    from ssimpert.perturbation.results import PerturbResult


def check_fits(image: Tensor, result: PerturbResult) -> None:
    """Raise :class:`InputError` unless ``result`` is a perturbation of ``image`` (B, C, H, W)."""
    if not all(isinstance(getattr(result, name, None), Tensor) for name in ("adversarial", "delta", "gradient")):
        raise InputError(f"a perturbation to compare must be a PerturbResult, got {type(result).__name__}")
    for name in ("adversarial", "delta", "gradient"):
        values = getattr(result, name)
        if values.shape != image.shape:
            raise InputError(
                f"image has shape {tuple(image.shape)}, but {name} of {result.name!r} has {tuple(values.shape)}; "
                "compare needs the images that were perturbed"
            )
        if values.device != image.device:
            raise InputError(
                f"image is on {image.device}, {result.name!r} on {values.device}; bring both to one device"
            )
    # Here and not above: perturb may come to use the analysis itself.
    from ssimpert.perturbation.results import SAME_IMAGE, apart_from

    apart = apart_from(image, result)
    wrong = (~(apart <= SAME_IMAGE)).nonzero()  # NaN, too
    if len(wrong):
        first = int(wrong[0])
        raise InputError(
            f"image {first} is not the one that {result.name!r} perturbed: they are {float(apart[first]):.3g} apart"
        )


def check_room(image: Tensor, result: PerturbResult, support: Tensor | None) -> None:
    """Raise :class:`InputError` unless ``support`` is given for a confined perturbation, and holds it."""
    if support is None:
        if result.settings.get("support") is not None:
            raise InputError(
                f"{result.name!r} was confined to a support: give it as support=, so that its l2 control has the same "
                "room, or a control of your own"
            )
        return
    if not isinstance(support, Tensor) or support.dtype != torch.bool:
        got = f"a tensor of {support.dtype}" if isinstance(support, Tensor) else type(support).__name__
        raise InputError(f"support must be a bool tensor, True where pixels may change, got {got}")
    try:
        inside = support.to(image.device).expand(image.shape)
    except RuntimeError as error:
        raise InputError(
            f"support of shape {tuple(support.shape)} does not fit images {tuple(image.shape)}; give (H, W), (C, H, W) "
            "or (B, C or 1, H, W)"
        ) from error
    outside = ((result.delta != 0) & ~inside).flatten(1).any(dim=1).nonzero()
    if len(outside):
        raise InputError(f"{result.name!r} changes pixels of image {int(outside[0])} outside of the support")
