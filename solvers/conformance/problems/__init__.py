"""The standard problems of the conformance suite."""

from solvers.conformance.problems.standard import Posed, StandardProblem, standard_problems

__all__ = ["Posed", "StandardProblem", "standard_problems"]
