"""Which propagation rule a module, a function or a method of PyTorch has; everything else is refused by name."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssimpert.verification.rules.addition import AdditionRule
from ssimpert.verification.rules.average_pooling import AveragePoolingRule, adaptive_matrix, pooling_matrix
from ssimpert.verification.rules.base import Rule
from ssimpert.verification.rules.clipping import ClippingRule
from ssimpert.verification.rules.concatenation import ConcatenationRule
from ssimpert.verification.rules.convolution import ConvolutionRule
from ssimpert.verification.rules.leaky_relu import LeakyReLURule
from ssimpert.verification.rules.linear import LinearRule
from ssimpert.verification.rules.max_pooling import MaxPoolingRule
from ssimpert.verification.rules.reshaping import ReshapingRule
from ssimpert.verification.rules.scale_and_shift import ScaleAndShiftRule, batch_norm_rule

SUPPORTED = (
    "Conv2d, Linear, BatchNorm, ReLU, ReLU6, Hardtanh, LeakyReLU, average, max and adaptive average pooling, sums, "
    "differences, concatenation, flatten, a scale and a shift, dropout in evaluation mode"
)


class OfImage(Tensor):
    """The value of a layer's output among the arguments of a step, to tell it from constant tensors."""


class NoRule(Exception):
    """A step that has no propagation rule; the message names it."""


@dataclass(frozen=True)
class Step:
    """What a step of a model is.

    Attributes:
        rule: its propagation rule; ``None`` where the step changes nothing.
    """

    rule: Rule | None


IDENTITY = Step(None)


def no_rule(name: str, what: str, why: str = "") -> NoRule:
    """The refusal of the step ``name``."""
    reason = f": {why}" if why else f"; there are rules for {SUPPORTED}"
    return NoRule(f"layer {name!r} ({what}) has no propagation rule{reason}")


# -- modules ----------------------------------------------------------------------------------------------------


def rule_of_module(module: nn.Module, name: str, value: Tensor) -> Step:
    """The step that ``module`` is for an input like ``value`` (1, *shape).

    The class must be PyTorch's own: a subclass may compute something else.

    Raises:
        NoRule: the module has no rule.
    """
    kind = type(module)
    if kind in (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout):
        return IDENTITY  # the model is in evaluation mode
    if kind not in MODULE_RULES:
        raise no_rule(name, kind.__name__)
    return MODULE_RULES[kind](module, name, value)


def _conv2d(module: Any, name: str, value: Tensor) -> Step:
    if module.padding_mode != "zeros":
        raise no_rule(name, "Conv2d", f"padding_mode {module.padding_mode!r}; only 'zeros' has one")
    return _convolution(
        name, value, module.weight, module.bias, module.stride, module.padding, module.dilation, module.groups
    )


def _linear_module(module: Any, name: str, value: Tensor) -> Step:
    return _linear(name, value, module.weight, module.bias)


def _batch_norm_module(module: Any, name: str, value: Tensor) -> Step:
    return _batch_norm(name, value, module.running_mean, module.running_var, module.weight, module.bias, module.eps)


def _avg_pool_module(module: Any, name: str, value: Tensor) -> Step:
    return _avg_pool2d(
        value,
        module.kernel_size,
        module.stride,
        module.padding,
        module.ceil_mode,
        module.count_include_pad,
        module.divisor_override,
    )


def _max_pool_module(module: Any, name: str, value: Tensor) -> Step:
    if module.return_indices:
        raise no_rule(name, "MaxPool2d", "return_indices is on")
    return _max_pool2d(
        value, module.kernel_size, module.stride, module.padding, module.dilation, ceil_mode=module.ceil_mode
    )


def _leaky_relu_module(module: Any, name: str, value: Tensor) -> Step:
    return _leaky_relu(name, module.negative_slope)


ModuleRule = Callable[[Any, str, Tensor], Step]

MODULE_RULES: dict[type[nn.Module], ModuleRule] = {
    nn.Conv2d: _conv2d,
    nn.Linear: _linear_module,
    nn.BatchNorm1d: _batch_norm_module,
    nn.BatchNorm2d: _batch_norm_module,
    nn.ReLU: lambda module, name, value: Step(LeakyReLURule()),
    nn.ReLU6: lambda module, name, value: Step(ClippingRule(0.0, 6.0)),
    nn.Hardtanh: lambda module, name, value: _hardtanh(value, module.min_val, module.max_val),
    nn.LeakyReLU: _leaky_relu_module,
    nn.AvgPool2d: _avg_pool_module,
    nn.MaxPool2d: _max_pool_module,
    nn.AdaptiveAvgPool2d: lambda module, name, value: _adaptive_avg_pool2d(value, module.output_size),
    nn.Flatten: lambda module, name, value: _flatten(name, value, module.start_dim, module.end_dim),
}


