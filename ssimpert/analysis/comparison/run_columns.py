"""The columns that say which run a row of a table is of, so that the tables of several runs can be joined."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

import solvers
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.linearization import FeatureJacobian
from ssimpert.perturbation.budget_search.levels import own_level
from ssimpert.perturbation.results import ConstraintRule, PerturbResult

# What tables call the formulations that have no constraint set, by the function that is named in their settings.
PENALTY, TRUE_FEATURE_BALL = "perceptual ball", "feature distance"
_BALL_METHODS = {"perceptual_ball_lbfgs": PENALTY, "perceptual_ball_constrained": TRUE_FEATURE_BALL}
# The sets that have a window.
_WINDOWED = (solvers.WindowSSIM, solvers.ProductSSIM, solvers.MeanSSIM)


def run_columns(model: nn.Module, result: PerturbResult, seed: int) -> dict[str, list[Any]]:
    """The values of :data:`~ssimpert.analysis.statistics.table.RUN_COLUMNS` for ``result``, one for each image.

    Every row of a run has the same columns, the rows of its controls too: they say which run the row belongs to. Text
    is empty, and a number is NaN, where a formulation has no such thing.

    Args:
        model: the classifier that was perturbed.
        result: the perturbation.
        seed: of the comparison.
    """
    constraint, settings = result.constraint, dict(getattr(result, "settings", None) or {})
    levels, unit = _level(result, settings)
    windowed = _member(constraint, _WINDOWED)
    ball = _BALL_METHODS.get(settings.get("method", "")) if constraint is None else None
    columns: dict[str, Any] = {
        "model": str(getattr(model, "name", type(model).__name__)),
        "constraint": ball or _constraint_name(constraint),
        "level": levels,
        "level_unit": unit,
        "threshold": _threshold(result, windowed),
        "window": "" if windowed is None else _window_text(windowed.window),
        "border": "" if windowed is None else windowed.window.border,
        "luminance": _luminance_text(windowed),
        "layers": ", ".join(_layers(constraint, settings)),
        "engine": _engine(settings, has_set=constraint is not None),
        "steps": float(settings["steps"]) if "steps" in settings else math.nan,
        "seed": int(seed),
    }
    count = len(result.label)
    return {name: value if isinstance(value, list) else [value] * count for name, value in columns.items()}


def _constraint_name(constraint: ConstraintRule | None) -> str:
    if constraint is None:
        return "none"
    if not isinstance(constraint, Constraint):
        return f"rule {getattr(constraint, '__name__', type(constraint).__name__)}"
    members = constraint.sets if isinstance(constraint, solvers.Intersection) else (constraint,)
    names = [f"l{member.p:g}" if isinstance(member, solvers.LpBall) else member.kind for member in members]
    return " and ".join(names)


def _level(result: PerturbResult, settings: dict[str, Any]) -> tuple[float | list[float], str]:
    """The level of each image's set, or the weight that stands in its place, and what the number is."""
    constraint = result.constraint
    found = getattr(result, "level", None)
    if isinstance(found, Tensor):
        return found.tolist(), str(settings["level"])
    if constraint is None:
        method = settings.get("method")
        if method == "perceptual_ball_lbfgs":
            gamma = getattr(result, "gamma", None)
            return gamma.tolist() if isinstance(gamma, Tensor) else float(settings["gamma"]), "gamma"
        if method == "perceptual_ball_constrained":
            return [float(radius) for radius in settings["radius"]], f"radius ({settings['normalization']})"
        return math.nan, ""
    if not isinstance(constraint, Constraint):
        return math.nan, ""
    try:
        level, unit = own_level(constraint)
    except InputError:  # such a set has no level
        return math.nan, ""
    if settings.get("recentred"):
        unit = f"{unit} of each step"
    if isinstance(level, Tensor):
        return (level.tolist() if level.numel() > 1 else float(level)), unit
    return float(level), unit


def _threshold(result: PerturbResult, windowed: Any) -> float | list[float]:
    if windowed is None:
        return math.nan
    found = getattr(result, "level", None)
    return (1 - found).tolist() if isinstance(found, Tensor) else float(windowed.threshold)


def _member(constraint: ConstraintRule | None, kinds: Any) -> Any:
    """The first set of one of ``kinds`` in ``constraint``; ``None`` where there is none."""
    members = constraint.sets if isinstance(constraint, solvers.Intersection) else (constraint,)
    return next((member for member in members if isinstance(member, kinds)), None)


def _window_text(window: solvers.Window) -> str:
    weights = "" if window.sigma is None else f", sigma {window.sigma:g}"
    return f"{window.size}x{window.size}, stride {window.stride}{weights}"


def _luminance_text(windowed: Any) -> str:
    luminance = getattr(windowed, "luminance", None)
    return "" if luminance is None else f"{luminance:g}" if isinstance(luminance, float) else str(luminance)


def _layers(constraint: ConstraintRule | None, settings: dict[str, Any]) -> tuple[str, ...]:
    ball = _member(constraint, solvers.FeatureBall)
    if ball is not None:
        return ball.jacobian.layers if isinstance(ball.jacobian, FeatureJacobian) else ()
    return tuple(settings.get("layers") or ())


def _engine(settings: dict[str, Any], *, has_set: bool) -> str:
    """The loop that made the perturbation; of a method without a set, the method."""
    name = settings.get("engine") or settings.get("attack") or (None if has_set else settings.get("method")) or ""
    return f"{name} (released)" if settings.get("faithful") else str(name)
