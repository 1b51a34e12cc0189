"""The activations of a layer, and the gradient of a class's logit with respect to these activations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.class_targets import class_targets, target_logit
from ssimpert.errors import InputError
from ssimpert.models.forward_passes import batch_size_for, in_chunks


@dataclass(frozen=True, eq=False)
class LayerGradients:
    """The two parts of every class activation map, detached.

    Attributes:
        activation: (B, K, h, w), the output A of the layer.
        gradient: (B, K, h, w), d logit / d A for the class of each image.
    """

    activation: Tensor
    gradient: Tensor


def layer_gradients(
    model: nn.Module, images: Tensor, target: int | Tensor, layer: str | nn.Module | None = None
) -> LayerGradients:
    """The activations and gradients of a layer for images (B, C, H, W); a few images go through the model at a time.

    The next layer gets a clone of the layer's output, so that an in-place activation changes neither result. The
    function works under ``torch.no_grad`` and ``torch.inference_mode`` and leaves no hook behind. Neither parameters
    nor ``images`` collect gradients. ``layer``: a module of the model, its name, or ``None`` (default) for
    ``model.cam_layer``.

    Raises:
        InputError: an unknown layer; a layer that does not run, that runs more than once, that has no feature maps (B,
            K, h, w), or that does not lead to the logits; a class that the model does not have.
    """
    module = module_of_layer(model, layer)
    name = layer_name(layer, module)
    targets = class_targets(target, images)
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> object:
        if not isinstance(output, Tensor) or output.ndim != 4:
            got = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
            raise InputError(f"layer {name!r} has no feature maps (B, K, h, w); its output is {got}")
        outputs.append(output)
        return output.clone()

    def outputs_and_gradients(batch: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        outputs.clear()
        # The inputs require gradients, because a graph is needed even where all parameters are frozen. The clone keeps
        # the graph off the caller's tensor.
        logit = target_logit(model, batch.detach().clone().requires_grad_(), classes)
        if not outputs:
            raise InputError(f"layer {name!r} does not run in the model's forward pass")
        if len(outputs) > 1:
            raise runs_often(name, len(outputs))
        leads_on = outputs[0].requires_grad and logit.requires_grad
        gradient = torch.autograd.grad(logit.sum(), outputs[0], allow_unused=True)[0] if leads_on else None
        if gradient is None:
            raise leads_nowhere(name)
        return outputs[0].detach(), gradient

    handle = module.register_forward_hook(keep)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            return LayerGradients(
                *in_chunks(outputs_and_gradients, images, targets, chunk=batch_size_for(None, images))
            )
    finally:
        handle.remove()
        outputs.clear()


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


def runs_often(name: str, runs: int) -> InputError:
    """The error of a layer that runs several times, so that it is unclear which run is meant."""
    return InputError(f"layer {name!r} runs {runs} times in one forward pass; name one that runs once")


def leads_nowhere(name: str) -> InputError:
    """The error of a layer on which the logits do not depend."""
    return InputError(f"the logits do not depend on layer {name!r}; name a layer that leads to them")
