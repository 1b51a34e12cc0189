"""benchopt solver: the method ``cvxpy:scs``."""

from benchmark_utils.method import MethodSolver


class Solver(MethodSolver):
    """The method by its name; ``solvers.methods()`` describes it."""

    name = "cvxpy-scs"
    method = "cvxpy:scs"
