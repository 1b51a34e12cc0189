"""What every public function does that takes a model: check the model, leave the inference mode, detach tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

from ssimpert.models.forward_passes import check_model, detached, outside_inference_mode

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def takes_model(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let ``function``, whose first argument is a model, be called in any state of torch with tensors of any origin.

    Before ``function`` runs, the model is checked (:func:`~ssimpert.models.forward_passes.check_model`). ``function``
    then runs outside of ``torch.inference_mode``, on tensors that carry no graph and may enter one. So the caller's
    tensors collect no gradients, and results need none.
    """

    @wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if args or "model" in kwargs:
            check_model(args[0] if args else kwargs["model"])  # type: ignore[arg-type]
        with outside_inference_mode():
            own_args = tuple(_own(value) for value in args)
            own_kwargs = {name: _own(value) for name, value in kwargs.items()}
            return function(*own_args, **own_kwargs)

    return call


def _own(value: Any) -> Any:
    if isinstance(value, Tensor) and (value.requires_grad or value.is_inference()):
        return detached(value)
    return value
