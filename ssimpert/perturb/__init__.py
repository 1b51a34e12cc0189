"""Perturbations: loops over certified linear steps, and their l2 control."""

from ssimpert.perturb.control import l2_control
from ssimpert.perturb.perturb import perturb
from ssimpert.perturb.result import PerturbResult

__all__ = ["PerturbResult", "l2_control", "perturb"]
