"""benchopt solver: the method ``cvxpy:scs``."""

from benchmark_utils.method import MethodSolver


class Solver(MethodSolver):
    """See ``solvers.methods()``."""

    name = "cvxpy-scs"
    method = "cvxpy:scs"
