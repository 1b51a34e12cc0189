"""Perturbations: loops over certified linear steps, their l2 control, and the perceptual ball."""

from ssimpert.perturbation.control import l2_control
from ssimpert.perturbation.perceptual_ball import perceptual_ball_lbfgs
from ssimpert.perturbation.perturb import perturb
from ssimpert.perturbation.result import PerceptualBallResult, PerturbResult

__all__ = ["PerceptualBallResult", "PerturbResult", "l2_control", "perceptual_ball_lbfgs", "perturb"]
