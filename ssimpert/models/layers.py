"""A network's layers by name, and which of them give spatial feature maps, found by watching one forward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.models.labels import unknown_among_many


@dataclass(frozen=True)
class LayerSurvey:
    """What one forward pass showed.

    Attributes:
        feature_layers: names of the layers, containers included, that run exactly once and give a spatial feature map
            (B, C, H, W) with H, W > 1 that nothing overwrites later. The order is that of execution; a container comes
            after its last child.
        cam_layer: the layer whose output is the last spatial feature map before pooling, or None.
        reason: why there is no ``cam_layer``; empty if there is one.
    """

    feature_layers: tuple[str, ...]
    cam_layer: str | None
    reason: str


@dataclass(frozen=True)
class _Call:
    """One execution of one module. ``output`` is kept, so that tensors can be compared by identity."""

    name: str
    module: nn.Module
    output: Tensor
    version: int


def survey_layers(network: nn.Module, example: Tensor) -> LayerSurvey:
    """Run ``network`` once on ``example`` (1, 3, H, W), a square image, with hooks for this run, and name its layers.

    The CAM layer is the innermost module that produces the last spatial map and runs exactly once. Pooling layers, and
    containers that end in a pooling layer, don't count. So if a residual block uses its ReLU twice, the block is chosen
    instead of the ReLU. A network that computes on tokens after its last map (vision and Swin transformers) has no CAM
    layer: its decision does not rest on what that map shows.
    """
    calls = _watch(network, example)
    runs: dict[str, int] = {}
    for call in calls:
        runs[call.name] = runs.get(call.name, 0) + 1

    # An in-place addition (ResNet's ``out += identity``) changes a layer's output after the layer's hook has seen it.
    # Such a tensor is not the layer's feature map any more. The tensor's version counter tells.
    usable = [
        call
        for call in calls
        if runs[call.name] == 1 and _is_spatial(call.output) and call.output._version == call.version
    ]
    features = tuple(call.name for call in usable)

    pooled = {id(call.output) for call in calls if _is_pooling(call.module)}
    candidates = [call for call in usable if id(call.output) not in pooled]
    if not candidates:
        return LayerSurvey(features, None, "none of its layers gives a spatial feature map")
    last = candidates[-1]
    innermost = next(call for call in candidates if call.output is last.output)

    tokens = _first_token_layer(network, calls[calls.index(last) + 1 :])
    if tokens is not None:
        shape = "x".join(str(n) for n in tokens.output.shape[1:])
        reason = f"its last spatial map ({innermost.name}) is followed by token features ({tokens.name}, {shape})"
        return LayerSurvey(features, None, reason)
    return LayerSurvey(features, innermost.name, "")


def require_cam_layer(survey: LayerSurvey, name: str) -> str:
    """The CAM layer of ``survey``.

    Raises:
        InputError: the model called ``name`` has none; the reason is given.
    """
    if survey.cam_layer is None:
        raise InputError(f"model {name!r} has no layer for Grad-CAM: {survey.reason}")
    return survey.cam_layer


def find_layer(network: nn.Module, name: str, described: str = "the model") -> nn.Module:
    """The module of ``network`` called ``name``, as in ``network.named_modules()``.

    Args:
        network: the module that has the layers.
        name: the layer's name, for instance "blocks.3".
        described: what the error calls the network.

    Raises:
        InputError: no layer has that name; near names are listed.
    """
    modules = dict(network.named_modules())
    if not name or name not in modules:
        names = [layer for layer in modules if layer]
        extent = f", from {names[0]} to {names[-1]}" if names else ""
        raise unknown_among_many("layer", name, names, f"{described} has {len(names)} layers{extent}")
    return modules[name]


def _watch(network: nn.Module, example: Tensor) -> list[_Call]:
    """Every execution of every named module, in order of completion. All hooks are removed again, also on errors."""
    calls: list[_Call] = []
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def note(module: nn.Module, _args: object, output: object) -> None:
            if isinstance(output, Tensor):
                calls.append(_Call(name, module, output, output._version))

        handles.append(module.register_forward_hook(note))

    try:
        for name, module in network.named_modules():
            if name:
                watch(name, module)
        with torch.no_grad():
            network(example)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _is_spatial(output: Tensor) -> bool:
    # The example is one square image, so its map (1, C, H, W) has H == W. A channels-last map (1, H, W, C) has not, and
    # attention inside windows has the windows along the first axis.
    return output.ndim == 4 and output.shape[0] == 1 and output.shape[2] == output.shape[3] > 1


def _is_pooling(module: nn.Module) -> bool:
    # torch's classes, timm's SelectAdaptivePool2d and AvgPool2dSame, and AttentionPool2d all have "Pool" in their name.
    return "Pool" in type(module).__name__


def _first_token_layer(network: nn.Module, calls: list[_Call]) -> _Call | None:
    """The first trained leaf among ``calls`` that gives (B, N, C) or (B, H, W, C), without attention pooling."""
    pools = tuple(f"{name}." for name, module in network.named_modules() if name and _is_pooling(module))
    for call in calls:
        leaf = next(call.module.children(), None) is None
        trained = next(call.module.parameters(recurse=False), None) is not None
        shape = call.output.shape
        tokens = len(shape) == 3 or (len(shape) == 4 and shape[2] != shape[3])
        if leaf and trained and tokens and not call.name.startswith(pools):
            return call
    return None
