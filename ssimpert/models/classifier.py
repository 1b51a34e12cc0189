"""An image classifier as all other modules use it: frozen, from images in [0, 1] to logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.models.forward_passes import outside_inference_mode
from ssimpert.models.labels import class_name
from ssimpert.models.layers import LayerSurvey, find_layer, require_cam_layer, survey_layers
from ssimpert.models.layouts import MapLayout


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
        labels: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """Wrap ``network`` and freeze it; the network itself is changed.

        Args:
            network: a module from normalised images (B, 3, H, W) to logits (B, K).
            name: what errors and records call the classifier.
            input_size: side, in pixels, of the square images that the network was made for.
            labels: the names of the K classes.
            mean: three numbers, for red, green and blue, in units of [0, 1] pixels: subtracted from the images.
            std: three numbers in the same units: the images are then divided by them.

        Raises:
            InputError: ``mean`` or ``std`` does not have three numbers.
        """
        for option, values in (("mean", mean), ("std", std)):
            if len(values) != 3:
                raise InputError(f"{option} must be three numbers, for red, green and blue, got {values!r}")
        super().__init__()
        self.name = name
        self.input_size = input_size
        self.labels = tuple(labels)
        self.network = network
        self.register_buffer("mean", torch.tensor(tuple(mean)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(tuple(std)).view(1, 3, 1, 1))
        for module in network.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode whatever ``mode`` says: batch statistics must not depend on the images."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of ``images`` (B, 3, H, W): RGB, floating point, pixels in [0, 1].

        The range is not checked, since a check would wait for the device at every call. Other float types are converted
        to the network's.

        Raises:
            InputError: a wrong shape or type, or images on another device than the model.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"images have shape {tuple(images.shape)}; the model takes (B, 3, H, W)")
        if not images.is_floating_point():
            raise InputError(f"images have dtype {images.dtype}; the model takes floating-point pixels in [0, 1]")
        if images.device != self.mean.device:
            raise InputError(f"images are on {images.device}, model {self.name!r} on {self.mean.device}")
        logits: Tensor = self.network((images.to(self.mean.dtype) - self.mean) / self.std)
        return logits

    def predict(self, images: Tensor) -> Tensor:
        """Index of the largest logit, (B,) long, for ``images`` (B, 3, H, W) in [0, 1]; no gradient."""
        with torch.no_grad():
            return self(images).argmax(dim=1)

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

    @cached_property
    def _survey(self) -> LayerSurvey:
        size = self.input_size
        with outside_inference_mode():
            return survey_layers(self.network, self.mean.new_zeros(1, 3, size, size))
