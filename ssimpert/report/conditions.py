"""In words, for captions: the set that a perturbation keeps to, its windows, and the steps that made it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.linearization import FeatureJacobian
from ssimpert.metrics import STANDARD_WINDOW
from ssimpert.perturbation.results import ConstraintRule, MinimalBudgetResult, PerturbResult


def conditions(result: PerturbResult) -> str:
    """The set with its threshold, windows and border, and how many steps were allowed, as one sentence.

    For instance: "SSIM ≥ 0.95 in every window (8x8 uniform, stride 8, border full; luminance 0.001), at most 20 steps
    by projected_gradient".
    """
    settings = result.settings
    parts = [_ball_in_words(result) or constraint_in_words(result.constraint)]
    if settings.get("recentred"):
        parts[0] += " around the current image at each step"
    if "steps" in settings:
        per_level = " at each level" if isinstance(result, MinimalBudgetResult) else ""
        engine = f" by {settings['engine']}" if settings.get("engine") else ""
        parts.append(f"at most {settings['steps']} steps{per_level}{engine}")
    return ", ".join(parts)


def _ball_in_words(result: PerturbResult) -> str | None:
    """What a perceptual ball keeps to, with its layers; ``None`` for other results."""
    settings = result.settings
    if result.constraint is not None or not ("gamma" in settings or "radius" in settings):
        return None
    layers = _layers(settings.get("layers") or ())
    if "gamma" in settings:
        return f"the features' change weighed{layers}"
    if isinstance(result, MinimalBudgetResult):
        return f"true feature distance at most the level{layers}"
    radii = torch.tensor(settings["radius"], dtype=torch.float64)
    return f"true feature distance ≤ {_radius(radii)}{layers}"


def constraint_in_words(constraint: ConstraintRule | None) -> str:
    """A set with its numbers, such as "l2 norm ≤ 0.5"; a rule that makes sets, and a set of another kind, by name."""
    if constraint is None:
        return "no constraint set"
    if isinstance(constraint, solvers.Intersection):
        return " and ".join(constraint_in_words(member) for member in constraint.sets)
    if isinstance(constraint, (solvers.WindowSSIM, solvers.ProductSSIM)):
        return f"SSIM ≥ {constraint.threshold:g} in every window ({_windows(constraint)})"
    if isinstance(constraint, solvers.MeanSSIM):
        return f"mean SSIM ≥ {constraint.threshold:g} ({_windows(constraint)})"
    if isinstance(constraint, solvers.GlobalSSIM):
        return f"d2 ≤ {constraint.distance:g} (one window, the whole image)"
    if isinstance(constraint, solvers.LpBall):
        norm = "linf" if math.isinf(constraint.p) else f"l{constraint.p:g}"
        return f"{norm} norm ≤ {_radius(constraint.radius)}"
    if isinstance(constraint, solvers.FeatureBall):
        layers = constraint.jacobian.layers if isinstance(constraint.jacobian, FeatureJacobian) else ()
        return f"linearised feature distance ≤ {_radius(constraint.radius)}{_layers(layers)}"
    return constraint.kind if isinstance(constraint, Constraint) else "a set that a rule makes for each image"


def window_in_words(window: solvers.Window) -> str:
    """For instance "8x8 uniform, stride 8, border full"."""
    return f"{_shape(window)}, stride {window.stride}, border {window.border}"


def least_window_in_words(constraint: object) -> str:
    """Which windows ``min_window_ssim`` of a result is of. They need not be the windows of the set."""
    window = STANDARD_WINDOW
    if isinstance(constraint, (solvers.WindowSSIM, solvers.ProductSSIM)):
        window = constraint.window
    words = f"the least SSIM of all whole {_shape(window)} windows at stride 1"
    if window.stride > 1:
        words += f", not only of the set's windows at stride {window.stride}; a window between these may have less"
    return words


def _shape(window: solvers.Window) -> str:
    weights = "uniform" if window.sigma is None else f"Gaussian (sigma {window.sigma:g})"
    return f"{window.size}x{window.size} {weights}"


def _windows(constraint: solvers.WindowSSIM | solvers.ProductSSIM | solvers.MeanSSIM) -> str:
    words = window_in_words(constraint.window)
    luminance = None if isinstance(constraint, solvers.ProductSSIM) else constraint.luminance
    if luminance is None:
        return words
    return f"{words}; luminance {luminance if isinstance(luminance, str) else f'{luminance:g}'}"


def _layers(names: Sequence[str]) -> str:
    return f" (layers {', '.join(names)})" if names else ""


def _radius(radius: float | Tensor) -> str:
    if not isinstance(radius, Tensor):
        return f"{radius:g}"
    values = radius.flatten().tolist()
    return f"{values[0]:g}" if len(values) == 1 else f"{min(values):g} to {max(values):g}, one for each image"
