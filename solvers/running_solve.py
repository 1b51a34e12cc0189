"""What a method may take over from the call of ``solve`` that runs it: when the call began, and the sets it has bound.

A method is a function of the problem and the settings. But the caller's time limit covers all of the call, and binding
the sets takes longer than an iteration, so it is done once for ``solve`` and for the method.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from solvers import clock
from solvers.certificate import Certifier
from solvers.problem import Problem


@dataclass(frozen=True, eq=False)
class RunningSolve:
    """A call of ``solve`` that has not returned.

    Attributes:
        problem: the problem as the method is given it.
        certifier: its sets, bound.
        started: when the call began, a time of :func:`solvers.clock.now`.
        binding_time: seconds that binding the sets took.
    """

    problem: Problem
    certifier: Certifier
    started: float
    binding_time: float


_running: ContextVar[RunningSolve | None] = ContextVar("running_solve", default=None)


@contextmanager
def running(solve: RunningSolve, time_limit: float) -> Iterator[None]:
    """Run a method, and certify what it returned, within ``time_limit`` seconds of the call's begin."""
    token = _running.set(solve)
    try:
        with clock.deadline(solve.started + time_limit):
            yield
    finally:
        _running.reset(token)


def running_solve_of(problem: Problem) -> RunningSolve | None:
    """The call of ``solve`` that runs a method on this very problem; ``None`` where the method was called directly."""
    solve = _running.get()
    return solve if solve is not None and solve.problem is problem else None
