"""Balls of deep features: ``--constraint feature-ball``, ``--method perceptual-ball`` and its constrained form.

The set and the two methods themselves are in :mod:`ssimpert.formulations.feature_balls`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ssimpert.cli.class_names import class_from_option
from ssimpert.cli.errors import UsageError, naming_flags
from ssimpert.cli.numbers import number_from_text
from ssimpert.formulations import feature_balls
from ssimpert.formulations.feature_balls import (
    ConstrainedBall,
    FeatureBallSet,
    PenalisedBall,
    PerceptualBall,
    checked_layers,
)
from ssimpert.formulations.names import BallMethod, MarginTermName, NormalizationName

if TYPE_CHECKING:
    import solvers

__all__ = [
    "BallMethod",
    "ConstrainedBall",
    "FeatureBallSet",
    "MarginTermName",
    "NormalizationName",
    "PenalisedBall",
    "PerceptualBall",
    "constrained_ball",
    "layers_from_option",
    "parse_feature_values",
    "penalised_ball",
]


def parse_feature_values(values: dict[str, Any]) -> dict[str, Any]:
    """The options of a ball of features as numbers and names, from what was typed.

    Raises:
        UsageError: a text that is no number, a layer without a name, or one that is given twice.
    """
    parsed = values | {"layers": layers_from_option(values["layers"])}
    if "l2_radius" in values:
        text = values["l2_radius"]
        l2_radius = None if text == "none" else number_from_text("--l2-radius", text, "a number or 'none'")
        parsed["l2_radius"] = l2_radius
    return parsed


def penalised_ball(values: dict[str, Any], *, wanted_given: bool, faithful: bool, target: str | None) -> PenalisedBall:
    """The run that the options describe.

    Args:
        values: one for every option of ``perceptual-ball``.
        wanted_given: whether ``--wanted-margin`` was given.
        faithful: whether ``--faithful`` was given.
        target: of ``--target``.

    Raises:
        UsageError: a value is out of range, or options contradict one another.
    """
    with naming_flags():
        return feature_balls.penalised_ball(
            parse_feature_values(values),
            wanted_given=wanted_given,
            faithful=faithful,
            target=None if target is None else class_from_option(target),
        )


def constrained_ball(
    values: dict[str, Any],
    settings: solvers.Settings,
    *,
    stop_at_success: bool,
    shrink: bool | None,
    target: str | None,
) -> ConstrainedBall:
    """The run that the options describe.

    Args:
        values: one for every option of ``perceptual-ball-constrained``.
        settings: of the solver.
        stop_at_success: whether an image stops at its goal.
        shrink: as for :func:`ssimpert.perceptual_ball_constrained`.
        target: of ``--target``.

    Raises:
        UsageError: a value is out of range, or there is no layer.
    """
    with naming_flags():
        return feature_balls.constrained_ball(
            parse_feature_values(values),
            settings,
            stop_at_success=stop_at_success,
            shrink=shrink,
            target=None if target is None else class_from_option(target),
        )


def layers_from_option(names: list[str] | None) -> tuple[str, ...] | None:
    """The layers of ``--layers``, which may be repeated and may hold commas.

    ``None`` without the option: the model's own layers. The word "none" alone means no layer at all.

    Raises:
        UsageError: an empty name, or one that is given twice.
    """
    if names is None or not names:
        return None
    found = tuple(name.strip() for text in names for name in text.split(","))
    if found == ("none",):
        return ()
    for name in found:
        if not name:
            raise UsageError(f"--layers {' '.join(names)!r} has an empty name; give names such as blocks.2,blocks.4")
    with naming_flags():
        return checked_layers(found)
