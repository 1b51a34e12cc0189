"""Hooks on the layers of a network. Every hook that this package sets on a user's network is set here.

Three rules keep a hook from doing harm, and from being misled:

* A hook acts in the thread that set it, and in no other thread. Several threads may use one network at a time.
* What is kept of a layer is a copy. A later layer may write into the layer's output: an in-place ReLU, or the
  ``out += identity`` of a residual block.
* A hook is removed when the pass is over, also after an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.models.forward_passes import Model, outside_inference_mode, pass_images

OutputAction = Callable[[str, object], object]
"""Gets a layer's name and output at each run of the layer. What it returns replaces the output, unless ``None``."""


@contextmanager
def on_layer_outputs(layers: Mapping[str, nn.Module], action: OutputAction) -> Iterator[None]:
    """Call ``action`` at each run of ``layers`` in this thread, until the block is left.

    Args:
        layers: the watched modules by name.
        action: see :data:`OutputAction`. It may raise: the error leaves the network's forward pass.
    """
    thread = threading.get_ident()

    def hook_of(name: str) -> Callable[[nn.Module, object, object], object]:
        def hook(_module: nn.Module, _args: object, output: object) -> object:
            return action(name, output) if threading.get_ident() == thread else None

        return hook

    handles = []
    try:
        for name, module in layers.items():
            handles.append(module.register_forward_hook(hook_of(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def describe_output(output: object) -> str:
    """What errors say of a layer's output: "(2, 8, 7, 7)", or "a tuple of (2, 197, 192) and None"."""
    if isinstance(output, Tensor):
        return str(tuple(output.shape))
    if isinstance(output, tuple | list):
        parts = [describe_output(part) for part in output] or ["nothing"]
        return f"a {type(output).__name__} of {' and '.join(parts)}"
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with the keys {', '.join(repr(key) for key in output) or 'none'}"
    return "None" if output is None else f"a {type(output).__name__}"


@dataclass(frozen=True)
class LayerCall:
    """One run of one layer.

    Attributes:
        name: the layer's name.
        module: the layer.
        shape: of its output; ``None`` where the output is no single tensor.
        returned: what errors say of the output.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...] | None
    returned: str


def watch_layers(network: Model, layers: Mapping[str, nn.Module], images: Tensor) -> list[LayerCall]:
    """Every run of ``layers`` in one pass of ``images`` without gradients, in order of completion."""
    calls: list[LayerCall] = []
    with outside_inference_mode(), torch.no_grad(), on_layer_outputs(layers, note_calls(layers, calls)):
        pass_images(network, images)
    return calls


def note_calls(layers: Mapping[str, nn.Module], calls: list[LayerCall]) -> Callable[[str, object], None]:
    """An action for :func:`on_layer_outputs` that notes every run in ``calls``."""

    def note(name: str, output: object) -> None:
        shape = tuple(output.shape) if isinstance(output, Tensor) else None
        calls.append(LayerCall(name, layers[name], shape, describe_output(output)))

    return note


def several_runs(layer: str, owner: str, runs: int) -> InputError:
    """The error of a layer that runs several times, so that it is unclear which run is meant.

    Args:
        layer: the layer's name.
        owner: what errors call the model (:func:`~ssimpert.models.forward_passes.describe_model`).
        runs: how often the layer ran.
    """
    return InputError(f"layer {layer!r} runs {runs} times in one forward pass of {owner}; name a layer that runs once")


def no_run(layer: str, owner: str, network: nn.Module, module: nn.Module) -> InputError:
    """The error of a layer that did not run.

    Args:
        layer: the layer's name.
        owner: what errors call the model.
        network: the module whose forward pass did not run the layer.
        module: the layer.
    """
    for part in network.modules():
        if isinstance(part, torch.fx.GraphModule) and any(inner is module for inner in part.modules()):
            hint = f"a traced or exported module ({type(part).__name__}) may run without its layers"
            return InputError(f"layer {layer!r} does not run in the forward pass of {owner}; {hint}")
    return InputError(f"layer {layer!r} does not run in the forward pass of {owner}; name a layer that runs")


def observable_layers(network: nn.Module) -> dict[str, nn.Module]:
    """All modules of ``network`` by name that hooks can watch, without the network itself.

    Compiled code runs without the hooks of the modules that it was made of, or keeps hooks that were removed.
    """
    hidden = {module for part in network.modules() if _is_compiled(part) for module in part.modules()}
    return {name: module for name, module in network.named_modules() if name and module not in hidden}


def check_observable(layer: str, module: nn.Module, network: nn.Module, owner: str) -> None:
    """Raise :class:`InputError` if ``module`` lies in a compiled part of ``network``, where no hook can watch it.

    Args:
        layer: the layer's name.
        module: the layer.
        network: the module that runs the layer.
        owner: what errors call the model.
    """
    for name, part in network.named_modules():
        if _is_compiled(part) and any(inner is module for inner in part.modules()):
            where = f"part {name!r} of {owner}" if name else owner
            raise InputError(
                f"layer {layer!r} can't be observed: {where} is compiled ({type(part).__name__}) and runs without its "
                "layers; give the module that it was made of"
            )


def compiled_reason(network: nn.Module) -> str | None:
    """Why the layers of a compiled ``network`` can't be observed; ``None`` where no part of it is compiled."""
    for name, part in network.named_modules():
        if _is_compiled(part):
            where = f"its part {name!r}" if name else "the network"
            return f"{where} is compiled ({type(part).__name__}) and runs without its layers"
    return None


def _is_compiled(module: nn.Module) -> bool:
    """Whether torch.jit or torch.compile made ``module``, or its own ``compile`` was called."""
    # Asked by name: importing torch._dynamo, where the class is, takes two seconds.
    dynamo = type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None
    return dynamo or isinstance(module, torch.jit.ScriptModule)
