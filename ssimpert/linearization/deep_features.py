"""Deep features of a classifier's named layers, in one vector for each image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.models.classifier import Classifier
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import describe_model, pass_images
from ssimpert.models.layer_outputs import (
    LayerCall,
    check_observable,
    no_run,
    note_calls,
    observable_layers,
    on_layer_outputs,
    several_runs,
)
from ssimpert.models.layers import find_layer
from ssimpert.models.layout_candidates import LayoutCandidates
from ssimpert.models.layout_search import find_layout
from ssimpert.models.layouts import Layout, MapLayout, check_layout, read_feature_map

Normalization = Literal["unit-channel", "mse", "none"]
# Added to the norm of a position's channels, so that no division by 0 happens (as in LPIPS: Zhang et al., CVPR 2018).
TINY = 1e-10
# Strides in pixels at which default_layers looks for layers.
_FINE_STRIDE, _COARSE_STRIDE = 8, 16
_QUARTERS = 4
_VGG_STAGES = 5


class _AllLayersSeen(Exception):
    """All layers have been seen, so the remaining network need not run."""


@dataclass(frozen=True, eq=False)
class Features:
    """``phi``: images (B, C, H, W) in [0, 1] to features (B, F), differentiable, under torch.func too.

    :func:`deep_features` makes this object. Its hooks exist during a call only, and act in the calling thread only.

    Attributes:
        model: the network, evaluated in its own dtype.
        layers: names of layers; the features are their feature maps, flattened, in this order. Without layers F = 0.
        normalization: see :func:`deep_features`.
        layout, prefix_tokens: see :func:`deep_features`.
    """

    model: nn.Module
    layers: tuple[str, ...]
    normalization: Normalization = "unit-channel"
    layout: Layout | None = None
    prefix_tokens: int | None = None
    # Whether each layer is known to run once in a call, so that the network may stop after the last of them.
    _once: bool = field(default=False, repr=False)
    # The layouts by layer, found at the first call.
    _layouts: dict[str, MapLayout] = field(default_factory=dict, repr=False)

    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, F) of ``images`` (B, C, H, W)."""
        return self._joined(self.maps(images), images)

    def with_output(self, images: Tensor) -> tuple[Tensor, Any]:
        """Features (B, F) and the model's own output, from one pass through the whole model."""
        maps, output = self._watched(images, whole=True)
        return self._joined(maps, images), output

    def maps(self, images: Tensor) -> list[Tensor]:
        """The layers' feature maps (B, C, h, w), as each layer gave them, in whatever layout.

        Prefix tokens are left out. What a later layer writes into an output does not show.

        Raises:
            InputError: a layer does not run, runs more than once, or has no feature map; or its layout is ambiguous.
        """
        return self._watched(images, whole=False)[0] if self.layers else []

    def with_model(self, model: nn.Module, normalization: Normalization) -> Features:
        """The same layers of another module, in which they have the same names and layouts."""
        return replace(self, model=model, normalization=normalization, _once=False)

    def _watched(self, images: Tensor, *, whole: bool) -> tuple[list[Tensor], Any]:
        """The layers' feature maps and the model's output, ``None`` where the model did not run to its end."""
        outputs: dict[str, list[object]] = {name: [] for name in self.layers}
        layers = {name: layer_of(self.model, name) for name in self.layers}
        seen = 0
        result = None

        def keep(name: str, output: object) -> None:
            nonlocal seen
            # A clone: a later layer may write into the output.
            outputs[name].append(output.clone() if isinstance(output, Tensor) else output)
            seen += 1
            if self._once and not whole and seen == len(self.layers):
                raise _AllLayersSeen

        # The first pass shows the layouts that are not known yet. They need the shapes of all layers' outputs.
        unknown = [name for name in self.layers if name not in self._layouts]
        network = self.model.network if isinstance(self.model, Classifier) else self.model
        owner = describe_model(self.model)
        for name in unknown:
            check_observable(name, layers[name], network, owner)
        every_layer = observable_layers(network) if unknown else {}
        calls: list[LayerCall] = []
        shapes = on_layer_outputs(every_layer, note_calls(every_layer, calls))
        with suppress(_AllLayersSeen), shapes, on_layer_outputs(layers, keep):
            result = pass_images(self.model, images)
        for name, layer_runs in outputs.items():
            if not layer_runs:
                raise no_run(name, owner, network, layers[name])
            if len(layer_runs) > 1:
                raise several_runs(name, owner, len(layer_runs))
        if unknown:
            self._find_layouts(unknown, layers, calls, images)
        maps = [
            read_feature_map(self._layouts[name], outputs[name][0], images.shape, layer=name, owner=owner)
            for name in self.layers
        ]
        return maps, result

    def _find_layouts(
        self, names: Sequence[str], layers: Mapping[str, nn.Module], calls: list[LayerCall], images: Tensor
    ) -> None:
        """Fill in the layouts of ``names`` from the runs of all layers."""
        candidates = LayoutCandidates(self.model, calls, images.shape, self.layout, self.prefix_tokens)
        owner = describe_model(self.model)
        for name in names:
            # A layer that is a network by itself has no name among its own layers.
            call = next((call for call in calls if call.module is layers[name]), None)
            readings = [] if call is None else candidates.of(call)
            if len(readings) == 1 and (candidates.grids or candidates.layout is not None):
                self._layouts[name] = readings[0]
            else:  # a larger image may tell, or the error says what is the matter
                self._layouts[name] = find_layout(
                    self.model,
                    name,
                    layers[name],
                    torch.zeros(1, *images.shape[1:], dtype=images.dtype, device=images.device),
                    owner=owner,
                    layout=self.layout,
                    prefix_tokens=self.prefix_tokens,
                )

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
    model: nn.Module,
    layers: Sequence[str] | None = None,
    normalization: Normalization = "unit-channel",
    *,
    layout: Layout | None = None,
    prefix_tokens: int | None = None,
) -> Features:
    """Features of ``layers`` of a model. Names and shapes are checked before any work.

    Args:
        model: a :class:`~ssimpert.Classifier`, or any module that takes images (B, C, H, W).
        layers: names as in ``model.network.named_modules()``, or for a plain module in its own ``named_modules()``.
            Each layer must give a feature map, (B, C, H, W), (B, H, W, C) or tokens (B, N, C), and run once in a call.
            Default, for a Classifier only: :func:`default_layers`.
        normalization: "unit-channel" (default) divides the channels of every position by their norm, and then by
            sqrt(H W). "mse" divides by sqrt(C H W), so that a squared distance is the sum over the layers of mean
            squared errors (Elliott, Law, Russell, CVPR 2021). "none" leaves the feature maps unchanged.
        layout: where the outputs of all these layers have their feature maps: ``"channels_first"``,
            ``"channels_last"`` or ``"tokens"``. Default ``None``: the layout of each layer is found out
            (:mod:`ssimpert.models.layout_search`).
        prefix_tokens: how many tokens in front of those of the patches have no place in the image (class token,
            registers). They are no part of the features. Default ``None``: the number is found out.

    Raises:
        InputError: an unknown layer (near names are listed), an unknown normalization or layout, a layer without a
            feature map, or one whose layout is ambiguous and not given.
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
    features = Features(model, names, normalization, *check_layout(layout, prefix_tokens))
    if not isinstance(model, Classifier):
        return features
    with torch.no_grad():
        features.maps(model.mean.new_zeros(1, 3, model.input_size, model.input_size))
    return replace(features, _once=True)


@takes_model
def default_layers(model: Classifier) -> tuple[str, ...]:
    """Layers at which a distance of features confines a perturbation to the object.

    For a VGG these are the ReLUs of the paper (relu3_1 to relu3_4, relu4_1, relu4_2; Elliott, Law, Russell). For other
    networks they are the last layer at a stride of 8 pixels, and the middle and the last layer at a stride of 16
    (``blocks.2`` to ``blocks.4`` of EfficientNet-Lite and MobileNets, ``layer2`` and ``layer3`` of ResNets). A network
    without such strides gets three layers of its later half.

    Swin transformers have these strides. A network whose tokens stay as they are (ViT, DeiT, mixers) has one stride
    throughout; of its blocks the ones that end the first, second and third quarter are taken, which are three of the
    four that Ranftl, Bochkovskiy, Koltun ("Vision transformers for dense prediction", ICCV 2021) read a ViT at. The
    fourth is the last block, whose patches a class token no longer sees.

    The choice was measured by the energy inside the object's box on EfficientNet-Lite0 (first of 13 sets), Lite1 (first
    of 5) and Lite2 (second, within the error), see docs/notes/feature-layers.md. For other families it is an analogy.

    Raises:
        InputError: the network has no feature maps: name the layers.
    """
    stages = _relu_stages(model.network)
    if len(stages) == _VGG_STAGES:
        return (*stages[2], *stages[3][:2])
    try:
        last = model.cam_layer
    except InputError as error:
        raise InputError(f"no default layers of features: {error}; give layers=[...]") from error
    by_stride = _outermost_by_stride(model)
    blocks = _equal_siblings(model)
    if len(by_stride) == 1 and model.layouts[last].kind == "tokens" and len(blocks) >= _QUARTERS:
        return tuple(blocks[round(len(blocks) * k / _QUARTERS) - 1] for k in range(1, _QUARTERS))
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


def _equal_siblings(model: Classifier) -> list[str]:
    """The largest group of feature layers of one class in one container, in order: the blocks of a transformer."""
    groups: dict[tuple[str, type], list[str]] = {}
    for name in model.feature_layers:
        groups.setdefault((name.rpartition(".")[0], type(model.layer(name))), []).append(name)
    return max(groups.values(), key=len, default=[])


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
