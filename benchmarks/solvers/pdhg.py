"""benchopt solver: the method ``pdhg``."""

from benchmark_utils.method import MethodSolver


class Solver(MethodSolver):
    """See ``solvers.methods()``."""

    name = "pdhg"
    method = "pdhg"
