"""How a user's model is called: its precision, in slices of the batch, and by halves where memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ssimpert.errors import InputError

# Images per forward and backward pass: small enough for a laptop, large enough to fill a CPU.
CHUNK = 16

Model = Callable[[Tensor], Tensor]
Part = TypeVar("Part")


def forward(model: Model, images: Tensor, *, chunk: int = 4 * CHUNK) -> Tensor:
    """Logits (B, K) without gradients, in chunks."""
    check_model(model)
    precision = model_dtype(model)

    def one(batch: Tensor) -> tuple[Tensor]:
        with torch.no_grad():
            return (model(batch.to(precision)),)

    return in_chunks(one, images, chunk=chunk)[0].to(images.dtype)


def check_model(model: Model) -> None:
    """Raise :class:`InputError` unless ``model`` can be called with images."""
    if not callable(model) or isinstance(model, type):
        hint = f"; ssimpert.load_model({model!r}) may be what you want" if isinstance(model, str) else ""
        raise InputError(f"model must be a classifier, images (B, C, H, W) -> logits (B, K), got {model!r}{hint}")


def model_dtype(model: Model) -> torch.dtype:
    """The dtype that the model computes in: that of its first floating parameter, else float32."""
    if isinstance(model, torch.nn.Module):
        for parameter in model.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return torch.float32


def in_chunks(function: Callable[..., tuple[Tensor, ...]], *batched: Tensor, chunk: int) -> tuple[Tensor, ...]:
    """``function`` over slices of the batch, concatenated; see :func:`by_halves`."""
    parts = by_halves(lambda part: function(*(value[part] for value in batched)), len(batched[0]), chunk)
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def ran_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch had no memory for something, on a CPU as well, where that is a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def by_halves(run: Callable[[slice], Part], total: int, chunk: int) -> list[Part]:
    """``run`` over slices that make up ``total`` images, at most ``chunk`` each. Where memory runs out the slice is
    halved and the work goes on from there; a single image that does not fit raises the original error."""
    start, parts = 0, []
    while start < total:
        stop = min(start + chunk, total)
        try:
            parts.append(run(slice(start, stop)))
            start = stop
        except RuntimeError as error:
            if stop - start == 1 or not ran_out_of_memory(error):
                raise
            chunk = (stop - start + 1) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return parts
