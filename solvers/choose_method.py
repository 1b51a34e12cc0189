"""Which method ``auto`` takes for a problem."""

from __future__ import annotations

from solvers.constraints.lp_ball import LpBall
from solvers.errors import MethodError
from solvers.problem import LinearProblem, Problem
from solvers.registry import MethodInfo, methods, methods_for

# The methods in the order in which auto prefers them: the exact ones; our own for overlapping windows and for feature
# balls; Clarabel, which closes any gap, for problems that are not too large; then operator splitting.
PREFERENCE = (
    "closed_form",
    "tiles",
    "product_tiles",
    "mean_tiles",
    "mean_windows",
    "energy_step",
    "dual",
    "ellipsoid",
    "cvxpy:clarabel",
    "admm",
    "cvxpy:scs",
    "pdhg",
)


def choose_method(problem: Problem, *, force: bool = False) -> MethodInfo:
    """The method that ``auto`` takes: the first of ``PREFERENCE`` that can solve the problem, else any that can.

    Methods for which the problem is too large are passed over. With ``force`` they are taken where there is no other.

    Raises:
        MethodError: no method can solve the problem; the message says what hinders each.
    """
    able = methods_for(problem) or (methods_for(problem, force=True) if force else ())
    if not able:
        reasons = "; ".join(f"{info.name} {info.hindrance(problem)}" for info in methods())
        raise MethodError(f"no method takes this problem: {reasons}")
    by_name = {info.name: info for info in able}
    preferred = [by_name[name] for name in _preference(problem) if name in by_name]
    return (preferred or list(able))[0]


def _preference(problem: Problem) -> tuple[str, ...]:
    """PREFERENCE, but with ``ellipsoid`` after Clarabel for a linear problem without an lp ball.

    The optimum of such a problem lies in a corner of the box, where ``ellipsoid`` may stall
    (docs/notes/feature-balls.md).
    """
    if not isinstance(problem, LinearProblem) or problem.find(LpBall):
        return PREFERENCE
    others = [name for name in PREFERENCE if name != "ellipsoid"]
    position = others.index("cvxpy:clarabel") + 1
    return (*others[:position], "ellipsoid", *others[position:])
