"""Why a method can't take a problem, for the reasons that several methods share."""

from __future__ import annotations

from solvers.constraints.base import Constraint
from solvers.problem import Problem


def unless_single(problem: Problem, kind: type[Constraint]) -> str | None:
    """A reason to refuse ``problem`` unless it has exactly one set of ``kind``; ``None`` where it has one.

    ``register_method(accepts=partial(unless_single, kind=WindowSSIM))`` makes it a method's whole test.
    """
    count = len(problem.find(kind))
    return None if count == 1 else f"takes one {kind.__name__}, got {count}"
