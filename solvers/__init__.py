"""Convex subproblems under perceptual constraints, solved with certificates.

    window  = solvers.Window.uniform(7, stride=1, border="full")
    problem = solvers.LinearProblem(gradient=g, reference=x, constraints=[
                  solvers.WindowSSIM(threshold=0.95, window=window), solvers.Box(0.0, 1.0)])
    result  = solvers.solve(problem, method="auto", settings=solvers.Settings(eps_rel=1e-3))

A problem is posed over constraint sets, a method solves it, and a certificate says how far from optimal the answer is.
This package knows no model, no file and no screen.
"""

from solvers import methods as _methods  # noqa: F401  (registers the methods)
from solvers.certificate import Certificate, certify
from solvers.constraints import (
    Box,
    Constraint,
    FeatureBall,
    GlobalSSIM,
    Intersection,
    LinearOperator,
    LpBall,
    MeanSSIM,
    ProductSSIM,
    Support,
    WindowDual,
    WindowSSIM,
)
from solvers.errors import MethodError, ProblemError
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.registry import MethodInfo, methods, register_method, unregister_method
from solvers.result import History, HistoryRow, MethodOutput, SolveResult, Status
from solvers.settings import Progress, Settings
from solvers.solve import solve
from solvers.windows import Window, WindowOperator

__all__ = [
    "Box",
    "Certificate",
    "Constraint",
    "FeatureBall",
    "GlobalSSIM",
    "History",
    "HistoryRow",
    "Intersection",
    "LinearOperator",
    "LinearProblem",
    "LpBall",
    "MeanSSIM",
    "MethodError",
    "MethodInfo",
    "MethodOutput",
    "Problem",
    "ProblemError",
    "ProductSSIM",
    "Progress",
    "ProjectionProblem",
    "Settings",
    "SolveResult",
    "Status",
    "Support",
    "Window",
    "WindowDual",
    "WindowOperator",
    "WindowSSIM",
    "certify",
    "methods",
    "register_method",
    "solve",
    "unregister_method",
]
