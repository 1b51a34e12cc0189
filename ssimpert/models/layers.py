"""A network's layers by name, and which of them give feature maps, found by watching one forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.models.forward_passes import pass_images
from ssimpert.models.layer_outputs import (
    LayerCall,
    compiled_reason,
    describe_output,
    observable_layers,
    on_layer_outputs,
)
from ssimpert.models.layout_candidates import LayoutCandidates
from ssimpert.models.layouts import Grid, MapLayout

MAX_LISTED = 40
"""The most layers that an error lists."""

MAX_TRIALS = 64
"""The most layers that are tried for a map on which the logits depend. A ViT needs three trials."""


@dataclass(frozen=True)
class LayerSurvey:
    """What one forward pass showed.

    Attributes:
        layouts: where each layer that runs exactly once has its feature map; layers without a map, or with an
            ambiguous one, are missing.
        feature_layers: names of the layers, containers included, that run exactly once and give a feature map of more
            than one row and column that nothing overwrites later. The order is that of execution; a container comes
            after its last child.
        cam_layer: the default layer for class activation maps, or None.
        reason: why there is no ``cam_layer``; empty if there is one.
    """

    layouts: Mapping[str, MapLayout]
    feature_layers: tuple[str, ...]
    cam_layer: str | None
    reason: str


@dataclass(frozen=True)
class _Run:
    """One execution of one module. ``output`` is kept, so that tensors can be compared by identity."""

    call: LayerCall
    output: Tensor
    version: int
    layout: MapLayout | None = None

    @property
    def is_pooled(self) -> bool:
        return _is_pooling(self.call.module)


def survey_layers(network: nn.Module, example: Tensor) -> LayerSurvey:
    """Run ``network`` once on ``example`` (1, 3, H, W), a square image, with hooks for this run, and name its layers.

    The CAM layer is the innermost module that produces the last feature map on which the logits depend, and that runs
    exactly once. Pooling layers, and containers that end in a pooling layer, don't count. So if a residual block uses
    its ReLU twice, the block is chosen instead of the ReLU. In a Swin transformer and in a transformer that averages
    its tokens, this is the last norm or block before the mean.

    A transformer that decides by its class token (ViT, DeiT) has no such map at its end: the patches' tokens after the
    last attention don't reach the logits, and their gradient is 0. There the CAM layer is the last normalisation whose
    patches do reach the logits, which is the first norm of the last block. That is the choice of the field
    (pytorch-grad-cam, "How does it work with Vision Transformers", ``blocks[-1].norm1``). Whether the logits depend on
    a map is tried by further passes with NaN in the map's place; the weights, which may be 0 at first, don't matter.
    """
    compiled = compiled_reason(network)
    runs = _watch(network, example)
    counts = Counter(run.call.name for run in runs)
    candidates = LayoutCandidates(network, [run.call for run in runs], example.shape)
    found: dict[str, MapLayout] = {}
    for run in runs:
        readings = candidates.of(run.call) if counts[run.call.name] == 1 else []
        if len(readings) == 1:
            found[run.call.name] = readings[0]

    # An in-place addition (ResNet's ``out += identity``) changes a layer's output after the layer's hook has seen it.
    # Such a tensor is not the layer's feature map any more. The tensor's version counter tells.
    usable = [
        replace(run, layout=found[run.call.name])
        for run in runs
        if run.call.name in found
        and run.output._version == run.version
        and min(_grid(run.output, found[run.call.name], example)) > 1
    ]
    features = tuple(run.call.name for run in usable)
    cam_layer, reason = _last_map(network, example, runs, usable)
    return LayerSurvey(found, features, cam_layer, compiled or reason if cam_layer is None else "")


def _last_map(network: nn.Module, example: Tensor, runs: list[_Run], usable: list[_Run]) -> tuple[str | None, str]:
    """The CAM layer, or None and why there is none. ``usable``: the runs that give a feature map."""
    pooled = {id(run.output) for run in runs if run.is_pooled}
    inside = _inside_pools(network)  # the keys and values of an attention that pools tokens
    candidates = [
        run
        for run in usable
        if id(run.output) not in pooled
        and (run.layout == MapLayout("channels_first") or not run.call.name.startswith(inside))
    ]
    if not candidates:
        return None, "none of its layers gives a spatial feature map"
    last = candidates[-1]
    innermost = next(run for run in candidates if run.output is last.output)
    is_convolutional = innermost.layout == MapLayout("channels_first")
    position = max(k for k, run in enumerate(runs) if run.call is last.call)
    following = [run.call for run in runs[position + 1 :]]
    if is_convolutional and _first_token_layer(network, following) is None:
        return innermost.call.name, ""
    if _reaches_logits(network, example, innermost):
        return innermost.call.name, ""
    # The class token decides. First the norms are tried, from the end; then all other layers.
    norms = [run for run in candidates if _is_norm(run.call.module)]
    others = [run for run in candidates if not _is_norm(run.call.module)]
    for run in [*reversed(norms), *reversed(others)][:MAX_TRIALS]:
        if _reaches_logits(network, example, run):
            return run.call.name, ""
    name, shape = last.call.name, last.call.returned
    return None, f"its logits don't depend on the feature maps of its last layers (the last is {name!r}, {shape})"


def _reaches_logits(network: nn.Module, example: Tensor, run: _Run) -> bool:
    """Whether the logits depend on the feature map of a layer: whether NaN in its place reaches them."""
    layout = run.layout
    if layout is None:
        return False

    def spoil(_name: str, output: object) -> object:
        if not isinstance(output, Tensor):
            return output
        feature_map = layout.feature_map(output, example.shape)
        return layout.with_feature_map(output, torch.full_like(feature_map, torch.nan))

    with torch.no_grad(), on_layer_outputs({run.call.name: run.call.module}, spoil):
        logits = pass_images(network, example)
    return isinstance(logits, Tensor) and bool(logits.isnan().any())


def require_cam_layer(survey: LayerSurvey, name: str) -> str:
    """The CAM layer of ``survey``.

    Raises:
        InputError: the model called ``name`` has none; the reason is given.
    """
    if survey.cam_layer is None:
        raise InputError(f"model {name!r} has no default layer for Grad-CAM: {survey.reason}")
    return survey.cam_layer


def find_layer(network: nn.Module, name: str, described: str = "the model") -> nn.Module:
    """The module of ``network`` called ``name``, as in ``network.named_modules()``.

    Args:
        network: the module that has the layers.
        name: the layer's name, for instance "blocks.3".
        described: what the error calls the network.

    Raises:
        InputError: no layer has that name; near names and the outer layers are listed.
    """
    modules = dict(network.named_modules())
    if not name or name not in modules:
        names = [layer for layer in modules if layer]
        near = get_close_matches(name, names, n=3, cutoff=0.6)
        question = f"did you mean {', '.join(near)}? " if near else ""
        raise InputError(f"unknown layer {name!r}; {question}{described} has {_few_layers(names)}")
    return modules[name]


def _few_layers(names: list[str]) -> str:
    """The layers down to the depth at which :data:`MAX_LISTED` still suffice, and how many there are in all."""
    listed: list[str] = []
    for depth in range(max((name.count(".") for name in names), default=-1) + 1):
        outer = [name for name in names if name.count(".") <= depth]
        if listed and len(outer) > MAX_LISTED:
            break
        listed = outer
    shown = ", ".join(listed[:MAX_LISTED])
    if len(listed) == len(names):
        return f"the layers {shown}" if names else "no layers"
    return f"{len(names)} layers, among them {shown} (`ssimpert layers MODEL` lists all)"


def output_shapes(network: nn.Module, example: Tensor) -> dict[str, tuple[int, ...]]:
    """The shape, without the batch, of what every layer gives for ``example`` (1, 3, H, W), in order of completion.

    Layers that don't run, or that give no tensor, are missing; of a layer that runs several times it is the last shape.
    """
    return {run.call.name: tuple(run.output.shape[1:]) for run in _watch(network, example)}


def _watch(network: nn.Module, example: Tensor) -> list[_Run]:
    """Every run of every named module that gives a tensor, in order of completion."""
    runs: list[_Run] = []
    layers = observable_layers(network)

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor):
            call = LayerCall(name, layers[name], tuple(output.shape), describe_output(output))
            runs.append(_Run(call, output, output._version))

    with torch.no_grad(), on_layer_outputs(layers, note):
        pass_images(network, example)
    return runs


def _grid(output: Tensor, layout: MapLayout, example: Tensor) -> Grid:
    feature_map = layout.feature_map(output, example.shape)
    return feature_map.shape[-2], feature_map.shape[-1]


def _is_pooling(module: nn.Module) -> bool:
    # torch's classes, timm's SelectAdaptivePool2d and AvgPool2dSame, and AttentionPool2d all have "Pool" in their name.
    return "Pool" in type(module).__name__


def _inside_pools(network: nn.Module) -> tuple[str, ...]:
    """What the names of layers inside of pooling layers begin with."""
    return tuple(f"{name}." for name, module in network.named_modules() if name and _is_pooling(module))


def _is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__


def _first_token_layer(network: nn.Module, calls: list[LayerCall]) -> LayerCall | None:
    """The first trained leaf among ``calls`` that gives (B, N, C) or (B, H, W, C), without attention pooling."""
    pools = _inside_pools(network)
    for call in calls:
        leaf = next(call.module.children(), None) is None
        trained = next(call.module.parameters(recurse=False), None) is not None
        shape = call.shape or ()
        tokens = len(shape) == 3 or (len(shape) == 4 and shape[2] != shape[3])
        if leaf and trained and tokens and not call.name.startswith(pools):
            return call
    return None
