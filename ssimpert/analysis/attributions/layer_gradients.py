"""The feature map of a layer, in whatever layout, and the gradient of a class's logit with respect to this map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.class_targets import class_targets, target_logit
from ssimpert.errors import InputError
from ssimpert.models.forward_passes import batch_size_for, describe_model, gradients_enabled, in_chunks
from ssimpert.models.layer_outputs import check_observable, no_run, on_layer_outputs, several_runs
from ssimpert.models.layout_search import find_layout
from ssimpert.models.layouts import Layout, MapLayout, check_layout, read_feature_map


@dataclass(frozen=True, eq=False)
class LayerGradients:
    """The two parts of every class activation map, detached.

    Attributes:
        activation: (B, K, h, w), the feature map A of the layer.
        gradient: (B, K, h, w), d logit / d A for the class of each image.
    """

    activation: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class MappedLayer:
    """A layer of a model whose feature map is known how to read.

    Attributes:
        model: the model that the layer belongs to.
        name: what errors call the layer: the name that the caller gave, else the type of the module.
        module: the layer.
        layout: where the layer's output has its feature map.
    """

    model: nn.Module
    name: str
    module: nn.Module
    layout: MapLayout

    @contextmanager
    def feature_maps(self, images: Tensor, transform: Callable[[Tensor], Tensor]) -> Iterator[list[None]]:
        """Within the block, the next layer gets what ``transform`` makes of this layer's feature map (B, K, h, w).

        Only passes of this thread are changed. The block is given a list that grows by one entry at each run.

        Args:
            images: what passes through the model, (B, C, H, W).
            transform: gets the feature map, which nothing overwrites later, and returns one of the same shape.
        """
        runs: list[None] = []
        owner = describe_model(self.model)

        def through(name: str, output: object) -> Tensor:
            feature_map = read_feature_map(self.layout, output, images.shape, layer=name, owner=owner)
            runs.append(None)
            # The clone keeps an in-place layer that follows from writing into the feature map.
            return self.layout.with_feature_map(cast(Tensor, output), transform(feature_map).clone())

        with on_layer_outputs({self.name: self.module}, through):
            yield runs

    def check_runs(self, runs: int) -> None:
        """Raise :class:`InputError` unless the layer ran once."""
        if runs == 0:
            raise no_run(self.name, describe_model(self.model), self.model, self.module)
        if runs > 1:
            raise several_runs(self.name, describe_model(self.model), runs)


def mapped_layer(
    model: nn.Module,
    layer: str | nn.Module | None,
    images: Tensor,
    layout: Layout | None = None,
    prefix_tokens: int | None = None,
) -> MappedLayer:
    """The layer that ``layer`` names, and its layout: given, known to the model, or found by a pass of one image.

    Args:
        model: a classifier; its ``layouts``, if it has such a mapping, are the layouts that are known.
        layer: a module of the model, its name, or ``None`` for ``model.cam_layer``.
        images: (B, C, H, W).
        layout, prefix_tokens: as for :func:`~ssimpert.analysis.grad_cam`.

    Raises:
        InputError: an unknown layer or layout; a layer that does not run once or that has no feature map; a layout that
            is ambiguous, or that does not fit.
    """
    module = module_of_layer(model, layer)
    name = layer_name(layer, module)
    owner = describe_model(model)
    check_observable(name, module, model, owner)
    layout, prefix_tokens = check_layout(layout, prefix_tokens)
    if layout is None:
        known: Mapping[str, MapLayout] = getattr(model, "layouts", {})
        full_name = layer if isinstance(layer, str) else _name_of(model, module)
        if full_name is not None and full_name in known:
            return MappedLayer(model, name, module, known[full_name])
    found = find_layout(model, name, module, images, owner=owner, layout=layout, prefix_tokens=prefix_tokens)
    return MappedLayer(model, name, module, found)


def layer_gradients(model: nn.Module, images: Tensor, target: int | Tensor, layer: MappedLayer) -> LayerGradients:
    """The feature maps and gradients of a layer for images (B, C, H, W); a few images go through the model at a time.

    The function works under ``torch.no_grad`` and leaves no hook behind. Neither parameters nor ``images`` collect
    gradients. Other threads may use the model at the same time.

    Args:
        model: a classifier in evaluation mode, images (B, C, H, W) -> logits (B, K).
        images: (B, C, H, W), float32 or float64, in the range that the model takes.
        target: the class, one for all images or (B,) integers.
        layer: the layer and its layout (:func:`mapped_layer`).

    Raises:
        InputError: a layer that does not run, that runs more than once, or that does not lead to the logits; a class
            that the model does not have.
    """
    targets = class_targets(target, images)

    def maps_and_gradients(batch: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        maps: list[Tensor] = []

        def keep(feature_map: Tensor) -> Tensor:
            maps.append(feature_map)
            return feature_map

        # The inputs require gradients, because a graph is needed even where all parameters are frozen. The clone keeps
        # the graph off the caller's tensor.
        inputs = batch.detach().clone().requires_grad_()
        with layer.feature_maps(batch, keep) as runs:
            logit = target_logit(model, inputs, classes)
        layer.check_runs(len(runs))
        leads_on = maps[0].requires_grad and logit.requires_grad
        gradient = torch.autograd.grad(logit.sum(), maps[0], allow_unused=True)[0] if leads_on else None
        if gradient is None:
            raise leads_nowhere(layer.name)
        return maps[0].detach(), gradient

    with gradients_enabled():
        return LayerGradients(*in_chunks(maps_and_gradients, images, targets, chunk=batch_size_for(None, images)))


def module_of_layer(model: nn.Module, layer: str | nn.Module | None) -> nn.Module:
    """The module of ``model`` that ``layer`` names. A module is returned as it is; ``None`` names ``model.cam_layer``.

    Raises:
        InputError: no such layer, ``None`` for a model without a ``cam_layer``, or a model that is no module.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"{type(model).__name__} has no layers; class activation maps need the model itself")
    if isinstance(layer, nn.Module):
        return layer
    if layer is None:
        layer = getattr(model, "cam_layer", None)
        if not isinstance(layer, str):
            raise InputError(f"{type(model).__name__} has no cam_layer; name the convolution with layer=")
    named = getattr(model, "layer", None)
    if callable(named) and not isinstance(named, nn.Module):
        module: nn.Module = named(layer)
        return module
    modules = dict(model.named_modules())
    if layer not in modules or layer == "":
        raise InputError(f"unknown layer {layer!r}; the model has {', '.join(filter(None, modules))}")
    return modules[layer]


def layer_name(layer: str | nn.Module | None, module: nn.Module) -> str:
    """How errors call a layer: by the name that the caller gave, else by the type of the module."""
    return layer if isinstance(layer, str) else type(module).__name__


def leads_nowhere(name: str) -> InputError:
    """The error of a layer on which the logits do not depend."""
    return InputError(f"the logits do not depend on layer {name!r}; name a layer that leads to them")


def _name_of(model: nn.Module, module: nn.Module) -> str | None:
    """The name of ``module`` as ``model.layer`` takes it, ``None`` where it has none."""
    network = getattr(model, "network", model)
    names = (name for name, candidate in network.named_modules() if candidate is module)
    return next(names, None)
