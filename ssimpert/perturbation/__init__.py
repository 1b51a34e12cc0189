"""Perturbations: loops over certified linear steps, their l2 control, the perceptual ball, and lp baselines."""

from ssimpert.perturbation.baselines.foolbox_baseline import foolbox_baseline
from ssimpert.perturbation.baselines.l2_control import l2_control
from ssimpert.perturbation.budget_search.margin_curve import margin_curve
from ssimpert.perturbation.budget_search.minimal_budget import minimal_budget
from ssimpert.perturbation.perceptual_ball.constrained import perceptual_ball_constrained
from ssimpert.perturbation.perceptual_ball.penalised import perceptual_ball_lbfgs
from ssimpert.perturbation.perturb import perturb
from ssimpert.perturbation.quantization.quantize import quantize
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
