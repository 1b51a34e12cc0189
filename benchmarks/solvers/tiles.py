"""benchopt solver: the method ``tiles``."""

from benchmark_utils.method import MethodSolver


class Solver(MethodSolver):
    """See ``solvers.methods()``."""

    name = "tiles"
    method = "tiles"
