"""Deep features of a classifier's named layers, in one vector for each image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.models.classifier import Classifier
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import pass_images
from ssimpert.models.layers import find_layer

Normalization = Literal["unit-channel", "mse", "none"]
# Added to the norm of a position's channels, so that no division by 0 happens (as in LPIPS: Zhang et al., CVPR 2018).
TINY = 1e-10
# Strides in pixels at which default_layers looks for layers.
_FINE_STRIDE, _COARSE_STRIDE = 8, 16
_VGG_STAGES = 5


class _AllLayersSeen(Exception):
    """All layers have been seen, so the remaining network need not run."""


@dataclass(frozen=True, eq=False)
class Features:
    """``phi``: images (B, C, H, W) in [0, 1] to features (B, F), differentiable, under torch.func too.

    :func:`deep_features` makes this object. Its hooks exist during a call only.

    Attributes:
        model: the network, evaluated in its own dtype.
        layers: names of layers; the features are their outputs, flattened, in this order. Without layers F = 0.
        normalization: see :func:`deep_features`.
    """

    model: nn.Module
    layers: tuple[str, ...]
    normalization: Normalization = "unit-channel"
    # Whether each layer is known to run once in a call, so that the network may stop after the last of them.
    _once: bool = field(default=False, repr=False)

    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, F) of ``images`` (B, C, H, W)."""
        return self._joined(self.maps(images), images)

    def with_output(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F) and the model's own output, from one pass through the whole model."""
        maps, output = self._watched(images, whole=True)
        return self._joined(maps, images), output

    def maps(self, images: Tensor) -> list[Tensor]:
        """The layers' outputs, unchanged, (B, C, H, W) each.

        Raises:
            InputError: a layer is not called, is called more than once, or has an output of another shape.
        """
        return self._watched(images, whole=False)[0] if self.layers else []

    def _watched(self, images: Tensor, *, whole: bool) -> tuple[list[Tensor], Any]:
        """The layers' outputs and the model's output, ``None`` where the model did not run to its end."""
        outputs: dict[str, Tensor] = {}
        result = None

        def hook_of(name: str) -> Callable[[nn.Module, object, object], None]:
            def hook(module: nn.Module, args: object, output: object) -> None:
                if name in outputs:
                    raise InputError(f"layer {name!r} is called more than once; choose one that is called once")
                if not isinstance(output, Tensor) or output.ndim != 4:
                    got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                    raise InputError(f"layer {name!r} gives {got}; features are of layers that give (B, C, H, W)")
                outputs[name] = output
                if self._once and not whole and len(outputs) == len(self.layers):
                    raise _AllLayersSeen

            return hook

        handles = [layer_of(self.model, name).register_forward_hook(hook_of(name)) for name in self.layers]
        try:
            result = pass_images(self.model, images)
        except _AllLayersSeen:
            pass
        finally:
            for handle in handles:
                handle.remove()
        for name in self.layers:
            if name not in outputs:
                raise InputError(f"layer {name!r} is not called when the model runs")
        return [outputs[name] for name in self.layers], result

    def _joined(self, maps: list[Tensor], images: Tensor) -> Tensor:
        normalized = [self._normalized(value) for value in maps]
        return torch.cat(normalized, dim=1) if normalized else images.new_zeros(len(images), 0)

    def _normalized(self, value: Tensor) -> Tensor:
        _, channels, height, width = value.shape
        if self.normalization == "unit-channel":
            # The clamp is for the derivative: that of the square root is infinite at 0, where all channels are 0.
            size = value.square().sum(dim=1, keepdim=True).clamp_min(TINY**2).sqrt()
            value = value / (size + TINY) / math.sqrt(height * width)
        elif self.normalization == "mse":
            value = value / math.sqrt(channels * height * width)
        return value.flatten(1)


