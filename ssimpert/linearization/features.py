"""Deep features of a classifier's named layers, in one vector an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.models.classifier import Classifier
from ssimpert.models.labels import unknown_among_many

Normalization = Literal["unit-channel", "mse", "none"]
# Keeps a position whose channels are all 0 from dividing by 0, as in LPIPS (Zhang et al., CVPR 2018).
TINY = 1e-10


class _Seen(Exception):
    """All layers have been seen: the rest of the network need not run."""


@dataclass(frozen=True, eq=False)
class Features:
    """``phi``: images (B, C, H, W) in [0, 1] to features (B, F), differentiable, under torch.func too.

    Made by :func:`deep_features`. Hooks are there during a call only.

    Attributes:
        model: the network; evaluated in its own dtype.
        layers: names; the features are theirs, flattened, in this order. None at all gives F = 0.
        normalization: see :func:`deep_features`.
    """

    model: nn.Module
    layers: tuple[str, ...]
    normalization: Normalization = "unit-channel"
    _once: bool = field(default=False, repr=False)  # known to call each layer once: may stop after the last

    def __call__(self, images: Tensor) -> Tensor:
        return self._joined(self.maps(images), images)

    def with_output(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F) and what the model itself returns, from one pass through the whole of it."""
        maps, output = self._watched(images, whole=True)
        return self._joined(maps, images), output

    def maps(self, images: Tensor) -> list[Tensor]:
        """The layers' outputs as they are, (B, C, H, W) each.

        Raises:
            InputError: a layer that is not called, is called more than once, or gives something else.
        """
        return self._watched(images, whole=False)[0] if self.layers else []

    def _watched(self, images: Tensor, *, whole: bool) -> tuple[list[Tensor], Any]:
        """The layers' outputs, and the model's, or ``None`` where the rest of it was not run."""
        found: dict[str, Tensor] = {}
        result = None

        def hook_of(name: str):  # type: ignore[no-untyped-def]
            def hook(module: nn.Module, args: object, output: object) -> None:
                if name in found:
                    raise InputError(f"layer {name!r} is called more than once; choose one that is called once")
                if not isinstance(output, Tensor) or output.ndim != 4:
                    got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                    raise InputError(f"layer {name!r} gives {got}; features are of layers that give (B, C, H, W)")
                found[name] = output
                if self._once and not whole and len(found) == len(self.layers):
                    raise _Seen

            return hook

        handles = [layer_of(self.model, name).register_forward_hook(hook_of(name)) for name in self.layers]
        try:
            result = self.model(images)
        except _Seen:
            pass
        finally:
            for handle in handles:
                handle.remove()
        for name in self.layers:
            if name not in found:
                raise InputError(f"layer {name!r} is not called when the model runs")
        return [found[name] for name in self.layers], result

    def _joined(self, maps: list[Tensor], images: Tensor) -> Tensor:
        normalized = [self._normalized(value) for value in maps]
        return torch.cat(normalized, dim=1) if normalized else images.new_zeros(len(images), 0)

    def _normalized(self, value: Tensor) -> Tensor:
        _, channels, height, width = value.shape
        if self.normalization == "unit-channel":
            # The root's derivative is infinite at 0, where all channels are.
            size = value.square().sum(dim=1, keepdim=True).clamp_min(TINY**2).sqrt()
            value = value / (size + TINY) / math.sqrt(height * width)
        elif self.normalization == "mse":
            value = value / math.sqrt(channels * height * width)
        return value.flatten(1)


def deep_features(
    model: nn.Module, layers: Sequence[str] | None = None, normalization: Normalization = "unit-channel"
) -> Features:
    """Features of ``layers`` of a model, checked before any work.

    Args:
        model: a :class:`~ssimpert.Classifier`, or any module that takes images (B, C, H, W).
        layers: names as in ``model.network.named_modules()`` (of a plain module: its own); default:
            :func:`default_layers`, for a Classifier only. Each must give (B, C, H, W), once a call.
        normalization: "unit-channel" (default): every position's channels divided by their norm, then by sqrt(H W);
            "mse": divided by sqrt(C H W), so that a squared distance is the sum over the layers of mean squared
            errors (Elliott, Law, Russell, CVPR 2021); "none".

    Raises:
        InputError: an unknown layer (near names are listed) or normalization, a layer of another shape.
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


def default_layers(model: Classifier) -> tuple[str, ...]:
    """Layers at which a distance of features confines a perturbation to the object.

    VGG: the ReLUs of the paper (relu3_1 to relu3_4, relu4_1, relu4_2; Elliott, Law, Russell). Others: the last layer
    at a stride of 8 pixels, and the middle and last ones at 16 (``blocks.2`` to ``blocks.4`` of EfficientNet-Lite and
    MobileNets, ``layer2`` and ``layer3`` of ResNets); where there is no such stride, three of the later half.
    Measured by the energy inside the object's box on EfficientNet-Lite0 (first of 13 sets), Lite1 (first of 5) and
    Lite2 (second, within the error), see docs/notes/feature-layers.md; for the other families it is an analogy.

    Raises:
        InputError: a network without spatial maps, or one that decides on tokens (transformers): name the layers.
    """
    stages = _relu_stages(model.network)
    if len(stages) == 5:
        return (*stages[2], *stages[3][:2])
    try:
        last = model.cam_layer
    except InputError as error:
        raise InputError(f"no default layers of features: {error}; give layers=[...]") from error
    by_stride = _outermost_by_stride(model)
    middle = by_stride.get(16, ())
    chosen = (*by_stride.get(8, ())[-1:], *middle[(len(middle) - 1) // 2 :][:1], *middle[-1:])
    if not chosen:
        known = model.feature_layers[: model.feature_layers.index(last) + 1]
        later = known[len(known) // 2 :]
        chosen = tuple(later[round(k * (len(later) - 1) / 2)] for k in range(3))
    return tuple(dict.fromkeys(chosen))


def _outermost_by_stride(model: Classifier) -> dict[int, tuple[str, ...]]:
    """Of the layers at each stride (pixels, a power of 2) those of the least depth, which are whole stages or blocks,
    in order of execution."""
    size, names = model.input_size, model.feature_layers
    with torch.no_grad():
        maps = Features(model, names).maps(model.mean.new_zeros(1, 3, size, size))
    strides = [2 ** round(math.log2(size / value.shape[-1])) for value in maps]
    found: dict[int, tuple[str, ...]] = {}
    for stride in dict.fromkeys(strides):
        at_stride = [name for name, other in zip(names, strides, strict=True) if other == stride]
        least = min(name.count(".") for name in at_stride)
        found[stride] = tuple(name for name in at_stride if name.count(".") == least)
    return found


def _relu_stages(network: nn.Module) -> list[list[str]]:
    """The names of a VGG's ReLUs, stage by stage: ``features`` is a plain sequence with a pooling after each."""
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
    """The module of that name; of a Classifier, within its network."""
    if isinstance(model, Classifier):
        return model.layer(name)
    modules = dict(model.named_modules())
    if not name or name not in modules:
        names = [known for known in modules if known]
        raise unknown_among_many("layer", name, names, f"the model has {len(names)} layers")
    return modules[name]
