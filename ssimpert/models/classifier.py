"""An image classifier as all other modules use it: frozen, from images in [0, 1] to logits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from itertools import chain
from typing import Self

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.models.forward_passes import forward, outside_inference_mode
from ssimpert.models.labels import class_labels, class_name
from ssimpert.models.layers import LayerSurvey, find_layer, require_cam_layer, survey_layers
from ssimpert.models.layouts import MapLayout
from ssimpert.validation import Names, Numbers, check_count, check_names, check_numbers


class Classifier(nn.Module):
    """A network with its normalisation in front, frozen, and always in evaluation mode.

    In-place activations are switched off, since hooks and autograd need every layer's output unchanged. Gradients flow
    to the images, never to the parameters.

    Attributes:
        name: the name that the classifier was loaded by.
        input_size: side, in pixels, of the square images that the network was made for.
        labels: the names of the K classes.
        mean, std: buffers (1, 3, 1, 1), in units of [0, 1] pixels; the network sees (x - mean)/std.
        network: the wrapped module, from normalised images to logits (B, K).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        input_size: int,
        labels: Names | None = None,
        mean: Numbers,
        std: Numbers,
    ) -> None:
        """Wrap ``network`` and freeze it; the network itself is changed.

        One black image is passed through the network, to count the classes. A network that does not give logits (1, K)
        for this image is accepted where there are labels; its classes are then counted at every later pass.

        Args:
            network: a module from normalised images (B, 3, H, W) to logits (B, K). Mean and standard deviation get its
                dtype and its device.
            name: what errors and records call the classifier.
            input_size: side, in pixels, of the square images that the network was made for.
            labels: the names of the K classes, which need not differ; a string names a class by each letter. Default:
                :func:`~ssimpert.models.labels.class_labels`, which knows the names of ImageNet's 1000 classes and
                numbers the classes of other networks.
            mean: three numbers, for red, green and blue, in units of [0, 1] pixels: subtracted from the images.
            std: three positive numbers in the same units: the images are then divided by them.

        Raises:
            InputError: ``mean`` or ``std`` is not three finite numbers, a ``std`` is not positive, ``input_size`` is no
                positive integer, or there are not as many labels as classes.
        """
        super().__init__()
        self.name = name
        self.input_size = check_count("input_size", input_size)
        self.network = network
        dtype, device = _float_dtype_and_device(network)
        with outside_inference_mode():  # a buffer made in that mode could never enter a graph
            offset = torch.tensor(_colour("mean", mean), dtype=dtype, device="cpu")
            scale = torch.tensor(_colour("std", std), dtype=dtype, device="cpu")
            if not bool((scale > 0).all()):
                raise InputError(f"std must be positive, got {tuple(scale.tolist())}")
            self.register_buffer("mean", offset.view(1, 3, 1, 1).to(device))
            self.register_buffer("std", scale.view(1, 3, 1, 1).to(device))
        for module in network.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]
        self.requires_grad_(False)
        self.train(False)
        self.labels = self._checked_labels(labels)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode whatever ``mode`` says: batch statistics must not depend on the images."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of ``images`` (B, 3, H, W): RGB, floating point, pixels in [0, 1].

        The range is not checked, since a check would wait for the device at every call. Other float types are converted
        to the network's.

        Raises:
            InputError: a wrong shape or type, images on another device than the model, or logits that are not as many
                as the labels.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"images have shape {tuple(images.shape)}; the model takes (B, 3, H, W)")
        if not images.is_floating_point():
            raise InputError(f"images have dtype {images.dtype}; the model takes floating-point pixels in [0, 1]")
        if images.device != self.mean.device:
            raise InputError(f"images are on {images.device}, model {self.name!r} on {self.mean.device}")
        logits: Tensor = self.network((images.to(self.mean.dtype) - self.mean) / self.std)
        if isinstance(logits, Tensor) and logits.ndim == 2 and logits.shape[1] != len(self.labels):
            raise self._other_number_of_labels(len(self.labels), logits.shape[1])
        return logits

    def predict(self, images: Tensor) -> Tensor:
        """Index of the largest logit, (B,) long, for ``images`` (B, 3, H, W) in [0, 1]; no gradient.

        Raises:
            InputError: wrong images, as for a call; a network in training mode, or one that returns no logits (B, K).
        """
        with outside_inference_mode():
            return forward(self, images).argmax(dim=1)

    def label_name(self, index: int) -> str:
        """The name of class ``index``, 0 to K-1."""
        return class_name(index, self.labels, self.name)

    def layer(self, name: str) -> nn.Module:
        """The module of ``network`` called ``name`` ("blocks.3"), for hooks.

        Raises:
            InputError: no layer has that name.
        """
        return find_layer(self.network, name, f"model {self.name!r}")

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the layers that give feature maps of more than one row and column, in order of execution.

        One forward pass at the first use finds them.
        """
        return self._survey.feature_layers

    @property
    def layouts(self) -> Mapping[str, MapLayout]:
        """Where the layers that run once have their feature maps, by name; a layer whose layout is unclear is missing.

        One forward pass at the first use finds them.
        """
        return self._survey.layouts

    @property
    def cam_layer(self) -> str:
        """Name of the default layer for class activation maps: the last feature map that the logits depend on.

        For a convolutional network this is the last spatial feature map, activated, before pooling. For a transformer
        that averages its tokens (Swin) it is the last norm, and for one that decides by a class token (ViT, DeiT) the
        first norm of the last block; :func:`~ssimpert.models.layers.survey_layers` says why.

        Raises:
            InputError: the network has no such layer; the reason is given.
        """
        return require_cam_layer(self._survey, self.name)

    def _checked_labels(self, labels: Names | None) -> tuple[str, ...]:
        """The labels, compared with the number of classes where one black image tells it."""
        size = self.input_size
        count, failure = None, None
        try:
            # A network may keep what it computes at its first pass: nothing of it may be made under inference_mode.
            with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
                logits = self.network(self.mean.new_zeros(1, 3, size, size))
            if isinstance(logits, Tensor) and logits.ndim == 2 and logits.shape[0] == 1:
                count = logits.shape[1]
        except Exception as error:
            # The network may be made for other images. Otherwise it fails again at its first use.
            failure = error
        if labels is None:
            if count is None:
                raise InputError(
                    f"model {self.name!r} gives no class logits; choose one with a classifier head"
                ) from failure
            return class_labels(count)
        names = tuple(labels) if isinstance(labels, str) else check_names("labels", labels)
        if not names or (count is not None and len(names) != count):
            raise self._other_number_of_labels(len(names), count)
        return names

    def _other_number_of_labels(self, given: int, count: int | None) -> InputError:
        classes = "at least one class" if count is None else f"{count} classes"
        return InputError(f"model {self.name!r} has {classes}, but {given} labels; give a label for each class")

    @cached_property
    def _survey(self) -> LayerSurvey:
        size = self.input_size
        with outside_inference_mode():
            return survey_layers(self.network, self.mean.new_zeros(1, 3, size, size))


def _float_dtype_and_device(network: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Those of the first floating-point parameter or buffer; torch's defaults for a network without any."""
    tensors = chain(network.parameters(), network.buffers())
    first = next((tensor for tensor in tensors if tensor.is_floating_point()), None)
    return (torch.get_default_dtype(), torch.get_default_device()) if first is None else (first.dtype, first.device)


def _colour(option: str, values: Numbers) -> tuple[float, ...]:
    """Three finite numbers."""
    numbers = check_numbers(option, values)
    if len(numbers) != 3 or not all(math.isfinite(number) for number in numbers):
        raise InputError(f"{option} must be three numbers, for red, green and blue, all finite, got {numbers}")
    return numbers
