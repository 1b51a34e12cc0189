"""The derivative J of deep features at an image, seen through products only: ``J v`` forward, ``J' u`` in reverse."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import norm, per_image
from solvers.validation import as_real, shown
from ssimpert.errors import InputError
from ssimpert.linearization.deep_features import Features
from ssimpert.models.forward_passes import (
    by_halves,
    check_model,
    detached,
    gradient_at,
    model_dtype,
    outside_inference_mode,
    ran_out_of_memory,
    release_cached_memory,
)
from ssimpert.validation import check_count

# Both modes of differentiation keep some four times as much of one image's forward pass as the reverse mode alone.
KEPT_OVER_SAVED = 4
MEMORY_LIMIT = 4e9
POWER_STEPS, POWER_MARGIN = 30, 1.05
_CHUNK_ON_CPU, _CHUNK_ELSEWHERE = 1, 16

Product = Callable[[Tensor], Tensor]
"""``J v``: images (K, C, H, W) -> features (K, F), or ``J' u``: features (K, F) -> images (K, C, H, W)."""


@dataclass(frozen=True, eq=False)
class _Part:
    """The products of K images: their places (K,) in the batch, ``J v`` and ``J' u``."""

    images: Tensor
    forward: Product
    adjoint: Product


@dataclass(frozen=True, eq=False)
class FeatureJacobian(solvers.LinearOperator):
    """J of a batch of images, made of parts. Products of images that are not selected are not computed.

    Attributes:
        parts: the products of some images each.
        layers, normalization: of the features whose derivative this is, for records.
    """

    parts: tuple[_Part, ...] = ()
    layers: tuple[str, ...] = ()
    normalization: str = ""

    def select(self, index: Tensor, batch: int) -> solvers.LinearOperator:
        """The operator of the images at ``index`` (K,) alone, in that order.

        Raises:
            InputError: this Jacobian is not of ``batch`` images, or has no such image.
        """
        owner = {int(image): (part, k) for part in self.parts for k, image in enumerate(part.images.tolist())}
        if len(owner) != batch:
            raise InputError(f"this Jacobian is of {len(owner)} images, the batch has {batch}")
        image_indices = index.tolist()
        missing = [image for image in image_indices if image not in owner]
        if missing:
            raise InputError(f"image {missing[0]} is not in this Jacobian; it has images 0 to {len(owner) - 1}")
        parts = []
        for part in self.parts:
            members = [(place, owner[image][1]) for place, image in enumerate(image_indices) if owner[image][0] is part]
            if members:
                parts.append(_narrowed(part, members))
        return replace(_joined(tuple(parts), self.dtype), layers=self.layers, normalization=self.normalization)


