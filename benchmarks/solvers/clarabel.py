"""benchopt solver: the method ``cvxpy:clarabel``."""

from benchmark_utils.method import MethodSolver


class Solver(MethodSolver):
    """The method by its name; ``solvers.methods()`` describes it."""

    name = "cvxpy-clarabel"
    method = "cvxpy:clarabel"