# -- functions and methods --------------------------------------------------------------------------------------


def rule_of_function(function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    """The step that a call of ``function`` is; the image's values among its arguments are marked by their class.

    Raises:
        NoRule: the function has no rule.
    """
    what = getattr(function, "__name__", str(function))
    rule = FUNCTION_RULES.get(function)
    if rule is None:
        raise no_rule(name, what)
    return _called(rule, name, what, args, kwargs)


def rule_of_method(method: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    """The step that a call of a tensor's method is; the arguments as for :func:`rule_of_function`.

    Raises:
        NoRule: the method has no rule.
    """
    rule = METHOD_RULES.get(method)
    if rule is None:
        raise no_rule(name, f"Tensor.{method}")
    return _called(rule, name, f"Tensor.{method}", args, kwargs)


def _called(rule: Callable[..., Step], name: str, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    try:
        return rule(name, *args, **kwargs)
    except TypeError as error:
        raise no_rule(name, what, f"these arguments are not supported ({error})") from error


def _of_image(value: Any) -> bool:
    return isinstance(value, OfImage)


def _require_image(name: str, what: str, value: Any, *constants: Any) -> None:
    """Refuse a step whose first argument is not the image's, or whose other arguments are."""
    if not _of_image(value) or any(_of_image(constant) for constant in constants):
        raise no_rule(name, what, "weights that are computed from the image")


def _function_conv2d(
    name: str,
    value: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Step:
    _require_image(name, "conv2d", value, weight, bias)
    return _convolution(name, value, weight, bias, stride, padding, dilation, groups)


def _function_linear(name: str, value: Any, weight: Tensor, bias: Tensor | None = None) -> Step:
    _require_image(name, "linear", value, weight, bias)
    return _linear(name, value, weight, bias)


def _function_batch_norm(
    name: str,
    value: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Step:
    _require_image(name, "batch_norm", value, weight, bias)
    if training:
        raise no_rule(name, "batch_norm", "it takes its statistics from the images")
    return _batch_norm(name, value, running_mean, running_var, weight, bias, eps)


def _function_avg_pool2d(
    name: str,
    value: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Step:
    return _avg_pool2d(value, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _function_max_pool2d(
    name: str,
    value: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Step:
    if return_indices:
        raise no_rule(name, "max_pool2d", "return_indices is on")
    return _max_pool2d(value, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)


def _function_dropout(name: str, value: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Step:
    if training:
        raise no_rule(name, "dropout", "it is on; pass training=self.training")
    return IDENTITY


def _concatenated(name: str, tensors: Any, dim: int = 0) -> Step:
    if not all(_of_image(tensor) for tensor in tensors):
        raise no_rule(name, "cat", "one of the tensors is a constant")
    axis = dim % tensors[0].ndim
    if axis == 0:
        raise no_rule(name, "cat", "it joins along the batch")
    return Step(ConcatenationRule(axis, tuple(tensor.shape[axis] for tensor in tensors)))


def _added(name: str, first: Any, second: Any, alpha: float = 1.0) -> Step:
    if _of_image(first) and _of_image(second):
        if first.shape != second.shape:
            raise no_rule(name, "add", f"shapes {tuple(first.shape)} and {tuple(second.shape)} differ")
        return Step(AdditionRule(float(alpha)))
    if _of_image(first):
        return _scaled_and_shifted(name, first, 1.0, _times(second, alpha))
    return _scaled_and_shifted(name, second, alpha, first)


def _subtracted(name: str, first: Any, second: Any, alpha: float = 1.0) -> Step:
    return _added(name, first, second, -alpha)


def _multiplied(name: str, first: Any, second: Any) -> Step:
    if _of_image(first) and _of_image(second):
        raise no_rule(name, "mul", "both factors are computed from the image")
    value, factor = (first, second) if _of_image(first) else (second, first)
    return _scaled_and_shifted(name, value, factor, 0.0)


def _divided(name: str, first: Any, second: Any) -> Step:
    if _of_image(second):
        raise no_rule(name, "div", "the divisor is computed from the image")
    return _scaled_and_shifted(name, first, 1 / second, 0.0)


def _negated(name: str, value: Any) -> Step:
    return _scaled_and_shifted(name, value, -1.0, 0.0)


def _reshaped(name: str, value: Any, *shape: Any) -> Step:
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list, torch.Size)) else shape
    result = torch.Tensor.reshape(value.as_subclass(Tensor), tuple(int(size) for size in sizes))
    return _reshaping(name, value, tuple(result.shape))


def _function_flatten(name: str, value: Any, start_dim: int = 0, end_dim: int = -1) -> Step:
    return _flatten(name, value, start_dim, end_dim)


def _mean(name: str, value: Any, dim: Any = None, keepdim: bool = False) -> Step:
    if isinstance(dim, int):
        axes = {dim % value.ndim}
    else:
        axes = {axis % value.ndim for axis in dim} if dim is not None else set()
    if value.ndim != 4 or axes != {2, 3} or not keepdim:
        raise no_rule(name, "mean", "only the mean over both axes of the image with keepdim=True has one")
    return _adaptive_avg_pool2d(value, 1)


def _unchanged(name: str, value: Any, *args: Any, **kwargs: Any) -> Step:
    return IDENTITY


def _relu(name: str, value: Any, inplace: bool = False) -> Step:
    return Step(LeakyReLURule())


FUNCTION_RULES: dict[Any, Callable[..., Step]] = {
    functional.conv2d: _function_conv2d,
    torch.conv2d: _function_conv2d,
    functional.linear: _function_linear,
    functional.batch_norm: _function_batch_norm,
    functional.relu: _relu,
    torch.relu: _relu,
    torch.relu_: _relu,
    functional.relu6: lambda name, value, inplace=False: Step(ClippingRule(0.0, 6.0)),
    functional.hardtanh: lambda name, value, min_val=-1.0, max_val=1.0, inplace=False: _hardtanh(
        value, min_val, max_val
    ),
    functional.leaky_relu: lambda name, value, negative_slope=0.01, inplace=False: _leaky_relu(name, negative_slope),
    functional.avg_pool2d: _function_avg_pool2d,
    functional.max_pool2d: _function_max_pool2d,
    torch.max_pool2d: _function_max_pool2d,
    functional.adaptive_avg_pool2d: lambda name, value, output_size: _adaptive_avg_pool2d(value, output_size),
    functional.dropout: _function_dropout,
    functional.dropout2d: _function_dropout,
    torch.flatten: _function_flatten,
    torch.reshape: _reshaped,
    torch.cat: _concatenated,
    torch.concat: _concatenated,
    torch.mean: _mean,
    operator.add: _added,
    operator.iadd: _added,
    torch.add: _added,
    operator.sub: _subtracted,
    torch.sub: _subtracted,
    operator.mul: _multiplied,
    operator.imul: _multiplied,
    torch.mul: _multiplied,
    operator.truediv: _divided,
    torch.div: _divided,
    operator.neg: _negated,
    torch.neg: _negated,
}

METHOD_RULES: dict[str, Callable[..., Step]] = {
    "relu": _relu,
    "relu_": _relu,
    "flatten": _function_flatten,
    "view": _reshaped,
    "reshape": _reshaped,
    "add": _added,
    "add_": _added,
    "sub": _subtracted,
    "sub_": _subtracted,
    "mul": _multiplied,
    "mul_": _multiplied,
    "div": _divided,
    "div_": _divided,
    "neg": _negated,
    "mean": _mean,
    "contiguous": _unchanged,
    "to": _unchanged,
    "float": _unchanged,
    "double": _unchanged,
    "clone": _unchanged,
}


# -- what modules and functions share ---------------------------------------------------------------------------


def _convolution(
    name: str,
    value: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Step:
    dilation = _pair(dilation)
    if padding == "same":
        spans = [dilation[axis] * (weight.shape[2 + axis] - 1) for axis in (0, 1)]
        if any(span % 2 for span in spans):
            raise no_rule(name, "Conv2d", "padding='same' with an even kernel pads one side more than the other")
        padding = (spans[0] // 2, spans[1] // 2)
    elif padding == "valid":
        padding = 0
    rule = ConvolutionRule(
        weight=_double(weight),
        bias=None if bias is None else _double(bias),
        stride=_pair(stride),
        padding=_pair(padding),
        dilation=dilation,
        groups=int(groups),
        input_size=(value.shape[2], value.shape[3]),
    )
    return Step(rule)


def _linear(name: str, value: Tensor, weight: Tensor, bias: Tensor | None) -> Step:
    if value.ndim != 2:
        raise no_rule(name, "Linear", f"its input has shape {tuple(value.shape)}; only (B, F) has one")
    return Step(LinearRule(_double(weight), None if bias is None else _double(bias)))


def _batch_norm(
    name: str,
    value: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Step:
    if mean is None or variance is None:
        raise no_rule(name, "BatchNorm", "without running statistics it takes them from the images")
    parts = [None if part is None else _double(part) for part in (weight, bias)]
    return Step(batch_norm_rule(_double(mean), _double(variance), parts[0], parts[1], eps, value.ndim))


def _leaky_relu(name: str, negative_slope: float) -> Step:
    if not 0 <= negative_slope <= 1:
        raise no_rule(name, "LeakyReLU", f"negative_slope {negative_slope:g}; it must lie in [0, 1]")
    return Step(LeakyReLURule(float(negative_slope)))


def _hardtanh(value: Tensor, smallest: float, largest: float) -> Step:
    return Step(ClippingRule(float(smallest), float(largest)))


def _avg_pool2d(
    value: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Step:
    kernel, padding = _pair(kernel_size), _pair(padding)
    stride = kernel if stride is None else _pair(stride)
    value = value.as_subclass(Tensor)
    result = functional.avg_pool2d(value, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)
    matrices = []
    for axis in (0, 1):
        size, outputs = value.shape[2 + axis], result.shape[2 + axis]
        matrix = pooling_matrix(
            size, outputs, kernel[axis], stride[axis], padding[axis], count_padding=bool(count_include_pad)
        )
        if divisor_override:
            matrix = (matrix > 0).to(matrix) / (divisor_override if axis else 1)
        matrices.append(matrix.to(value.device))
    return Step(AveragePoolingRule(*matrices))


def _adaptive_avg_pool2d(value: Tensor, output_size: Any) -> Step:
    sizes = _pair(output_size)
    matrices = [
        adaptive_matrix(value.shape[2 + axis], value.shape[2 + axis] if size is None else int(size)).to(value.device)
        for axis, size in enumerate(sizes)
    ]
    return Step(AveragePoolingRule(*matrices))


def _max_pool2d(value: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, *, ceil_mode: bool) -> Step:
    kernel = _pair(kernel_size)
    stride = kernel if stride is None else _pair(stride)
    return Step(MaxPoolingRule(kernel, stride, _pair(padding), _pair(dilation), bool(ceil_mode)))


def _flatten(name: str, value: Tensor, start_dim: int, end_dim: int) -> Step:
    result = torch.flatten(value.as_subclass(Tensor), start_dim, end_dim)
    return _reshaping(name, value, tuple(result.shape))


def _reshaping(name: str, value: Tensor, shape: tuple[int, ...]) -> Step:
    if not shape or shape[0] != 1:
        raise no_rule(name, "reshape", f"{tuple(value.shape)} to {shape} does not keep the batch")
    if shape == tuple(value.shape):
        return IDENTITY
    return Step(ReshapingRule(tuple(value.shape[1:]), shape[1:]))


def _scaled_and_shifted(name: str, value: Tensor, scale: Any, shift: Any) -> Step:
    """A scale and a shift by numbers or by constant tensors that do not enlarge the value."""
    parts = []
    for part in (scale, shift):
        tensor = torch.as_tensor(part, dtype=torch.float64, device=value.device)
        if tuple(torch.broadcast_shapes(tensor.shape, value.shape)) != tuple(value.shape):
            raise no_rule(name, "broadcast", f"{tuple(tensor.shape)} enlarges {tuple(value.shape)}")
        parts.append(tensor.reshape(*[1] * (value.ndim - tensor.ndim), *tensor.shape))
    return Step(ScaleAndShiftRule(*parts))


def _times(value: Any, factor: float) -> Any:
    return value if factor == 1 else factor * value


def _double(tensor: Tensor) -> Tensor:
    """The parameter in float64 without a graph; conversion from lower precision is exact."""
    return tensor.detach().to(torch.float64)


def _pair(value: Any) -> tuple[Any, Any]:
    """A size a side."""
    return (value[0], value[-1]) if isinstance(value, (tuple, list)) else (value, value)
