"""Every call of a user's model: in its own precision, in slices of the batch, halved where memory runs out.

How many images, or altered copies of one image, go through the model at a time: on a CPU small passes are faster. The
larger the tensors are, the more of them come as new memory from the system at every layer
(:func:`keep_freed_memory`). efficientnet-lite0 at 224 pixels, one thread on a busy machine, in ms of processor time an
image:

    images a pass                1     2     4     8    16
    forward                     25    24    35    47
      of it the system's         0     0    11    23
    forward and backward              55    54    57    94

A :func:`~ssimpert.models.forward_copy.forward_copy` needs less memory between layers and is fastest at 3 or 4
(docs/notes/forward-copies.md). An ONNX copy passes images one by one, however many it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.validation import check_count

# Images per forward and backward pass: small enough for a laptop, large enough to fill a CPU.
CHUNK = 16

Model = Callable[[Tensor], Tensor]
Part = TypeVar("Part")

# The choice of images_a_pass, in images of this side.
_SIDE = 224
_ON_CPU, _ON_CPU_FORWARD, _ON_OTHERS, _AT_MOST = 2, 4, 32, 256
# glibc's bound (DEFAULT_MMAP_THRESHOLD_MAX, 64 bit) is 32 MiB, the block's header included.
_BLOCK = 31 * 2**20


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


def images_a_pass(batch_size: int | None, images: Tensor, *, forward_only: bool = False) -> int:
    """``batch_size``; for ``None`` as many of ``images`` (B, C, H, W) as make up the pixels of 2 images of 224 x 224 on
    a CPU, of 4 through a :func:`~ssimpert.models.forward_copy.forward_copy`, of 32 elsewhere, from 1 to 256.

    Raises:
        InputError: neither ``None`` nor an integer of at least 1.
    """
    if batch_size is not None:
        check_count("batch_size", batch_size)
        return batch_size
    on_cpu = _ON_CPU_FORWARD if forward_only else _ON_CPU
    pixels = (on_cpu if images.device.type == "cpu" else _ON_OTHERS) * _SIDE * _SIDE
    return max(1, min(_AT_MOST, pixels // (images.shape[-2] * images.shape[-1])))


def keep_freed_memory(images: Tensor) -> None:
    """Before many forward passes of ``images`` on a CPU: let the C library keep the memory that each layer frees.

    glibc takes every block above a threshold from the system, page by page and zeroed, and gives it back when freed.
    Once a large block was freed the threshold rises to its size, and twice as much free memory stays with the process.
    Any backward pass has that effect; a process of forward passes alone never gets there, and efficientnet-lite0 at 224
    pixels then spends 12 to 16 ms an image in the system beside 25 ms of computing (one busy core), against none after
    this call. The block is never touched, so it costs nothing. No effect with other C libraries or on other devices.
    """
    if images.device.type == "cpu":
        torch.empty(_BLOCK, dtype=torch.uint8)
