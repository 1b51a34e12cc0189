"""benchopt solver: the method ``admm``."""

from benchmark_utils.method import MethodSolver


class Solver(MethodSolver):
    """See ``solvers.methods()``."""

    name = "admm"
    method = "admm"
