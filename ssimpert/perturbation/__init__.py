"""Perturbations: loops over certified linear steps, their l2 control, the perceptual ball, and lp baselines."""

from ssimpert.perturbation.baselines import foolbox_baseline, l2_control
from ssimpert.perturbation.budget_search import margin_curve, minimal_budget
from ssimpert.perturbation.perceptual_ball import perceptual_ball_constrained, perceptual_ball_lbfgs
from ssimpert.perturbation.perturb import perturb
from ssimpert.perturbation.quantization import quantize
from ssimpert.perturbation.results import (
    FeatureBallResult,
    MinimalBudgetResult,
    PerceptualBallResult,
    PerturbResult,
    QuantizedResult,
)

__all__ = [
    "FeatureBallResult",
    "MinimalBudgetResult",
    "PerceptualBallResult",
    "PerturbResult",
    "QuantizedResult",
    "foolbox_baseline",
    "l2_control",
    "margin_curve",
    "minimal_budget",
    "perceptual_ball_constrained",
    "perceptual_ball_lbfgs",
    "perturb",
    "quantize",
]
