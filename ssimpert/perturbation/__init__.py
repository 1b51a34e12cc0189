"""Perturbations: loops over certified linear steps, and their l2 control."""

from ssimpert.perturbation.control import l2_control
from ssimpert.perturbation.perturb import perturb
from ssimpert.perturbation.result import PerturbResult

__all__ = ["PerturbResult", "l2_control", "perturb"]
