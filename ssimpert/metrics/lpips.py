"""LPIPS with its published calibration. It needs torchmetrics and the weights of a backbone."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.models.catalog import load_model
from ssimpert.models.forward_passes import CHUNK, in_chunks
from ssimpert.validation import check_count, check_images, check_same

LpipsNet = Literal["alex", "vgg", "squeeze"]
_BACKBONES = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
# In pixels. On smaller images one of the backbones pools its map down to nothing.
LPIPS_SMALLEST_SIDE = 32
# x + d may exceed 1 by a rounding error.
_RANGE_TOLERANCE = 1e-6


def lpips_distance(
    image: Tensor,
    adversarial: Tensor,
    weights: str | Path | None = None,
    net: LpipsNet = "alex",
    *,
    chunk: int = CHUNK,
) -> Tensor:
    """Learned perceptual image patch similarity, version 0.1, of each pair: (B,), 0 for equal images, no upper bound.

    Source: Zhang, Isola, Efros, Shechtman, Wang, "The unreasonable effectiveness of deep features as a perceptual
    metric", CVPR 2018, equation 1: the sum over layers of the mean over positions of squared differences of
    unit-normalised channels, weighted channel by channel. torchmetrics (extra ``lpips``) computes the value. The
    channel weights, which were fitted to people's judgements, come with torchmetrics. **The backbone's ImageNet weights
    do
    not**: without them the value means nothing. The arithmetic was tested with random backbones, since the published
    weights were not available there.

    Args:
        image, adversarial: (B, 3, H, W), RGB in [0, 1], float32 or float64, equal in shape, dtype and device, at least
            32 pixels a side. They are mapped to the [-1, 1] that LPIPS takes. The computation is in float32.
        weights: torchvision's state dict of the whole backbone. A file (``alexnet-owt-*.pth``, ``vgg16-*.pth``,
            ``squeezenet1_1-*.pth``) is read with ``weights_only=True``; with None (default) torchvision downloads it;
            "random" is for tests. A loaded network is kept for the next call.
        net: the backbone: "alex" (default, which the authors advise for measuring), "vgg" or "squeeze".
        chunk: how many pairs go through the network at a time, at least 1 (default 16); halved where memory runs out.

    Returns:
        (B,) in the images' dtype, without gradient. An image with a pixel that is NaN has NaN.

    Raises:
        InputError: images that don't match or leave [0, 1], an unknown net, torchmetrics is not installed, or weights
            can't be downloaded, read or fitted to the backbone.
    """
    if net not in get_args(LpipsNet):
        raise InputError(f"unknown net {net!r}; valid: {', '.join(get_args(LpipsNet))}")
    chunk = check_count("chunk", chunk)
    for name, images in (("image", image), ("adversarial", adversarial)):
        _check_pixels(name, images)
    check_same(("image", "adversarial"), image, adversarial)
    if find_spec("torchmetrics") is None:
        raise InputError("LPIPS needs torchmetrics; install it with pip install 'ssimpert[lpips]'")
    file = Path(weights).resolve() if weights not in (None, "random") else None
    # The time of the last change tells when the file was replaced: the network is then loaded again.
    stamp = file.stat().st_mtime_ns if file is not None and file.is_file() else 0
    network = _network(net, weights if file is None else file, stamp, image.device)

    def distance_of(clean: Tensor, changed: Tensor) -> tuple[Tensor]:
        with torch.no_grad():
            return (network(clean.float(), changed.float(), normalize=True).flatten(),)

    return in_chunks(distance_of, image, adversarial, chunk=chunk)[0].to(image.dtype)


@lru_cache(maxsize=2)
def _network(net: LpipsNet, weights: str | Path | None, stamp: int, device: torch.device) -> nn.Module:
    """torchmetrics' module with the weights filled in, on ``device``; another ``stamp`` means another file."""
    # The public class can only download its backbone.
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    backbone = load_model(f"torchvision:{_BACKBONES[net]}", weights=weights, device="cpu").network
    network = _NoTrainLpips(net=net, pnet_rand=True)
    slots = network.net.state_dict()
    # Both have the same layers in the same order; torchmetrics names them by slices.
    values = backbone.get_submodule("features").state_dict().values()
    network.net.load_state_dict(dict(zip(slots, values, strict=True)))
    return network.to(device)


def _check_pixels(name: str, images: Tensor) -> None:
    check_images(name, images)
    _, channels, height, width = images.shape
    if channels != 3:
        raise InputError(f"{name} must have 3 channels (RGB), got {channels}; repeat a grey one")
    if min(height, width) < LPIPS_SMALLEST_SIDE:
        raise InputError(f"{name} is {width}x{height} pixels; LPIPS needs at least {LPIPS_SMALLEST_SIDE} a side")
    # NaN is no error here: it gives NaN for its own image alone.
    outside = (images < -_RANGE_TOLERANCE) | (images > 1 + _RANGE_TOLERANCE)
    if bool(outside.any()):
        first = float(images[outside][0])
        raise InputError(f"{name} must have pixels in [0, 1], got {first:.6g}")
