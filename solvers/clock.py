"""The clock of a solve: the time, and until when the work at hand may take.

A deadline belongs to the work of one thread, like a variable of its context. It is set where the time limit is known,
in :func:`solvers.solve` and in the methods, and asked far below, in the loops of certificates and exact solvers. These
loops end with a valid answer whenever they stop: the answer is only less good. Without a deadline they run to the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


def now() -> float:
    """The time in seconds, counted from any moment."""
    return perf_counter()


def current_deadline() -> float:
    """The time of :func:`now` at which the work at hand must end; infinite where there is no limit."""
    return _deadline.get()


@contextmanager
def deadline(moment: float) -> Iterator[None]:
    """Let the work of this context end at ``moment``, a time of :func:`now`. A deadline that is nearer stands."""
    token = _deadline.set(min(moment, _deadline.get()))
    try:
        yield
    finally:
        _deadline.reset(token)


class Pace:
    """Whether a further step of a loop ends before the deadline, if it takes as long as the last one took.

    A loop makes a ``Pace`` before its first step and asks it between the steps. Only the deadline that stands when the
    ``Pace`` is made counts.
    """

    def __init__(self) -> None:
        self._deadline = _deadline.get()
        self._began = now() if self._deadline < math.inf else 0.0

    def allows_another_step(self) -> bool:
        """Ask between two steps. Always true where there is no deadline; the clock is then not read."""
        if self._deadline == math.inf:
            return True
        moment = now()
        duration, self._began = moment - self._began, moment
        return moment + duration <= self._deadline