@outside_inference_mode()
def feature_jacobian(
    features: Features,
    reference: Tensor,
    *,
    chunk: int | None = None,
    memory_limit: float = MEMORY_LIMIT,
) -> FeatureJacobian:
    """``J``, the derivative of ``features`` at ``reference``, as :class:`solvers.FeatureBall` takes it.

    Activations that are not smooth keep the state that they have at the reference. So J is one matrix for each image,
    and both products use the same matrix. Products are computed in the model's dtype.

    Args:
        features: see :func:`deep_features`.
        reference: (B, C, H, W) in [0, 1].
        chunk: how many images a product handles at once, at least 1. Default: 1 on a CPU, 16 elsewhere. Where memory
            runs out the chunk is halved, down to single images. If a single image does not fit, everything is done once
            more from the beginning with half the ``memory_limit``.
        memory_limit: bytes that may be kept of forward passes. Images beyond this limit are passed forward again for
            every product, which takes about three times as long.

    Raises:
        InputError: features or a reference that don't fit, or no memory for a single image.
    """
    check_model(features.model)
    if reference.ndim != 4 or not reference.is_floating_point():
        raise InputError(f"reference must be images (B, C, H, W), got {reference.dtype} {tuple(reference.shape)}")
    chunk = None if chunk is None else check_count("chunk", chunk)
    bytes_kept = as_real(memory_limit)
    if bytes_kept is None or not bytes_kept >= 0:
        raise InputError(f"memory_limit must be a number of bytes, at least 0, got {shown(memory_limit)}")
    if not features.layers:
        raise InputError("the features have no layers, so no Jacobian")
    dtype = model_dtype(features.model)
    images = detached(reference).to(dtype)
    size = chunk or (_CHUNK_ON_CPU if images.device.type == "cpu" else _CHUNK_ELSEWHERE)
    try:
        return _of_features(features, _joined(_linearised(features, images, size, bytes_kept), dtype))
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
    # Outside the clause, since the error there holds on to the memory of the first attempt.
    release_cached_memory()
    try:
        parts = _linearised(features, images, max(size // 2, 1), bytes_kept / 2)
        return _of_features(features, _joined(parts, dtype))
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
        raise InputError("no memory for the Jacobian of a single image; give a smaller memory_limit") from error


def operator_norm(jacobian: solvers.LinearOperator, like: Tensor, *, steps: int = POWER_STEPS) -> Tensor:
    """An estimate from above of the spectral norm |J| of each image, (B,), in the dtype of ``like`` (B, C, H, W).

    The power method on J'J from a fixed random start approaches |J| from below. 5% are added to its result: after 30
    steps on real networks the result was within 5% of |J|. The estimate is no proof; callers that need one must check.
    """
    steps = check_count("steps", steps)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(like.shape[1:], generator=generator, dtype=torch.float64).to(like).expand_as(like)
    tiny = torch.finfo(like.dtype).tiny
    for _ in range(steps):
        image = jacobian.apply_adjoint(jacobian.apply(image / per_image(norm(image).clamp_min(tiny))))
    return POWER_MARGIN * norm(image).sqrt()


def _linearised(features: Features, images: Tensor, chunk: int, memory_limit: float) -> tuple[_Part, ...]:
    """The parts of the batch, with kept forward passes for as many of the first images as ``memory_limit`` allows."""
    bytes_an_image = KEPT_OVER_SAVED * _saved_bytes(features, images[:1])
    places = torch.arange(len(images))
    bytes_left = memory_limit

    def linearised_part(part: slice) -> _Part:
        nonlocal bytes_left
        bytes_after = bytes_left - bytes_an_image * len(places[part])
        products = _kept if bytes_after >= 0 else _recomputed
        result = _Part(places[part], *products(features, images[places[part].to(images.device)]))
        bytes_left = bytes_after
        return result

    return tuple(by_halves(linearised_part, len(images), chunk))


def _kept(features: Features, images: Tensor) -> tuple[Product, Product]:
    """Products ``J v`` and ``J' u`` that keep one forward pass in memory."""
    with torch.no_grad(), warnings.catch_warnings():
        # torch warns about how torch itself folds constants; a caller can do nothing about it.
        warnings.filterwarnings("ignore", "Attempted to insert a get_attr Node", UserWarning)
        # Without functionalize, an operation in place (``out += identity`` in a ResNet) would change the numbers that
        # ``push`` keeps, at every product anew.
        _, push = torch.func.linearize(torch.func.functionalize(features), images)
    with torch.enable_grad():
        leaf = images.clone().requires_grad_(True)
        value = features(leaf)

    def pull(direction: Tensor) -> Tensor:
        return gradient_at(leaf, value, features.model, weight=direction, retain_graph=True, outputs="features")

    def forward(image: Tensor) -> Tensor:
        with torch.no_grad():
            return push(image)

    return forward, pull


def _recomputed(features: Features, images: Tensor) -> tuple[Product, Product]:
    """Products ``J v`` and ``J' u`` that pass the images forward again every time."""

    def forward(image: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.func.jvp(features, (images,), (image,))[1]

    def pull(direction: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = images.clone().requires_grad_(True)
            return gradient_at(leaf, features(leaf), features.model, weight=direction, outputs="features")

    return forward, pull


def _joined(parts: tuple[_Part, ...], dtype: torch.dtype | None) -> FeatureJacobian:
    """One operator of all ``parts``. Their images are numbered 0 to B - 1; each belongs to one part."""

    def gathered(values: Tensor, product: Callable[[_Part], Product]) -> Tensor:
        with outside_inference_mode():
            return gathered_outside(detached(values), product)

    def gathered_outside(values: Tensor, product: Callable[[_Part], Product]) -> Tensor:
        results = [product(part)(values[part.images.to(values.device)].contiguous()) for part in parts]
        order = torch.cat([part.images for part in parts]).argsort()
        return results[0] if len(results) == 1 and len(order) == 1 else torch.cat(results)[order.to(values.device)]

    return FeatureJacobian(
        forward=lambda image: gathered(image, lambda part: part.forward),
        adjoint=lambda direction: gathered(direction, lambda part: part.adjoint),
        dtype=dtype,
        parts=parts,
    )


def _of_features(features: Features, jacobian: FeatureJacobian) -> FeatureJacobian:
    """``jacobian`` with the names of the layers that it is of."""
    return replace(jacobian, layers=features.layers, normalization=features.normalization)


def _narrowed(part: _Part, members: list[tuple[int, int]]) -> _Part:
    """The part's images at ``k``, renumbered to ``place``, for each (place, k) in ``members``.

    A part handles its images together, so the images that are not among ``members`` are fed zeros.
    """
    places, indices = (torch.tensor(values) for values in zip(*members, strict=True))
    count = len(part.images)
    if torch.equal(indices, torch.arange(count)):
        return _Part(places, part.forward, part.adjoint)

    def with_zeros(product: Product) -> Product:
        def narrow(values: Tensor) -> Tensor:
            index = indices.to(values.device)
            wide = values.new_zeros(count, *values.shape[1:]).index_copy(0, index, values)
            return product(wide)[index]

        return narrow

    return _Part(places, with_zeros(part.forward), with_zeros(part.adjoint))


def _saved_bytes(features: Features, image: Tensor) -> int:
    """Bytes that the reverse mode of one image (1, C, H, W) keeps."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        features(image.clone().requires_grad_(True))
    return sum(sizes.values())
