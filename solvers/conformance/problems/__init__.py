"""The standard problems of the conformance suite: real photos with real gradients, and problems of known optimum."""

from solvers.conformance.problems.standard import Posed, StandardProblem, standard_problems

__all__ = ["Posed", "StandardProblem", "standard_problems"]
