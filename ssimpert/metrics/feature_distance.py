"""How far apart two images are in a classifier's own deep features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.linearization.deep_features import Features, Normalization, deep_features
from ssimpert.models.forward_passes import CHUNK, check_model, in_chunks, model_dtype, outside_inference_mode
from ssimpert.models.layouts import Layout
from ssimpert.validation import check_count, check_images, check_same


def feature_distance(
    model: nn.Module | Features,
    image: Tensor,
    adversarial: Tensor,
    layers: Sequence[str] | None = None,
    normalization: Normalization | None = None,
    *,
    layout: Layout | None = None,
    prefix_tokens: int | None = None,
    differentiable: bool = False,
    chunk: int = CHUNK,
) -> Tensor:
    """``|phi(x') - phi(x)|`` for each image, (B,), nonnegative, without a unit; 0 for equal images.

    phi are deep features of chosen layers. The channels of each position are divided by their norm, and each layer by
    sqrt(H W), as in Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018,
    equation 1 with all weights 1. The squared distance is the sum over the layers of the mean over positions of squared
    differences of unit vectors, so it is at most 4 for each layer. To first order the distance is the ``|J d|`` that
    :class:`solvers.FeatureBall` bounds.

    This distance is **not** LPIPS: no weights were fitted to people's judgements, the network is the classifier itself,
    and the root is taken. :func:`lpips_distance` is LPIPS.

    Args:
        model: a :class:`~ssimpert.Classifier`, any module that takes images (B, C, H, W) if ``layers`` are named, or
            features of :func:`~ssimpert.deep_features`, which fix layers and normalization. The model is evaluated in
            its own dtype.
        image, adversarial: (B, C, H, W) in [0, 1], float32 or float64, equal in shape, dtype and device. The model
            decides which heights and widths are valid.
        layers, normalization: see :func:`~ssimpert.deep_features`; default: the model's
            :func:`~ssimpert.linearization.default_layers` and "unit-channel".
        layout, prefix_tokens: see :func:`~ssimpert.deep_features`; default: the layout of each layer is found out.
        differentiable: whether to keep the graph to both images (default False). At equal images the gradient is the
            subgradient 0.
        chunk: how many images go through the model at a time, at least 1 (default 16); halved where memory runs out.

    Returns:
        (B,) in the images' dtype. An image with a pixel that isn't finite has NaN.

    Raises:
        InputError: images that don't match, unknown layers, no layers, layers or a normalization beside features that
            fix them, or a model in training mode.
    """
    check_images("image", image)
    check_images("adversarial", adversarial)
    check_same(("image", "adversarial"), image, adversarial)
    chunk = check_count("chunk", chunk)
    features = _features(model, layers, normalization, layout, prefix_tokens)
    check_model(features.model)
    if not features.layers:
        raise InputError("a distance needs features of at least one layer, got layers=[]")
    precision = model_dtype(features.model)

    def distance_of(clean: Tensor, changed: Tensor) -> tuple[Tensor]:
        with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
            difference = features(changed.to(precision)) - features(clean.to(precision))
            return (torch.linalg.vector_norm(difference, dim=1),)

    with outside_inference_mode():
        return in_chunks(distance_of, image, adversarial, chunk=chunk)[0].to(image.dtype)


def _features(
    model: nn.Module | Features,
    layers: Sequence[str] | None,
    normalization: Normalization | None,
    layout: Layout | None,
    prefix_tokens: int | None,
) -> Features:
    if not isinstance(model, Features):
        chosen = "unit-channel" if normalization is None else normalization
        return deep_features(model, layers, chosen, layout=layout, prefix_tokens=prefix_tokens)
    given = {"layers": layers, "normalization": normalization, "layout": layout, "prefix_tokens": prefix_tokens}
    for name, value in given.items():
        if value is not None:
            raise InputError(f"the features settle {name} already, got {name}={value!r}; give the model instead")
    return model
