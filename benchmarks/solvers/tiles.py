"""benchopt solver: the method ``tiles``."""

from benchmark_utils.method import MethodSolver


class Solver(MethodSolver):
    """The method by its name; ``solvers.methods()`` describes it."""

    name = "tiles"
    method = "tiles"
