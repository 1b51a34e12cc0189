"""Every call of a user's model: in the model's own precision, in slices of the batch, halved where memory runs out.

This module also decides how many images, or altered copies of one image, go through the model at a time. Small passes
are faster on a CPU: the larger the tensors are, the more of them come as new memory from the operating system at every
layer (:func:`keep_freed_memory`). The table gives milliseconds of processor time for each image, measured with
efficientnet-lite0 at 224 pixels on one thread of a busy machine:

    images in a pass             1     2     4     8    16
    forward                     25    24    35    47
      of which the system        0     0    11    23
    forward and backward              55    54    57    94

A :func:`~ssimpert.models.forward_copy.forward_copy` needs less memory between layers and is fastest at 3 or 4 images
(docs/notes/forward-copies.md). An ONNX copy passes images one by one, however many images it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.validation import check_count

# Images in a forward and backward pass: small enough for a laptop, large enough to fill a CPU.
CHUNK = 16

Model = Callable[[Tensor], Tensor]
"""A classifier as this package calls it: images (B, C, H, W) -> logits (B, K)."""

PartResult = TypeVar("PartResult")

# What batch_size_for counts in: images of this side.
_REFERENCE_SIDE = 224
_IMAGES_ON_CPU, _IMAGES_ON_CPU_FORWARD, _IMAGES_ELSEWHERE, _MAX_IMAGES = 2, 4, 32, 256
# glibc's largest threshold (DEFAULT_MMAP_THRESHOLD_MAX, 64 bit) is 32 MiB, the block's header included.
_FREED_BLOCK_BYTES = 31 * 2**20


def forward(model: Model, images: Tensor, *, chunk: int = 4 * CHUNK) -> Tensor:
    """Logits (B, K) of ``images`` (B, C, H, W), without gradients, in the images' dtype.

    The model gets at most ``chunk`` images at a time, in its own dtype (:func:`model_dtype`).

    Raises:
        InputError: ``model`` is not callable.
    """
    check_model(model)
    precision = model_dtype(model)

    def logits_of(batch: Tensor) -> tuple[Tensor]:
        with torch.no_grad():
            return (model(batch.to(precision)),)

    return in_chunks(logits_of, images, chunk=chunk)[0].to(images.dtype)


def check_model(model: Model) -> None:
    """Raise :class:`InputError` unless ``model`` can be called with images."""
    if not callable(model) or isinstance(model, type):
        hint = f"; ssimpert.load_model({model!r}) may be what you want" if isinstance(model, str) else ""
        raise InputError(f"model must be a classifier, images (B, C, H, W) -> logits (B, K), got {model!r}{hint}")


def model_dtype(model: Model) -> torch.dtype:
    """The dtype that the model computes in: that of its first floating-point parameter, or float32 without any."""
    if isinstance(model, torch.nn.Module):
        for parameter in model.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return torch.float32


def in_chunks(function: Callable[..., tuple[Tensor, ...]], *batched: Tensor, chunk: int) -> tuple[Tensor, ...]:
    """Apply ``function`` to slices of the batch and concatenate each of its outputs.

    ``function`` takes one slice of every tensor in ``batched``, all of length B. A slice has at most ``chunk`` images
    and is halved where memory runs out (:func:`by_halves`).
    """
    parts = by_halves(lambda part: function(*(value[part] for value in batched)), len(batched[0]), chunk)
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def ran_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch had no memory left. On a CPU torch raises a plain RuntimeError for this."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def release_cached_memory() -> None:
    """Give the memory that torch keeps for later use back to the CUDA device; no effect without one."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def by_halves(run: Callable[[slice], PartResult], total: int, chunk: int) -> list[PartResult]:
    """Call ``run`` with slices that together make up ``total`` images, and collect what each call returns.

    A slice has at most ``chunk`` images. Where memory runs out, the slice is halved, and the work goes on from there.

    Raises:
        InputError: ``chunk`` is not an integer of at least 1.
        RuntimeError: a single image does not fit into memory; this is the original error.
    """
    chunk = check_count("chunk", chunk)
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
            release_cached_memory()
    return parts


def batch_size_for(batch_size: int | None, images: Tensor, *, forward_only: bool = False) -> int:
    """How many images go through the model at a time: ``batch_size``, or a default where it is ``None``.

    The default is the number of ``images`` (B, C, H, W) that have as many pixels together as 2 images of 224 x 224 on
    a CPU, as 4 with ``forward_only`` (:func:`~ssimpert.models.forward_copy.forward_copy`), or as 32 on other devices.
    The default is at least 1 and at most 256.

    Raises:
        InputError: ``batch_size`` is neither ``None`` nor an integer of at least 1.
    """
    if batch_size is not None:
        return check_count("batch_size", batch_size)
    images_on_cpu = _IMAGES_ON_CPU_FORWARD if forward_only else _IMAGES_ON_CPU
    reference_images = images_on_cpu if images.device.type == "cpu" else _IMAGES_ELSEWHERE
    pixels = reference_images * _REFERENCE_SIDE * _REFERENCE_SIDE
    return max(1, min(_MAX_IMAGES, pixels // (images.shape[-2] * images.shape[-1])))


def keep_freed_memory(images: Tensor) -> None:
    """Let the C library keep the memory that each layer frees. Call this before many forward passes on a CPU.

    glibc takes every block above a threshold from the operating system, page by page and filled with zeros, and gives
    the block back when it is freed. When a large block is freed, the threshold rises to the size of that block, and
    the process keeps up to twice as much free memory. Any backward pass raises the threshold. A process that runs
    forward passes alone never raises it: efficientnet-lite0 at 224 pixels then spends 12 to 16 ms an image in the
    system beside 25 ms of computing (one busy core), and no such time after this call. The block that is freed here is
    never written to, so it costs nothing. There is no effect with other C libraries or on other devices.

    Args:
        images: the images to be passed; their device alone matters.
    """
    if images.device.type == "cpu":
        torch.empty(_FREED_BLOCK_BYTES, dtype=torch.uint8)
