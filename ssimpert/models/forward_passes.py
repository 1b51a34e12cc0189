"""Every call of a user's model: on a copy of the pixels, in the model's own precision, with its output checked.

A model may write into its input. So the model never gets a tensor that somebody else holds: :func:`call_model` hands
over a copy. Images go through the model in slices of the batch, which are halved where memory runs out.

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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

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
        InputError: ``model`` is not callable or in training mode, or returns no logits (B, K).
    """
    check_model(model)
    with outside_inference_mode():
        return logits_in_chunks(model, detached(images), chunk=chunk)


def logits_in_chunks(model: Model, images: Tensor, *, chunk: int = 4 * CHUNK) -> Tensor:
    """:func:`forward` of a model that has been checked already: the modules are not looked through at every pass."""
    precision = model_dtype(model)

    def logits_of(batch: Tensor) -> tuple[Tensor]:
        with torch.no_grad():
            # Cloned, since a compiled model may return the same memory at every call.
            return (call_model(model, batch, dtype=precision).clone(),)

    return in_chunks(logits_of, images, chunk=chunk)[0].to(images.dtype)


def check_model(model: Model) -> None:
    """Raise :class:`InputError` unless ``model`` can be called with images and is in evaluation mode throughout.

    In training mode a batch norm would take its statistics from the images and change its running statistics, and a
    dropout would draw random numbers.
    """
    if not callable(model) or isinstance(model, type):
        hint = f"; ssimpert.load_model({model!r}) may be what you want" if isinstance(model, str) else ""
        raise InputError(f"model must be a classifier, images (B, C, H, W) -> logits (B, K), got {model!r}{hint}")
    if not isinstance(model, nn.Module):
        return
    exported = ""
    for name, module in model.named_modules():
        if exported and name.startswith(exported):
            continue
        if _mode_is_fixed(module):
            if not name:
                return
            exported = f"{name}."
        # A frozen TorchScript module has no mode any more.
        elif getattr(module, "training", False):
            where = f" (its module {name!r}, {type(module).__name__})" if name else ""
            raise InputError(f"{describe_model(model)} is in training mode{where}; call its eval() first")


def _mode_is_fixed(module: nn.Module) -> bool:
    """Whether ``module`` was made by torch.export: its mode is that of the export, whatever its flags say."""
    return isinstance(module, torch.fx.GraphModule) and "eval" in vars(module)


def describe_model(model: Model) -> str:
    """What errors call ``model``: "model 'resnet18'", or "model Sequential" where the model has no name."""
    name = getattr(model, "name", None)
    if isinstance(name, str):
        return f"model {name!r}"
    return f"model {getattr(model, '__name__', type(model).__name__)}"


def model_dtype(model: Model) -> torch.dtype:
    """The dtype that the model computes in: that of its first floating-point parameter, or float32 without any."""
    return _parameter_dtype(model) or torch.float32


def _parameter_dtype(model: Model) -> torch.dtype | None:
    if isinstance(model, nn.Module):
        for parameter in model.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return None


