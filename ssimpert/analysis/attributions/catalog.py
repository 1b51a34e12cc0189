"""Every attribution of this package, by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from ssimpert.analysis.attributions.grad_cam import grad_cam
from ssimpert.analysis.attributions.grad_cam_variants import grad_cam_plus_plus, guided_grad_cam, hires_cam, layer_cam
from ssimpert.analysis.attributions.gradients import gradient, input_x_gradient, smooth_grad
from ssimpert.analysis.attributions.guided_backprop import deconvolution, guided_backprop
from ssimpert.analysis.attributions.integrated_gradients import integrated_gradients
from ssimpert.analysis.attributions.occlusion import occlusion
from ssimpert.analysis.attributions.rise import rise
from ssimpert.errors import InputError
from ssimpert.models.forward_passes import Model

_METHODS = (
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    guided_grad_cam,
    gradient,
    input_x_gradient,
    smooth_grad,
    integrated_gradients,
    occlusion,
    deconvolution,
    guided_backprop,
    rise,
)
ATTRIBUTIONS: Mapping[str, Callable[..., Tensor]] = MappingProxyType({method.__name__: method for method in _METHODS})


def attribution(
    name: str,
    model: Model,
    images: Tensor,
    target: int | Tensor,
    *,
    layer: str | nn.Module | None = None,
    seed: int = 0,
    normalize: bool = True,
    **options: Any,
) -> Tensor:
    """The map of an attribution by its name: images (B, C, H, W) -> (B, H, W), detached.

    Args:
        name: a key of :data:`ATTRIBUTIONS`.
        model: a classifier, images (B, C, H, W) -> logits (B, K); for ``occlusion`` and ``rise`` also its ONNX copy.
        images: (B, C, H, W), float32 or float64, in the range that the model takes.
        target: the class that the map explains, one for all images or (B,) integers.
        layer: the layer of a class activation map: a module of the model, its name, or ``None`` (default) for
            ``model.cam_layer``. The other methods have no layer and refuse this argument.
        seed: an integer from 0, default 0, for the methods that draw random numbers: ``smooth_grad`` and ``rise``. The
            other methods draw none.
        normalize: True (default) min-max scales each map to [0, 1], and a constant map to zeros. False leaves the map
            in the units of the method.
        options: further arguments of the method, such as ``channels``, ``masks`` or ``steps``; see the function with
            the name of the method.

    Raises:
        InputError: an unknown name or option, and all that the method refuses.
    """
    if name not in ATTRIBUTIONS:
        raise InputError(f"unknown attribution {name!r}; known: {', '.join(ATTRIBUTIONS)}")
    method = ATTRIBUTIONS[name]
    accepted = list(inspect.signature(method).parameters)[3:]
    if layer is not None:
        options["layer"] = layer
    if "seed" in accepted:
        options["seed"] = seed
    for option in options:
        if option not in accepted:
            raise InputError(f"attribution {name!r} has no option {option!r}; it has {', '.join(accepted)}")
    return method(model, images, target, normalize=normalize, **options)
