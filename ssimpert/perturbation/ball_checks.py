"""Options of the perceptual ball that can't be used, refused before any work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import get_args

from torch import Tensor

from ssimpert.errors import InputError, unknown_name
from ssimpert.perturbation.perceptual_ball.lbfgs import LineSearch
from ssimpert.perturbation.perceptual_ball.objective import MarginTerm


def check_ball_options(
    weights: Mapping[str, float],
    counts: Mapping[str, int | None],
    *,
    margin_term: str,
    line_search: str | None,
    faithful: bool,
    lower_gamma: bool | None,
    label_and_targets: bool,
) -> None:
    """Raise :class:`InputError` for the first option that can't be used. ``weights``: gamma, s and v; ``counts``:
    integers of at least 1, or ``None`` for the default."""
    for name, value in weights.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{name} must be a finite number, got {value!r}")
        if name != "v" and value < 0:
            raise InputError(f"{name} must be at least 0, got {value!r}")
    for name, count in counts.items():
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise InputError(f"{name} must be an integer of at least 1, got {count!r}")
    if margin_term not in get_args(MarginTerm):
        raise unknown_name("margin term", str(margin_term), get_args(MarginTerm))
    if line_search is not None and line_search not in get_args(LineSearch):
        raise unknown_name("line search", str(line_search), get_args(LineSearch))
    if label_and_targets:
        raise InputError("label and targets exclude each other: with targets the margin is that of the targets alone")
    if faithful:
        released = (margin_term == "equality", line_search in (None, "none"), not lower_gamma)
        for held, option in zip(released, ("margin_term='hinge'", "line_search", "lower_gamma=True"), strict=True):
            if not held:
                raise InputError(f"faithful=True reproduces the released method, which has no {option}")


def check_released_classes(label: Tensor, classes: int) -> None:
    """Raise :class:`InputError` where the released code does: it takes the larger of ``max f[:c]`` and
    ``max f[c+1:]``, and one of them is empty for the first class and for the last."""
    for image, own in enumerate(label.tolist()):
        if own in (0, classes - 1):
            raise InputError(
                f"image {image} is of class {own}: the released code fails for class 0 and for the last class, "
                f"{classes - 1}; faithful=False does not"
            )
