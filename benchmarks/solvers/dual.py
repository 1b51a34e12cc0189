"""benchopt solver: the method ``dual``."""

from benchmark_utils.method import MethodSolver


class Solver(MethodSolver):
    """See ``solvers.methods()``."""

    name = "dual"
    method = "dual"