def call_model(model: Model, images: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """The logits (B, K) that ``model`` returns for its own copy of ``images``, in the model's dtype.

    A graph is recorded as torch is set to: the copy is part of the graph, so gradients reach ``images``.

    Args:
        model: images (B, C, H, W) -> logits (B, K), in evaluation mode (:func:`check_model`).
        images: (B, C, H, W), floating point. They are not changed, even if the model writes into its input.
        dtype: what the images are converted to. Default: that of the model's first floating-point parameter; a model
            without any gets the images' dtype.

    Raises:
        InputError: the model returns something else than logits (B, K), or logits without a gradient where torch
            records one for ``images``.
    """
    output = pass_images(model, images, dtype=dtype)
    return check_logits(output, model, images)


def pass_images(model: Model, images: Tensor, *, dtype: torch.dtype | None = None) -> object:
    """What ``model`` returns for its own copy of ``images``, unchecked: for networks that need not be classifiers.

    Args:
        model, images, dtype: as for :func:`call_model`.
    """
    pixels = images.to(dtype or _parameter_dtype(model) or images.dtype, copy=True)
    try:
        return model(pixels)
    except RuntimeError as error:
        if "Inference tensors cannot be saved" not in str(error):
            raise
        raise InputError(
            f"{describe_model(model)} has weights that were made under torch.inference_mode, which can't enter a "
            "graph; make or load it outside of the mode"
        ) from error


def check_logits(output: object, model: Model, images: Tensor) -> Tensor:
    """``output`` of ``model`` for ``images`` (B, C, H, W), if it is logits (B, K).

    Raises:
        InputError: as for :func:`call_model`.
    """
    count = images.shape[0]
    if (
        not isinstance(output, Tensor)
        or output.ndim != 2
        or output.shape[0] != count
        or output.shape[1] == 0
        or not output.is_floating_point()
    ):
        raise InputError(
            f"{describe_model(model)} must return logits (B, K), one floating-point tensor, here ({count}, K); "
            f"it returned {_described(output)}"
        )
    if torch.is_grad_enabled() and images.requires_grad and not output.requires_grad:
        raise not_differentiable(model)
    return output


def _described(output: object) -> str:
    if isinstance(output, Tensor):
        return f"{output.dtype} {tuple(output.shape)}"
    if isinstance(output, tuple | list):
        parts = [str(tuple(part.shape)) if isinstance(part, Tensor) else type(part).__name__ for part in output]
        return f"a {type(output).__name__} of {', '.join(parts) or 'nothing'}: return the logits alone"
    return f"{output!r}" if output is None else f"a {type(output).__name__}: return the logits alone"


def not_differentiable(model: Model, outputs: str = "logits") -> InputError:
    """The error of logits, or of other ``outputs``, that carry no gradient back to the images."""
    return InputError(
        f"the {outputs} of {describe_model(model)} carry no gradient back to its images: they were detached, computed "
        "without gradients, or made of other data"
    )


def differentiable_logits(model: Model, images: Tensor, *, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """A leaf with the values of ``images``, and its logits (B, K); for use within :func:`gradients_enabled`.

    Args:
        model, images, dtype: as for :func:`call_model`; the leaf has the dtype that the model gets.

    Raises:
        InputError: as for :func:`call_model`.
    """
    leaf = detached(images).to(dtype or _parameter_dtype(model) or images.dtype).requires_grad_(True)
    return leaf, call_model(model, leaf, dtype=leaf.dtype)


def gradient_at(
    leaf: Tensor,
    value: Tensor,
    model: Model,
    *,
    weight: Tensor | None = None,
    retain_graph: bool = False,
    outputs: str = "logits",
) -> Tensor:
    """The gradient of ``(weight * value).sum()`` at a leaf of :func:`differentiable_logits`, in the leaf's shape.

    Args:
        leaf: where the gradient is taken.
        value: made of the leaf by ``model``, in any shape.
        model: what an error names.
        weight: in the shape of ``value``; default 1.
        retain_graph: keep the graph, for gradients with other weights.
        outputs: what an error calls that which ``model`` made.

    Raises:
        InputError: ``value`` does not depend on the leaf in a differentiable way.
    """
    gradient = None
    if value.requires_grad:
        weight = torch.ones_like(value) if weight is None else weight
        (gradient,) = torch.autograd.grad(value, leaf, weight, retain_graph=retain_graph, allow_unused=True)
    if gradient is None:
        raise not_differentiable(model, outputs)
    return gradient


@contextmanager
def gradients_enabled() -> Iterator[None]:
    """Record gradients inside, also where the caller is under ``torch.no_grad`` or ``torch.inference_mode``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Make normal tensors inside, which may enter a graph later; gradients are recorded as outside, or not at all."""
    enabled = torch.is_grad_enabled()  # leaving the inference mode would turn gradients on
    with torch.inference_mode(False), torch.set_grad_enabled(enabled):
        yield


def detached(values: Tensor) -> Tensor:
    """``values`` without their graph; a copy where they were made under ``torch.inference_mode``.

    Such a tensor could not enter a graph. Call this outside of the mode.
    """
    return values.detach().clone() if values.is_inference() else values.detach()


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
