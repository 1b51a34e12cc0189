"""benchopt solver: the method ``dual``."""

from benchmark_utils.method import MethodSolver


class Solver(MethodSolver):
    """The method by its name; ``solvers.methods()`` describes it."""

    name = "dual"
    method = "dual"
