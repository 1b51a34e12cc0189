"""A classifier exported to ONNX Runtime, for analyses that do nothing but many forward passes on the CPU.

A pass takes about half the time of a pass of a :func:`~ssimpert.models.forward_copy.forward_copy`, but the export takes
seconds. The export pays from some 550 passes on (efficientnet-lite0, 224 pixels; docs/notes/forward-copies.md), so it
is done on request only.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_copy import MAX_ROUNDINGS_APART, has_forward_hooks, roundings_apart
from ssimpert.models.forward_passes import call_model
from ssimpert.models.labels import class_name
from ssimpert.models.onnx_session import onnx_session
from ssimpert.validation import check_count


class OnnxClassifier:
    """A model's logits by ONNX Runtime, without gradients. :func:`onnx_classifier` makes this object.

    It takes the model's place in ``insertion``, ``deletion``, ``insertion_deletion``, ``rise`` and ``occlusion``, and
    stands beside the model in ``compare(forward=...)``. It is no module: it has no layers, parameters, devices or
    modes. Several threads may call it at the same time.

    Attributes:
        size: (H, W), the size in pixels of the images that it takes.
        threads: how many threads a pass may use.
        name, input_size, labels, mean, std: those of the model, where the model has them; ``mean`` and ``std`` are
            copies.
    """

    name: str
    input_size: int
    labels: tuple[str, ...]
    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, session: Any, size: tuple[int, int], classes: int, threads: int) -> None:
        """Use :func:`onnx_classifier`, which also checks the copy.

        Args:
            model: the exported model, whose name, labels and other attributes are copied.
            session: an ``onnxruntime.InferenceSession`` for images (1, 3, H, W).
            size: (H, W) of these images, in pixels.
            classes: K, the number of logits.
            threads: how many threads the session uses, at least 1.
        """
        self.size = size
        self.threads = threads
        self._session = session
        self._input: str = session.get_inputs()[0].name
        self._classes = classes
        for attribute in ("name", "input_size", "labels", "mean", "std"):
            value = getattr(model, attribute, None)
            if value is not None:
                setattr(self, attribute, value.detach().clone() if isinstance(value, Tensor) else value)

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, K), float32, of ``images`` (B, 3, H, W), floating point, on the CPU, in the model's range.

        Other float types are converted to float32. Images pass one by one, so the logits of one image do not depend on
        the other images, not even in the last bit.

        Raises:
            InputError: another shape, size, type or device, or images that require a gradient while torch records one.
        """
        height, width = self.size
        if images.ndim != 4 or images.shape[1:] != (3, height, width):
            raise InputError(
                f"images have shape {tuple(images.shape)}; this ONNX copy takes (B, 3, {height}, {width}), "
                "the size of its example"
            )
        if not images.is_floating_point():
            raise InputError(f"images have dtype {images.dtype}; an ONNX copy takes floating-point pixels")
        if images.device.type != "cpu":
            raise InputError(f"images are on {images.device}; an ONNX copy runs on the CPU")
        if images.requires_grad and torch.is_grad_enabled():
            raise InputError(
                "an ONNX copy gives no gradients; perturbations and methods with gradients need the model itself, "
                "and images that need none are passed under torch.no_grad()"
            )
        pixels = images.detach().to(torch.float32).contiguous().numpy()
        logits = torch.empty(len(images), self._classes)
        for index in range(len(images)):
            (output,) = self._session.run(None, {self._input: pixels[index : index + 1]})
            logits[index] = torch.from_numpy(output)[0]
        return logits

    def label_name(self, index: int) -> str:
        """The name of class ``index``, 0 to K-1.

        Raises:
            InputError: there is no such class, or the model has no labels.
        """
        return class_name(index, getattr(self, "labels", ()), getattr(self, "name", type(self).__name__))

    def __repr__(self) -> str:
        height, width = self.size
        return f"OnnxClassifier({getattr(self, 'name', 'unnamed')!r}, {height}x{width}, threads={self.threads})"


