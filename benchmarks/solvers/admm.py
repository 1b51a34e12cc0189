"""benchopt solver: the method ``admm``."""

from benchmark_utils.method import MethodSolver


class Solver(MethodSolver):
    """The method by its name; ``solvers.methods()`` describes it."""

    name = "admm"
    method = "admm"
