"""benchopt solver: the method ``pdhg``."""

from benchmark_utils.method import MethodSolver


class Solver(MethodSolver):
    """The method by its name; ``solvers.methods()`` describes it."""

    name = "pdhg"
    method = "pdhg"