@takes_model
def onnx_classifier(model: nn.Module, example: Tensor, *, threads: int | None = None) -> OnnxClassifier:
    """Export ``model`` to ONNX Runtime, for many forward passes on the CPU (extra ``onnx``).

    The copy has the weights that the model has now; later changes of the model do not reach the copy. The copy's logits
    are compared with the model's on ``example``, on its mirrored negative and on noise of the same range. They must
    agree within :data:`~ssimpert.models.forward_copy.MAX_ROUNDINGS_APART` roundings. The global random state stays as
    it is.

    Args:
        model: images (B, 3, H, W) -> logits (B, K): float32, on the CPU, in evaluation mode, without forward hooks. The
            way through its network must not depend on the image.
        example: (1, 3, H, W), floating point, on the CPU, in the range that the model takes. The copy takes images of
            this size alone.
        threads: how many threads a pass may use; ``None`` (default) means ``torch.get_num_threads()``.

    Raises:
        InputError: the model or the example is not as above, the model can't be exported (the exporter's error is the
            cause), the copy gives other logits, or packages are not installed.
    """
    threads = check_count("threads", torch.get_num_threads() if threads is None else threads)
    _check_example(example)
    name = _check_model(model)
    first = example.to(torch.float32)
    # A model that draws random numbers must not draw others because of the passes here.
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        classes = _classes(call_model(model, first), name)
        try:
            session = onnx_session(model, first, threads)
        except InputError:
            raise
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise InputError(f"model {name!r} can't be exported to ONNX: {reason}") from error
        copy = OnnxClassifier(model, session, (first.shape[-2], first.shape[-1]), classes, threads)
        for trial, image in _trials(first):
            distance = roundings_apart(copy(image), call_model(model, image))
            if not distance <= MAX_ROUNDINGS_APART:  # also true for NaN
                raise InputError(
                    f"the logits of model {name!r} and its ONNX copy are {distance:.3g} roundings of the largest apart "
                    f"on {trial}, and may be {MAX_ROUNDINGS_APART}; the copy can't take the model's place"
                )
    return copy


def _trials(example: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Images in the example's range, unlike one another, each with the name that errors give the image."""
    low, high = example.aminmax()
    high = torch.where(high > low, high, low + 1)
    noise = torch.rand(example.shape, generator=torch.Generator().manual_seed(0))
    yield "the example", example
    yield "the example's mirrored negative", (low + high - example).flip(-1)
    yield "noise", low + (high - low) * noise


def _check_example(example: Tensor) -> None:
    if not isinstance(example, Tensor) or example.ndim != 4 or example.shape[:2] != (1, 3) or not example.numel():
        got = tuple(example.shape) if isinstance(example, Tensor) else type(example).__name__
        raise InputError(f"example must be one image (1, 3, H, W), got {got}")
    if not example.is_floating_point():
        raise InputError(f"example must have floating-point pixels, got {example.dtype}")
    if example.device.type != "cpu":
        raise InputError(f"example is on {example.device}; an ONNX copy runs on the CPU")
    if not bool(example.isfinite().all()):
        raise InputError("example must be finite; it has NaN or infinite pixels")


def _check_model(model: nn.Module) -> str:
    """Check that ``model`` can be exported; return the name that errors give it."""
    if not isinstance(model, nn.Module):
        raise InputError(f"only a module can be exported to ONNX, got {type(model).__name__}")
    name = str(getattr(model, "name", type(model).__name__))
    for key, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.device.type != "cpu":
            raise InputError(f"model {name!r} is on {tensor.device}; an ONNX copy runs on the CPU: load it there")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise InputError(f"model {name!r} must be float32 for an ONNX copy, but {key} is {tensor.dtype}")
    if has_forward_hooks(model):
        raise InputError(f"model {name!r} has forward hooks, which an ONNX copy would not run; remove them")
    return name


def _classes(logits: Tensor, name: str) -> int:
    """K, from the model's own logits of one image."""
    if logits.dtype != torch.float32:
        raise InputError(f"model {name!r} must give float32 logits (1, K) for an ONNX copy, got {logits.dtype}")
    return logits.shape[1]
