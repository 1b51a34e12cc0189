"""Guided backpropagation and deconvolution: gradients that go back through each rectifier by another rule.

With R the signal that comes back to a rectifier and f the input of the rectifier, the signal that leaves it is

* gradient:                 1[f in the linear range] R,
* deconvolution:            ReLU(R)                       (Zeiler, Fergus, ECCV 2014),
* guided backpropagation:   1[f in the linear range] ReLU(R)  (Springenberg et al., ICLR workshop 2015).

The linear range is f > 0 for ReLU and 0 < f < 6 for ReLU6. The papers know ReLU alone, and for ReLU the maps are those
of captum's ``GuidedBackprop`` and ``Deconvolution``. Captum, however, changes only modules of type ``nn.ReLU``. Through
ReLU6 (efficientnet-lite, MobileNetV2) and through ``relu`` called as a function captum gives the plain gradient without
a word. Here the functions themselves are caught while the model runs, whoever calls them: modules, in place or not,
used once or many times, and plain functions. Max pooling sends the signal to the place of the maximum, as in the
papers.

Smooth and leaky activations (SiLU, GELU, ELU, leaky ReLU, ...) have no such rule: they are refused. Gates (sigmoid,
hard sigmoid, softmax) keep their gradient. A rectifier that is written as ``clamp(min=0)`` and a rectifier inside
TorchScript are not noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ssimpert.analysis.attributions.class_targets import class_targets
from ssimpert.analysis.attributions.gradients import input_gradient
from ssimpert.analysis.attributions.postprocessing import check_channels, min_max, reduce_channels
from ssimpert.errors import InputError
from ssimpert.models.entry_points import takes_model
from ssimpert.validation import check_images

_WITHOUT_A_RULE = {
    *("celu", "elu", "gelu", "glu", "hardswish", "hardshrink", "leaky_relu", "mish", "prelu", "rrelu", "selu"),
    *("silu", "softplus", "softshrink", "_threshold", "threshold"),
}


@takes_model
def guided_backprop(
    model: nn.Module, images: Tensor, target: int | Tensor, *, normalize: bool = True, channels: str = "max"
) -> Tensor:
    """Guided backpropagation of the target's logit: images (B, C, H, W) -> (B, H, W), detached.

    Args:
        model: images (B, C, H, W) -> logits (B, K), with ReLU or ReLU6 as its rectifiers.
        images: (B, C, H, W), float32 or float64, in the range that the model takes.
        target: the class that the map explains, one for all images or (B,) integers.
        normalize: True (default) min-max scales each map to [0, 1], and a constant map to zeros. False leaves the map
            in logits per unit of pixel.
        channels: how the channels become one map, a name in :data:`ssimpert.analysis.CHANNEL_REDUCTIONS`; default
            ``"max"``, the largest magnitude over the channels.

    Raises:
        InputError: a model without a ReLU, or with an activation that has no rule; a class that the model does not
            have.
    """
    return _map(model, images, target, normalize, channels, guided=True)


@takes_model
def deconvolution(
    model: nn.Module, images: Tensor, target: int | Tensor, *, normalize: bool = True, channels: str = "max"
) -> Tensor:
    """Deconvolution of the target's logit: images (B, C, H, W) -> (B, H, W), detached.

    Args:
        model, images, target, normalize, channels: as for :func:`guided_backprop`.

    Raises:
        InputError: as :func:`guided_backprop`.
    """
    return _map(model, images, target, normalize, channels, guided=False)


def rectified_gradient(model: nn.Module, images: Tensor, target: int | Tensor, *, guided: bool) -> Tensor:
    """The signal at the pixels, (B, C, H, W): of guided backpropagation, or of deconvolution where not ``guided``."""
    rule = _RectifiedBackward(guided)
    return input_gradient(model, images, class_targets(target, images), within=rule)


def _map(
    model: nn.Module, images: Tensor, target: int | Tensor, normalize: bool, channels: str, *, guided: bool
) -> Tensor:
    check_images("images", images)
    check_channels(channels)
    maps = reduce_channels(rectified_gradient(model, images, target, guided=guided), channels)
    return min_max(maps) if normalize else maps


class _RectifiedBackward(TorchFunctionMode):
    """While this mode is entered, the signal goes back through every ReLU and ReLU6 by the rule of the method."""

    def __init__(self, guided: bool) -> None:
        super().__init__()
        self.guided = guided
        self.rectifiers = 0

    def __enter__(self) -> _RectifiedBackward:
        self.rectifiers = 0
        super().__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if kind is None and not self.rectifiers:
            raise InputError(
                "guided backpropagation and deconvolution change the way back through ReLU, and the model has none; "
                "use the gradient"
            )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        plain = name.removesuffix("_")
        if plain in _WITHOUT_A_RULE:
            raise InputError(
                f"guided backpropagation and deconvolution are defined for ReLU and ReLU6; the model uses {plain}"
            )
        if plain == "relu":
            return self._rectified(*_input(*args, **kwargs), None, in_place=name == "relu_")
        if plain == "relu6":
            return self._rectified(*_input(*args, **kwargs), 6.0, in_place=False)
        if plain == "hardtanh":
            tensor, low, high, in_place = _hardtanh_arguments(*args, **kwargs)
            if low != 0:
                raise InputError(
                    "guided backpropagation and deconvolution are defined for ReLU and ReLU6; "
                    f"the model uses hardtanh from {low} to {high}"
                )
            return self._rectified(tensor, in_place, high, in_place=name == "hardtanh_")
        return func(*args, **kwargs)

    def _rectified(self, tensor: Tensor, inplace_argument: bool, upper: float | None, *, in_place: bool) -> Tensor:
        self.rectifiers += 1
        # The input is overwritten only afterwards: the caller may go on to use either tensor.
        output: Tensor = _Rectifier.apply(tensor, upper, self.guided)
        return tensor.copy_(output) if in_place or inplace_argument else output


def _input(input: Tensor, inplace: bool = False) -> tuple[Tensor, bool]:
    return input, inplace


def _hardtanh_arguments(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> tuple[Tensor, float, float, bool]:
    return input, min_val, max_val, inplace


class _Rectifier(torch.autograd.Function):
    """min(max(f, 0), upper). The signal back is clipped at 0 and, where guided, gated by the linear range of f."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, upper: float | None, guided: bool) -> Tensor:
        if guided:
            linear = tensor > 0 if upper is None else (tensor > 0) & (tensor < upper)
            ctx.save_for_backward(linear)
        return tensor.clamp(0, upper)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None, None]:
        positive = signals[0].clamp(min=0)
        if ctx.saved_tensors:
            positive = positive * ctx.saved_tensors[0]
        return positive, None, None
