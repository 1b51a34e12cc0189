"""The derivative of deep features at an image, through products: ``J v`` forward, ``J' u`` in reverse."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import norm, per_image
from ssimpert.errors import InputError
from ssimpert.linearization.features import Features
from ssimpert.models.forward_passes import model_dtype

# What is kept of one image's forward pass, for both modes, is some four times what one mode saves.
KEPT_OVER_SAVED = 4
MEMORY_LIMIT = 4e9
POWER_STEPS, POWER_MARGIN = 30, 1.05


@dataclass(frozen=True, eq=False)
class _Part:
    """The products of some images, (K, ...)."""

    images: Tensor
    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class FeatureJacobian(solvers.LinearOperator):
    """J of a batch, in parts; images that are not selected are not computed."""

    parts: tuple[_Part, ...] = ()

    def select(self, index: Tensor, batch: int) -> solvers.LinearOperator:
        """The operator of the images at ``index`` alone, in that order."""
        owner = {int(image): (part, k) for part in self.parts for k, image in enumerate(part.images.tolist())}
        if len(owner) != batch:
            raise InputError(f"this Jacobian is of {len(owner)} images, the batch has {batch}")
        wanted = index.tolist()
        missing = [image for image in wanted if image not in owner]
        if missing:
            raise InputError(f"image {missing[0]} is not in this Jacobian; it has images 0 to {len(owner) - 1}")
        parts = []
        for part in self.parts:
            mine = [(position, owner[image][1]) for position, image in enumerate(wanted) if owner[image][0] is part]
            if mine:
                parts.append(_narrowed(part, mine))
        return _joined(tuple(parts), self.dtype)


def feature_jacobian(
    features: Features,
    reference: Tensor,
    *,
    chunk: int | None = None,
    memory_limit: float = MEMORY_LIMIT,
) -> FeatureJacobian:
    """``J``, the derivative of ``features`` at ``reference``, as :class:`solvers.FeatureBall` takes it.

    The states of non-smooth activations are those at the reference: J is one matrix an image, and both products use
    the same one. Products are computed in the model's dtype.

    Args:
        features: see :func:`deep_features`.
        reference: (B, C, H, W) in [0, 1].
        chunk: images a product; default: one on a CPU, 16 elsewhere. Halved, once, where memory runs out.
        memory_limit: bytes that may be kept of forward passes; images beyond it are passed forward anew for every
            product, which takes about three times as long.

    Raises:
        InputError: features or reference that don't fit, no memory for half a chunk.
    """
    if reference.ndim != 4 or not reference.is_floating_point():
        raise InputError(f"reference must be images (B, C, H, W), got {reference.dtype} {tuple(reference.shape)}")
    if chunk is not None and chunk < 1:
        raise InputError(f"chunk must be at least 1 image, got {chunk}")
    if not features.layers:
        raise InputError("the features have no layers, so no Jacobian")
    dtype = model_dtype(features.model)
    images = reference.detach().to(dtype)
    size = chunk or (1 if images.device.type == "cpu" else 16)
    try:
        return _joined(_linearised(features, images, size, memory_limit), dtype)
    except torch.OutOfMemoryError:
        _release(images)
    try:
        return _joined(_linearised(features, images, max(size // 2, 1), memory_limit / 2), dtype)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"no memory for the Jacobian of {max(size // 2, 1)} images at once; give a smaller chunk or memory_limit"
        ) from error


def operator_norm(jacobian: solvers.LinearOperator, like: Tensor, *, steps: int = POWER_STEPS) -> Tensor:
    """An estimate of |J| from above, per image, (B,), in the dtype of ``like`` (B, C, H, W).

    The power method on J'J from a fixed random start comes from below; 5% are added, which it has been within after
    30 steps on real networks. Not a proof: what needs one must check.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(like.shape[1:], generator=generator, dtype=torch.float64).to(like).expand_as(like)
    tiny = torch.finfo(like.dtype).tiny
    for _ in range(steps):
        image = jacobian.apply_adjoint(jacobian.apply(image / per_image(norm(image).clamp_min(tiny))))
    return POWER_MARGIN * norm(image).sqrt()


def _linearised(features: Features, images: Tensor, chunk: int, memory_limit: float) -> tuple[_Part, ...]:
    bytes_an_image = KEPT_OVER_SAVED * _saved_bytes(features, images[:1])
    room = memory_limit
    parts = []
    for numbers in torch.arange(len(images)).split(chunk):
        room -= bytes_an_image * len(numbers)
        make = _kept if room >= 0 else _afresh
        parts.append(_Part(numbers, *make(features, images[numbers.to(images.device)])))
    return tuple(parts)


def _kept(features: Features, images: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    with torch.no_grad(), warnings.catch_warnings():
        # torch warns of how it folds constants itself; nothing a caller could do about.
        warnings.filterwarnings("ignore", "Attempted to insert a get_attr Node", UserWarning)
        _, push = torch.func.linearize(features, images)
    with torch.enable_grad():
        leaf = images.clone().requires_grad_(True)
        value = features(leaf)

    def pull(direction: Tensor) -> Tensor:
        return torch.autograd.grad(value, leaf, direction, retain_graph=True)[0]

    def forward(image: Tensor) -> Tensor:
        with torch.no_grad():
            return push(image)

    return forward, pull


def _afresh(features: Features, images: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    def forward(image: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.func.jvp(features, (images,), (image,))[1]

    def pull(direction: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = images.clone().requires_grad_(True)
            return torch.autograd.grad(features(leaf), leaf, direction)[0]

    return forward, pull


def _joined(parts: tuple[_Part, ...], dtype: torch.dtype | None) -> FeatureJacobian:
    """One operator of parts whose images are 0 to B - 1, each in one of them."""

    def gathered(values: Tensor, product: Callable[[_Part], Callable[[Tensor], Tensor]]) -> Tensor:
        results = [product(part)(values[part.images.to(values.device)].contiguous()) for part in parts]
        order = torch.cat([part.images for part in parts]).argsort()
        return results[0] if len(results) == 1 and len(order) == 1 else torch.cat(results)[order.to(values.device)]

    return FeatureJacobian(
        forward=lambda image: gathered(image, lambda part: part.forward),
        adjoint=lambda direction: gathered(direction, lambda part: part.adjoint),
        dtype=dtype,
        parts=parts,
    )


def _narrowed(part: _Part, mine: list[tuple[int, int]]) -> _Part:
    """Of the part's images those at ``k``, under new numbers ``position``, for (position, k) in ``mine``; within a
    part the others are fed zeros."""
    positions, own = (torch.tensor(values) for values in zip(*mine, strict=True))
    count = len(part.images)
    if torch.equal(own, torch.arange(count)):
        return _Part(positions, part.forward, part.adjoint)

    def fed(product: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def narrow(values: Tensor) -> Tensor:
            index = own.to(values.device)
            wide = values.new_zeros(count, *values.shape[1:]).index_copy(0, index, values)
            return product(wide)[index]

        return narrow

    return _Part(positions, fed(part.forward), fed(part.adjoint))


def _saved_bytes(features: Features, image: Tensor) -> int:
    """Bytes that the reverse mode of one image keeps."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        features(image.clone().requires_grad_(True))
    return sum(sizes.values())


def _release(images: Tensor) -> None:
    if images.device.type == "cuda":
        torch.cuda.empty_cache()
