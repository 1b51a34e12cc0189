"""An image classifier as everything else here sees it: frozen, on [0, 1] images, giving logits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.models.labels import class_name, unknown_among_many
from ssimpert.models.layers import LayerSurvey, require_cam_layer, survey_layers


class Classifier(nn.Module):
    """A network with its normalisation in front, frozen and in eval mode for good.

    In-place activations are switched off, since hooks and autograd need every layer's output intact.
    Gradients flow to the images, never to the parameters.

    Attributes:
        name: the name it was loaded by.
        input_size: side, in pixels, of the square images it was made for.
        labels: the names of its K classes.
        mean, std: buffers (1,3,1,1), in units of [0, 1] pixels; the network sees (x - mean)/std.
        network: the wrapped module, from normalised images to logits (B,K).
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
        """Stays in eval mode whatever ``mode`` says: batch statistics must not depend on the images."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,K) of ``images`` (B,3,H,W): RGB, floating point, pixels in [0, 1] (not checked: that
        would cost a device synchronisation at every call). Other float types are converted to the network's.

        Raises:
            InputError: wrong shape or type, or images on another device than the model.
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
        """Index of the largest logit, (B,) long, for ``images`` (B,3,H,W) in [0, 1]; no gradient."""
        with torch.no_grad():
            return self(images).argmax(dim=1)

    def label_name(self, index: int) -> str:
        """The name of class ``index``, 0 to K-1."""
        return class_name(index, self.labels, self.name)

    def layer(self, name: str) -> nn.Module:
        """The module of ``network`` called ``name`` ("blocks.3"), for hooks.

        Raises:
            InputError: no layer of that name.
        """
        modules = dict(self.network.named_modules())
        if not name or name not in modules:
            names = [known for known in modules if known]
            hint = f"model {self.name!r} has {len(names)} layers, from {names[0]} to {names[-1]}"
            raise unknown_among_many("layer", name, names, hint)
        return modules[name]

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the layers that give spatial feature maps (B,C,H,W), H, W > 1, in order of execution.
        Found by one forward pass at the first use."""
        return self._survey.feature_layers

    @property
    def cam_layer(self) -> str:
        """Name of the default layer for Grad-CAM: the last spatial feature map, activated, before pooling.

        Raises:
            InputError: the network has none (vision transformers), with the reason.
        """
        return require_cam_layer(self._survey, self.name)

    @cached_property
    def _survey(self) -> LayerSurvey:
        size = self.input_size
        return survey_layers(self.network, self.mean.new_zeros(1, 3, size, size))
