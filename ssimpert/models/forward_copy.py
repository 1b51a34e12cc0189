"""A copy of a classifier for many forward passes on the CPU: batch norms folded into the convolutions before them.

In evaluation mode a batch norm multiplies each channel by a constant and adds another, which the weights of the
convolution before it can do. What that saves, and what else was tried: docs/notes/forward-copies.md.

Which norm follows which convolution is seen in one forward pass of the model, not guessed from names, and every later
pass of the copy checks that it is still so. Logits of the copy then differ from the model's by rounding alone, unless
something besides the norm reads the convolution's output without any effect on the example image's logits.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

Forward = Callable[[Tensor], Tensor]

LEAST_IMAGES = 16
"""Making and checking a copy costs about as much as it saves in 8 images (efficientnet-lite0, 224 pixels)."""

AGREEMENT = 64
"""How far a copy's logits may be from the model's: so many roundings of the largest logit."""


class _NotAsObserved(Exception):
    """A pass took another way through the network than the pass by which batch norms were folded."""


def forward_copy(model: Forward, example: Tensor, count: int) -> Forward:
    """``model``, or a copy that gives its logits faster, and without gradients, where that is safe.

    The model itself stays on any device but the CPU, for fewer than :data:`LEAST_IMAGES` images, in training mode, with
    forward hooks, which must act, without float32 batch norms right behind convolutions, and where the copy fails or
    its logits of ``example`` are not the model's. A later pass in which the copy fails, or takes another way through
    the network, is repeated by the model, which then does all that follow.

    The copy has the weights of now: make it where the passes begin, and let it go after them. It shares everything but
    the folded weights with the model. What a ``forward`` of one's own assigns to ``self`` stays with the copy.

    Args:
        model: images (B, C, H, W) -> logits (B, K); what is no module, as an
            :class:`~ssimpert.models.onnx_classifier.OnnxClassifier`, stays itself, too.
        example: (1, C, H, W), an image on the model's device; two passes see it.
        count: how many images will be passed.

    Returns:
        ``model``, the same object, or a function of images (B, C, H, W).
    """
    if count < LEAST_IMAGES or example.device.type != "cpu":
        return model
    if not isinstance(model, nn.Module) or not _may_be_copied(model):
        return model
    try:
        # A model that draws random numbers must not draw others because of the passes here.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            folded = _folded(model, example)
            usable = folded is not None and roundings_apart(folded[1](example), folded[0]) <= AGREEMENT
    except Exception:
        # Networks of one's own may do anything; one that fails without this copy, too, fails in its caller's pass.
        return model
    if folded is None or not usable:
        return model
    copy: Forward | None = folded[1]

    def logits_of(images: Tensor) -> Tensor:
        nonlocal copy
        if copy is not None:
            try:
                with torch.no_grad():
                    return copy(images)
            except Exception:
                copy = None
        logits: Tensor = model(images)
        return logits

    return logits_of


def roundings_apart(found: Tensor, expected: Tensor) -> float:
    """How far logits are from those expected, in roundings (the type's epsilon) of the largest one expected.

    Infinity where they are of another shape or type, NaN, which no bound holds, where either has one.
    """
    if not isinstance(expected, Tensor) or found.shape != expected.shape or found.dtype != expected.dtype:
        return math.inf
    difference = (found - expected).abs().max()
    rounding = torch.finfo(expected.dtype).eps * expected.abs().max()
    return 0.0 if difference == 0 else float(difference / rounding)


def has_forward_hooks(model: nn.Module) -> bool:
    """Whether something is to act at every pass, so that a copy may not do the pass instead."""
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return hooked or bool(torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks)


def _may_be_copied(model: nn.Module) -> bool:
    modules = list(model.modules())
    settled = not any(module.training for module in modules)
    return settled and not has_forward_hooks(model) and any(isinstance(module, nn.BatchNorm2d) for module in modules)


def _folded(model: nn.Module, example: Tensor) -> tuple[Tensor, Forward] | None:
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
        # The first convolution turns to channels last by itself, after the mean and std, which are faster before.
        found: Tensor = network(images)
        if any(waiting):
            raise _NotAsObserved
        return found

    return logits, logits_of


def _replica(module: nn.Module, replicas: dict[nn.Module, nn.Module]) -> nn.Module:
    """``module`` with submodules of its own, sharing tensors and whatever else its attributes hold."""
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
    """Logits of ``example``, and each convolution whose output went into a batch norm, both run once."""
    runs: dict[nn.Module, int] = {}
    outputs: dict[int, tuple[ref[Tensor], nn.Conv2d]] = {}
    pairs = []

    def note(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        runs[module] = runs.get(module, 0) + 1
        if isinstance(module, nn.Conv2d) and isinstance(output, Tensor):
            outputs[id(output)] = ref(output), module
        elif isinstance(module, nn.BatchNorm2d) and inputs:
            # The reference tells the convolution's output from a later tensor at the same place.
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
    """Whether it is timm's batch norm with its activation inside. By name, since a model need not be timm's."""
    kind = type(norm)
    return kind.__module__.startswith("timm.") and kind.__name__ == "BatchNormAct2d"


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> list[Tensor]:
    """Let ``conv`` do what ``norm`` did, and ``norm`` only what follows, on that convolution's output alone.

    Returns:
        Where that output waits for the norm; empty after every pass that went as observed.
    """
    _scale(conv, norm)
    rest = _after(norm)
    waiting: list[Tensor] = []

    def arrive(_conv: nn.Module, _inputs: object, output: Tensor) -> None:
        if waiting:
            raise _NotAsObserved
        waiting.append(output)

    def follow(images: Tensor) -> Tensor:
        if not waiting or waiting.pop() is not images:
            raise _NotAsObserved
        activated: Tensor = rest(images)
        return activated

    conv.register_forward_hook(arrive)
    norm.__dict__["forward"] = follow
    return waiting


def _scale(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Give ``conv`` the weight and bias with which its output is what ``norm`` makes of it now."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None, "a norm without statistics is not folded"
    assert variance is not None, "a norm without statistics is not folded"
    scale = (variance.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -mean * scale if conv.bias is None else (conv.bias - mean) * scale
    shift = shift if norm.bias is None else shift + norm.bias
    _set_tensor(conv, "weight", conv.weight * scale.to(conv.weight.dtype)[:, None, None, None])
    _set_tensor(conv, "bias", shift.to(conv.weight.dtype))


def _after(norm: nn.BatchNorm2d) -> nn.Module:
    """What ``norm`` does once it has normalised."""
    drop, activation = norm._modules.get("drop"), norm._modules.get("act")
    if not _activates(norm) or drop is None or activation is None:
        return nn.Identity()
    activation = _replica(activation, {})
    if activation.__dict__.get("inplace") is False:
        activation.__dict__["inplace"] = True  # the convolution's output is nobody else's
    return nn.Sequential(drop, activation)


def _set_tensor(module: nn.Module, name: str, tensor: Tensor) -> None:
    module._parameters[name] = nn.Parameter(tensor.detach(), requires_grad=False)
