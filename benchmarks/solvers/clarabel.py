"""benchopt solver: the method ``cvxpy:clarabel``."""

from benchmark_utils.method import MethodSolver


class Solver(MethodSolver):
    """See ``solvers.methods()``."""

    name = "cvxpy-clarabel"
    method = "cvxpy:clarabel"
