"""From a PyTorch model to a :class:`~ssimpert.verification.network.Network`, by torch.fx.

The model is traced, not run: every call in it becomes a step with a name. The steps are then taken one by one on the
values of one image in float64. A step that touches the image becomes a layer with a propagation rule
(:mod:`.layer_rules`). All other steps are computed at once, such as the sizes that a ``view`` needs. A step without a
rule is refused by its name, before any bound is computed.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from ssimpert.errors import InputError
from ssimpert.models import Classifier
from ssimpert.models.forward_passes import Model, describe_model, forward
from ssimpert.verification.layer_rules import NoRule, OfImage, Step, rule_of_function, rule_of_method, rule_of_module
from ssimpert.verification.network import IMAGE, Layer, Network
from ssimpert.verification.rules.scale_and_shift import ScaleAndShiftRule

# The network in float64 and the model in its own precision agree to this share of their largest logit. Single precision
# loses some 1e-5 in a deep network, and convolutions on a GPU in TF32 some 1e-3.
AGREEMENT = {torch.float32: 3e-3, torch.float64: 1e-9}
# What a traced model may ask of a value without computing with its numbers.
QUERIES = {"size", "dim", "numel", "ndimension"}
ATTRIBUTES = {"shape", "device", "dtype", "ndim"}


@dataclass(frozen=True)
class Traced:
    """The output of a layer while the steps are taken.

    Attributes:
        position: in the network.
        value: for the example image, (1, *shape) float64.
    """

    position: int
    value: Tensor


@dataclass
class Layers:
    """The layers so far."""

    entries: list[Layer] = field(default_factory=list)

    def append(self, name: str, step: Step, inputs: tuple[Traced, ...]) -> Traced:
        """The output of a further layer; its only input where the layer changes nothing."""
        if step.rule is None:
            return inputs[0]
        value = step.rule.value(*(entry.value for entry in inputs))
        positions = tuple(entry.position for entry in inputs)
        self.entries.append(Layer(name, step.rule, positions, tuple(value.shape[1:])))
        return Traced(len(self.entries), value)


def trace(model: Model, image: Tensor) -> Network:
    """The network of ``model``, for images of the shape of ``image`` (1, C, H, W).

    The model's parameters are copied to float64; the model does not change. A
    :class:`~ssimpert.Classifier` is traced behind its normalisation of pixels.

    Raises:
        InputError: the model is no module, torch.fx can't trace it, a step has no propagation rule, or the traced
            network does not give the model's logits.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{describe_model(model)} is a {type(model).__name__}; verify looks into the network and needs a "
            "torch.nn.Module"
        )
    pixels = image.to(torch.float64)
    layers = Layers()
    start, root = Traced(IMAGE, pixels), model
    if isinstance(model, Classifier):
        root = model.network
        std = model.std.to(torch.float64)
        rule = ScaleAndShiftRule(1 / std, -model.mean.to(torch.float64) / std)
        start = layers.append("normalisation", Step(rule), (start,))
    end = _take_steps(root, model, start, layers)
    if not isinstance(end, Traced):
        raise InputError(f"{describe_model(model)} returns {type(end).__name__}; verify needs logits (B, K)")
    if end.value.ndim != 2 or end.position != len(layers.entries):
        shape = tuple(end.value.shape)
        raise InputError(f"{describe_model(model)} must return logits (B, K), computed last; the trace gives {shape}")
    network = Network(tuple(image.shape[1:]), tuple(layers.entries))
    _check_agreement(model, image, end.value)
    return network


def _take_steps(root: nn.Module, model: Model, start: Traced, layers: Layers) -> Any:
    """The value that the traced ``root`` returns."""
    try:
        graph = fx.Tracer().trace(root)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{describe_model(model)} can't be traced by torch.fx: {reason}") from error
    values: dict[fx.Node, Any] = {}
    inputs = 0
    for node in graph.nodes:
        if node.op == "output":
            return fx.map_arg(node.args[0], lambda entry: values[entry])
        if node.op == "placeholder":
            inputs += 1
            values[node] = start if inputs == 1 else (node.args[0] if node.args else None)
            continue
        if node.op == "get_attr":
            values[node] = _attribute(root, node.target)
            continue
        args = fx.map_arg(node.args, lambda entry: values[entry])
        kwargs = fx.map_arg(node.kwargs, lambda entry: values[entry])
        try:
            values[node] = _take_step(root, node, args, kwargs, layers)
        except NoRule as refusal:
            raise InputError(f"{describe_model(model)}: {refusal}") from None
    raise InputError(f"{describe_model(model)} returns nothing; verify needs logits (B, K)")


def _take_step(root: nn.Module, node: fx.Node, args: Any, kwargs: Any, layers: Layers) -> Any:
    """The value of one step: of a layer, or of Python's own."""
    name = str(node.target) if node.op in ("call_module", "call_method") else node.name
    touched = _touched(args) + _touched(kwargs)
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        if not touched:
            raise NoRule(f"layer {name!r} ({type(module).__name__}) is called without the image")
        step = rule_of_module(module, name, touched[0].value)
        return layers.append(name, step, touched[:1])
    if not touched:
        return _computed(node, args, kwargs)
    if _is_query(node, args):
        return _computed(node, *fx.node.map_aggregate((args, kwargs), _value))
    values_args, values_kwargs = fx.node.map_aggregate((args, kwargs), _marked)
    if node.op == "call_method":
        step = rule_of_method(str(node.target), name, values_args, values_kwargs)
    else:
        step = rule_of_function(node.target, name, values_args, values_kwargs)
    return layers.append(name, step, touched)


def _touched(arguments: Any) -> tuple[Traced, ...]:
    """The layers' outputs among the arguments, in order."""
    found: list[Traced] = []
    fx.node.map_aggregate(arguments, lambda entry: found.append(entry) if isinstance(entry, Traced) else None)
    return tuple(found)


def _value(argument: Any) -> Any:
    return argument.value if isinstance(argument, Traced) else argument


def _marked(argument: Any) -> Any:
    return argument.value.as_subclass(OfImage) if isinstance(argument, Traced) else argument


def _is_query(node: fx.Node, args: Any) -> bool:
    """Whether the step asks for sizes and the like, and not for the numbers."""
    if node.op == "call_method":
        return str(node.target) in QUERIES
    return node.target is getattr and args[1] in ATTRIBUTES


def _computed(node: fx.Node, args: Any, kwargs: Any) -> Any:
    """The value of a step that is not the image's."""
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _attribute(root: nn.Module, target: Any) -> Any:
    """A parameter, a buffer or another attribute, floating-point tensors in float64."""
    value = operator.attrgetter(str(target))(root)
    if isinstance(value, Tensor):
        value = value.detach()
        return value.to(torch.float64) if value.is_floating_point() else value
    return value


def _check_agreement(model: Model, image: Tensor, logits: Tensor) -> None:
    """Raise :class:`InputError` unless the traced network gives the logits that the model gives."""
    answer = forward(model, image)
    expected = answer.to(torch.float64)
    if expected.shape != logits.shape:
        shapes = f"{tuple(logits.shape)} and {tuple(expected.shape)}"
        raise InputError(f"{describe_model(model)}: its trace and its forward pass give logits {shapes}")
    difference, size = float((expected - logits).abs().max()), float(expected.abs().max())
    if not difference <= AGREEMENT.get(answer.dtype, AGREEMENT[torch.float32]) * max(size, 1e-3):
        raise InputError(
            f"{describe_model(model)}: its trace and its forward pass differ by {difference:.3g} logits; hooks and "
            "steps outside of torch can't be verified"
        )
