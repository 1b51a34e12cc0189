"""The engines by name: loops that keep to the set around the original image at every iterate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.linearization import Margin
from ssimpert.linearization.gradient import Model
from ssimpert.perturbation.ascent import Move
from ssimpert.perturbation.frank_wolfe import frank_wolfe
from ssimpert.perturbation.oracle import Oracle
from ssimpert.perturbation.projected_gradient import projected_gradient
from ssimpert.perturbation.sequential_convex import sequential_convex

Engine = Literal["sequential_convex", "frank_wolfe", "projected_gradient", "recentred"]
HELD: dict[str, Callable[[Model, Tensor, Margin, Oracle, Tensor], Move]] = {
    "sequential_convex": sequential_convex,
    "frank_wolfe": frank_wolfe,
    "projected_gradient": projected_gradient,
}


def check_engine(engine: str) -> None:
    """Raise :class:`InputError` unless ``engine`` is one of :data:`Engine`."""
    if engine not in get_args(Engine):
        raise InputError(f"engine must be one of {', '.join(get_args(Engine))}, got {engine!r}")
