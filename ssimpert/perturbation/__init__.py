"""Perturbations: loops over certified linear steps, their l2 control, and the perceptual ball."""

from ssimpert.perturbation.constrained_ball import perceptual_ball_constrained
from ssimpert.perturbation.control import l2_control
from ssimpert.perturbation.perceptual_ball import perceptual_ball_lbfgs
from ssimpert.perturbation.perturb import perturb
from ssimpert.perturbation.quantize import QuantizedResult, quantize
from ssimpert.perturbation.result import FeatureBallResult, PerceptualBallResult, PerturbResult

__all__ = [
    "FeatureBallResult",
    "PerceptualBallResult",
    "PerturbResult",
    "QuantizedResult",
    "l2_control",
    "perceptual_ball_constrained",
    "perceptual_ball_lbfgs",
    "perturb",
    "quantize",
]