@takes_model
def deep_features(
    model: nn.Module, layers: Sequence[str] | None = None, normalization: Normalization = "unit-channel"
) -> Features:
    """Features of ``layers`` of a model. Names and shapes are checked before any work.

    Args:
        model: a :class:`~ssimpert.Classifier`, or any module that takes images (B, C, H, W).
        layers: names as in ``model.network.named_modules()``, or for a plain module in its own ``named_modules()``.
            Each layer must give (B, C, H, W) and run once in a call. Default, for a Classifier only:
            :func:`default_layers`.
        normalization: "unit-channel" (default) divides the channels of every position by their norm, and then by
            sqrt(H W). "mse" divides by sqrt(C H W), so that a squared distance is the sum over the layers of mean
            squared errors (Elliott, Law, Russell, CVPR 2021). "none" leaves the outputs unchanged.

    Raises:
        InputError: an unknown layer (near names are listed), an unknown normalization, or a layer of another shape.
    """
    if normalization not in get_args(Normalization):
        valid = ", ".join(get_args(Normalization))
        raise InputError(f"unknown normalization {normalization!r}; valid: {valid}")
    if layers is None:
        if not isinstance(model, Classifier):
            raise InputError("a plain module has no default layers; give layers=[...]")
        layers = default_layers(model)
    if isinstance(layers, str):
        raise InputError(f"layers must be a sequence of names, got the string {layers!r}")
    names = tuple(layers)
    for name in names:
        layer_of(model, name)
        if names.count(name) > 1:
            raise InputError(f"layer {name!r} is given twice")
    features = Features(model, names, normalization)
    if not isinstance(model, Classifier):
        return features
    with torch.no_grad():
        features.maps(model.mean.new_zeros(1, 3, model.input_size, model.input_size))
    return Features(model, names, normalization, _once=True)


@takes_model
def default_layers(model: Classifier) -> tuple[str, ...]:
    """Layers at which a distance of features confines a perturbation to the object.

    For a VGG these are the ReLUs of the paper (relu3_1 to relu3_4, relu4_1, relu4_2; Elliott, Law, Russell). For other
    networks they are the last layer at a stride of 8 pixels, and the middle and the last layer at a stride of 16
    (``blocks.2`` to ``blocks.4`` of EfficientNet-Lite and MobileNets, ``layer2`` and ``layer3`` of ResNets). A network
    without such strides gets three layers of its later half.

    The choice was measured by the energy inside the object's box on EfficientNet-Lite0 (first of 13 sets), Lite1 (first
    of 5) and Lite2 (second, within the error), see docs/notes/feature-layers.md. For other families it is an analogy.

    Raises:
        InputError: the network has no spatial maps, or decides on tokens (transformers): name the layers.
    """
    stages = _relu_stages(model.network)
    if len(stages) == _VGG_STAGES:
        return (*stages[2], *stages[3][:2])
    try:
        last = model.cam_layer
    except InputError as error:
        raise InputError(f"no default layers of features: {error}; give layers=[...]") from error
    by_stride = _outermost_by_stride(model)
    coarse = by_stride.get(_COARSE_STRIDE, ())
    chosen = (*by_stride.get(_FINE_STRIDE, ())[-1:], *coarse[(len(coarse) - 1) // 2 :][:1], *coarse[-1:])
    if not chosen:
        before_pooling = model.feature_layers[: model.feature_layers.index(last) + 1]
        later = before_pooling[len(before_pooling) // 2 :]
        chosen = tuple(later[round(k * (len(later) - 1) / 2)] for k in range(3))
    return tuple(dict.fromkeys(chosen))


def _outermost_by_stride(model: Classifier) -> dict[int, tuple[str, ...]]:
    """For each stride (pixels, a power of 2) the layers of the least depth in the module tree, in order of execution.

    These are whole stages or blocks.
    """
    size, names = model.input_size, model.feature_layers
    with torch.no_grad():
        maps = Features(model, names).maps(model.mean.new_zeros(1, 3, size, size))
    strides = [2 ** round(math.log2(size / value.shape[-1])) for value in maps]
    outermost: dict[int, tuple[str, ...]] = {}
    for stride in dict.fromkeys(strides):
        at_stride = [name for name, other in zip(names, strides, strict=True) if other == stride]
        least_depth = min(name.count(".") for name in at_stride)
        outermost[stride] = tuple(name for name in at_stride if name.count(".") == least_depth)
    return outermost


def _relu_stages(network: nn.Module) -> list[list[str]]:
    """The names of a VGG's ReLUs, stage by stage: ``features`` is a plain sequence with a pooling after each stage."""
    sequence = getattr(network, "features", None)
    if not isinstance(sequence, nn.Sequential) or not isinstance(sequence[-1], nn.MaxPool2d):
        return []
    stages: list[list[str]] = [[]]
    for name, module in sequence.named_children():
        if isinstance(module, nn.MaxPool2d):
            stages.append([])
        elif isinstance(module, nn.ReLU):
            stages[-1].append(f"features.{name}")
    return stages[:-1]


def layer_of(model: nn.Module, name: str) -> nn.Module:
    """The module called ``name`` in ``model``; for a Classifier, in its network.

    Raises:
        InputError: no layer has that name.
    """
    return model.layer(name) if isinstance(model, Classifier) else find_layer(model, name)
