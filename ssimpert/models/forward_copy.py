"""A copy of a classifier for many forward passes on the CPU: batch norms folded into the convolutions before them.

In evaluation mode a batch norm multiplies each channel by one constant and adds another. The weights of the
convolution before the norm can do the same. docs/notes/forward-copies.md tells what this saves and what else was tried.

One forward pass of the model shows which norm follows which convolution; names are not used to guess. Every later pass
of the copy checks that the order is still the same. The copy's logits then differ from the model's by rounding alone.
There is one exception: another layer may read the convolution's output without any effect on the example's logits.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from ssimpert.models.forward_passes import Model, call_model

LEAST_IMAGES = 16
"""Making and checking a copy costs about as much as it saves in 8 images (efficientnet-lite0, 224 pixels)."""

MAX_ROUNDINGS_APART = 64
"""How far a copy's logits may be from the model's, in roundings of the largest logit."""


class _NotAsObserved(Exception):
    """A pass took another way through the network than the pass that decided which batch norms to fold."""


def forward_copy(model: Model, example: Tensor, count: int) -> Model:
    """A copy of ``model`` that gives the same logits faster, without gradients; or ``model`` where no copy is safe.

    The model itself is returned in these cases: it is on another device than the CPU, there are fewer than
    :data:`LEAST_IMAGES` images, it is in training mode, it has forward hooks (which must act), it has no float32 batch
    norm directly after a convolution, the copy fails, or the copy's logits of ``example`` are not the model's. If the
    copy fails in a later pass, or takes another way through the network, the model repeats this pass and does all
    passes that follow.

    The copy has the weights that the model has now: make it just before the passes, and drop it after them. The copy
    shares everything but the folded weights with the model. What a custom ``forward`` assigns to ``self`` stays with
    the copy.

    Args:
        model: images (B, C, H, W) -> logits (B, K). A model that is no module, such as an
            :class:`~ssimpert.models.onnx_classifier.OnnxClassifier`, is returned unchanged.
        example: (1, C, H, W), an image on the model's device, which is passed twice.
        count: how many images will be passed.

    Returns:
        ``model``, the same object, or a function of images (B, C, H, W).
    """
    if count < LEAST_IMAGES or example.device.type != "cpu":
        return model
    if not isinstance(model, nn.Module) or not _may_be_copied(model):
        return model
    try:
        # The random state is restored: a model that draws random numbers must draw the same ones later.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            # The example is the caller's, and the network may write into what it gets.
            folded = _folded(model, example.clone())
            usable = folded is not None and (
                roundings_apart(folded[1](example.clone()), folded[0]) <= MAX_ROUNDINGS_APART
            )
    except Exception:
        # A custom network may do anything. If it fails without the copy too, it fails in its caller's pass.
        return model
    if folded is None or not usable:
        return model
    copy: Model | None = folded[1]

    def logits_of(images: Tensor) -> Tensor:
        nonlocal copy
        if copy is not None:
            try:
                with torch.no_grad():
                    return call_model(copy, images)
            except Exception:
                copy = None
        return call_model(model, images)

    return logits_of


def roundings_apart(logits: Tensor, expected: Tensor) -> float:
    """How far ``logits`` are from those expected, in roundings (the type's epsilon) of the largest expected logit.

    The result is infinity where shapes or types differ, and NaN, which is below no bound, where either has a NaN.
    """
    if not isinstance(expected, Tensor) or logits.shape != expected.shape or logits.dtype != expected.dtype:
        return math.inf
    difference = (logits - expected).abs().max()
    rounding = torch.finfo(expected.dtype).eps * expected.abs().max()
    return 0.0 if difference == 0 else float(difference / rounding)


def has_forward_hooks(model: nn.Module) -> bool:
    """Whether ``model`` has forward hooks. Hooks must act in every pass, so no copy may do the pass instead."""
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return hooked or bool(torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks)


def _may_be_copied(model: nn.Module) -> bool:
    modules = list(model.modules())
    evaluating = not any(module.training for module in modules)
    return evaluating and not has_forward_hooks(model) and any(isinstance(module, nn.BatchNorm2d) for module in modules)


def _folded(model: nn.Module, example: Tensor) -> tuple[Tensor, Model] | None:
    """The model's logits of ``example`` and its copy; ``None`` where no batch norm can be folded."""
    network = _replica(model, {})
    logits, pairs = _observed_pairs(network, example)
    if not pairs:
        return None
    waiting = [_fold(conv, norm) for conv, norm in pairs]
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and isinstance(module._parameters.get("weight"), Tensor):
            _set_tensor(module, "weight", module.weight.contiguous(memory_format=torch.channels_last))

    def logits_of(images: Tensor) -> Tensor:
        # The first convolution changes to channels last by itself. Before it, the mean and std are faster as they are.
        result: Tensor = network(images)
        if any(waiting):
            raise _NotAsObserved
        return result

    return logits, logits_of


def _replica(module: nn.Module, replicas: dict[nn.Module, nn.Module]) -> nn.Module:
    """A copy of ``module`` and of its submodules that shares their tensors and all other attributes."""
    if module not in replicas:
        replica = replicas[module] = module.__new__(type(module))
        children = module._modules.items()
        replica.__dict__.update(
            module.__dict__,
            _parameters=module._parameters.copy(),
            _buffers=module._buffers.copy(),
            _modules={name: None if child is None else _replica(child, replicas) for name, child in children},
            _forward_hooks=OrderedDict(),
        )
    return replicas[module]


def _observed_pairs(network: nn.Module, example: Tensor) -> tuple[Tensor, list[tuple[nn.Conv2d, nn.BatchNorm2d]]]:
    """Logits of ``example``, and each pair of a convolution and the batch norm that read its output; both ran once."""
    runs: dict[nn.Module, int] = {}
    outputs: dict[int, tuple[ref[Tensor], nn.Conv2d]] = {}
    pairs = []

    def note(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        runs[module] = runs.get(module, 0) + 1
        if isinstance(module, nn.Conv2d) and isinstance(output, Tensor):
            outputs[id(output)] = ref(output), module
        elif isinstance(module, nn.BatchNorm2d) and inputs:
            # The reference tells the convolution's output from a later tensor that has the same id.
            output_of, conv = outputs.get(id(inputs[0]), (None, None))
            if conv is not None and output_of is not None and output_of() is inputs[0] and _can_fold(conv, module):
                pairs.append((conv, module))

    handles = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    logits = network(example)
    for handle in handles:
        handle.remove()
    return logits, [pair for pair in pairs if all(runs[module] == 1 for module in pair)]


def _can_fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    tensors = (conv._parameters.get("weight"), norm.running_mean, norm.running_var)
    return all(isinstance(tensor, Tensor) and tensor.dtype == torch.float32 for tensor in tensors) and (
        type(norm) is nn.BatchNorm2d or _activates(norm)
    )


def _activates(norm: nn.BatchNorm2d) -> bool:
    """Whether ``norm`` is timm's batch norm that contains an activation. Its name decides: timm need not be loaded."""
    kind = type(norm)
    return kind.__module__.startswith("timm.") and kind.__name__ == "BatchNormAct2d"


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> list[Tensor]:
    """Let ``conv`` do what ``norm`` did. ``norm`` then does its activation only, on that convolution's output alone.

    Returns:
        The list where the output waits for the norm. It is empty after every pass that went as observed.
    """
    _scale(conv, norm)
    activation = _activation_of(norm)
    waiting: list[Tensor] = []

    def arrive(_conv: nn.Module, _inputs: object, output: Tensor) -> None:
        if waiting:
            raise _NotAsObserved
        waiting.append(output)

    def follow(images: Tensor) -> Tensor:
        if not waiting or waiting.pop() is not images:
            raise _NotAsObserved
        activated: Tensor = activation(images)
        return activated

    conv.register_forward_hook(arrive)
    norm.__dict__["forward"] = follow
    return waiting


def _scale(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Change weight and bias of ``conv`` so that its output is what ``norm`` has made of the output before."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None, "a norm without statistics is not folded"
    assert variance is not None, "a norm without statistics is not folded"
    scale = (variance.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -mean * scale if conv.bias is None else (conv.bias - mean) * scale
    shift = shift if norm.bias is None else shift + norm.bias
    _set_tensor(conv, "weight", conv.weight * scale.to(conv.weight.dtype)[:, None, None, None])
    _set_tensor(conv, "bias", shift.to(conv.weight.dtype))


def _activation_of(norm: nn.BatchNorm2d) -> nn.Module:
    """What ``norm`` does after it has normalised."""
    drop, activation = norm._modules.get("drop"), norm._modules.get("act")
    if not _activates(norm) or drop is None or activation is None:
        return nn.Identity()
    activation = _replica(activation, {})
    if activation.__dict__.get("inplace") is False:
        activation.__dict__["inplace"] = True  # nothing else reads the convolution's output
    return nn.Sequential(drop, activation)


def _set_tensor(module: nn.Module, name: str, tensor: Tensor) -> None:
    module._parameters[name] = nn.Parameter(tensor.detach(), requires_grad=False)
