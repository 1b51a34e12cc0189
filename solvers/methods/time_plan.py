"""When a method must stop iterating, so that the call of ``solve`` ends within its time limit.

The limit covers the whole call. So a method's plan keeps what an iteration, a check and a certificate have cost so far,
and the last iteration is the one after which there still is time for a check and for the certificate that ``solve``
makes at its end. Before the first check of an iterate these costs are estimated: from the time that binding the sets
took, and from that of an iteration.
"""

from __future__ import annotations

import math

from solvers import clock
from solvers.problem import Problem
from solvers.running_solve import running_solve_of
from solvers.settings import Settings

# What the first check of an iterate costs, and a certificate, as multiples of the time that binding the sets took
# (measured for overlapping windows: docs/notes/time-limits.md).
FIRST_CHECK_COST, FIRST_CERTIFICATE_COST = 2.0, 0.7
# The first check of an iterate is planned to end late by this share of the time limit: without that check there is no
# answer. Where the check would end later than by the second share, it is left out.
FIRST_CHECK_GRACE, LATEST_FIRST_CHECK = 0.1, 0.2


class TimePlan:
    """The costs so far, and the end that follows from them.

    Args:
        problem: the problem as the method was given it.
        settings: its time limit.

    Attributes:
        started: when ``solve`` was called, or the method where it was called directly, a time of
            :func:`solvers.clock.now`. The limit counts from here.
        deadline: when the call must end; infinite where there is no limit.
        setup_time: seconds from the method's start to its first iteration.
        binding_time: seconds that binding the sets took; 0 where nobody has told.
        first_check_iterations: what the first check and a certificate take at least, in iterations; 0 at first. For a
            method whose dual makes certificates slow.
        check_may_be_cut: whether a check ends in time by itself, so that the first one is never left out.
    """

    first_check_iterations = 0.0
    check_may_be_cut = False

    def __init__(self, problem: Problem, settings: Settings) -> None:
        solve = running_solve_of(problem)
        self._method_started = clock.now()
        self.started = self._method_started if solve is None else solve.started
        self.deadline = min(self.started + settings.time_limit, clock.current_deadline())
        self.setup_time = self.binding_time = 0.0
        self._final_certificates = 0 if solve is None else 1
        self._iteration_cost = self._check_cost = self._certificate_cost = 0.0
        self._any_iterate_checked = False
        self._asked = self._method_started
        self._check_began: float | None = None
        if solve is not None:
            self.estimate(solve.binding_time)

    def estimate(self, binding_time: float) -> None:
        """Estimate what the first check and a certificate will take, from the seconds that binding the sets took."""
        self.binding_time = binding_time
        self._check_cost = FIRST_CHECK_COST * binding_time
        self._certificate_cost = FIRST_CERTIFICATE_COST * binding_time

    def leave_share(self, share: float) -> None:
        """Leave this share of the time that is left to the certificate at the end of ``solve``. For a method whose
        certificate takes about as long as the method, as well as there is time for it."""
        if self.deadline < math.inf:
            moment = clock.now()
            self.deadline = moment + (1 - share) * max(self.deadline - moment, 0.0)
        self._final_certificates = 0

    def expect_check(self, seconds: float, certificate_cost: float | None = None) -> None:
        """Count with so many seconds for the first check of an iterate, and for a certificate; ``None`` (default) keeps
        the estimate."""
        self._check_cost = seconds
        if certificate_cost is not None:
            self._certificate_cost = certificate_cost

    @property
    def elapsed(self) -> float:
        """Seconds since ``solve`` was called."""
        return clock.now() - self.started

    def setup_done(self) -> None:
        """Note the time at which the iterations begin: ``setup_time`` is what the method took until now."""
        self._asked = clock.now()
        self.setup_time = self._asked - self._method_started

    # -- when to stop ----------------------------------------------------------------------------------------

    @property
    def iterations_end(self) -> float:
        """The time of :func:`solvers.clock.now` at which the last check must begin; infinite where nothing is limited.

        Work that looks at :mod:`solvers.clock` by itself is done under this deadline.
        """
        if self.deadline == math.inf:
            return math.inf
        grace = 0.0 if self._any_iterate_checked else FIRST_CHECK_GRACE * self._limit
        return self.deadline + grace - self.check_cost - self.final_cost

    @property
    def _limit(self) -> float:
        return max(self.deadline - self.started, 0.0)

    @property
    def check_cost(self) -> float:
        """Seconds that the next check will take."""
        if self._any_iterate_checked:
            return self._check_cost
        return max(self._check_cost, self.first_check_iterations * self._iteration_cost)

    @property
    def final_cost(self) -> float:
        """Seconds that the certificate at the end of ``solve`` will take; 0 where the method was called directly."""
        cost = self._certificate_cost
        if not self._any_iterate_checked:
            cost = max(cost, self.first_check_iterations * self._iteration_cost)
        return self._final_certificates * cost

    def share_of_check(self, share: float) -> float:
        """The time of :func:`solvers.clock.now` at which a part of a check must end that may take this share of the
        check's time; infinite where nothing is limited."""
        if self.deadline == math.inf:
            return math.inf
        moment = clock.now()
        return moment + share * max(self.iterations_end + self.check_cost - moment, 0.0)

    def out_of_time(self) -> bool:
        """Whether it is time for the last check: after a further iteration there would be no time for it.

        Cheap enough for inner loops; ask once in each step. What lies between two questions counts as one iteration.
        """
        if self.deadline == math.inf:
            return False
        moment = clock.now()
        self._iteration_cost, self._asked = moment - self._asked, moment
        return self.last_check_is_due

    @property
    def last_check_is_due(self) -> bool:
        """The answer of :meth:`out_of_time`, for a question that does not end an iteration."""
        return clock.now() + self._iteration_cost >= self.iterations_end

    @property
    def too_late_for_a_certificate(self) -> bool:
        """Whether there is no time for a certificate beside the one at the end of ``solve``."""
        return clock.now() + self._certificate_cost >= self.iterations_end + self.check_cost

    @property
    def too_late_for_first_check(self) -> bool:
        """Whether no iterate has been checked, and when the check began there was no time for it any more."""
        if self._any_iterate_checked or self.check_may_be_cut or self.deadline == math.inf:
            return False
        latest = self.deadline + LATEST_FIRST_CHECK * self._limit
        began = clock.now() if self._check_began is None else self._check_began
        return began + self.check_cost + self.final_cost >= latest

    # -- what it costs ---------------------------------------------------------------------------------------

    def begin_check(self, *, unless_begun: bool = False) -> None:
        """Note that from here on all work is done for the next check; ``unless_begun`` leaves an earlier note."""
        if self._check_began is None or not unless_begun:
            self._check_began = clock.now()

    def check_done(self, certificate_cost: float, *, of_iterate: bool) -> None:
        """Note that a check is done. The plan counts with the largest costs so far.

        Args:
            certificate_cost: seconds that the certificate at the end of ``solve`` would take, by this check.
            of_iterate: whether the check was of an iterate, not of a start. From the first one on the estimates no
                longer count.
        """
        moment = clock.now()
        began, self._check_began = self._check_began, None
        cost = certificate_cost if began is None else moment - began
        if of_iterate and not self._any_iterate_checked:
            self._check_cost, self._certificate_cost, self._any_iterate_checked = cost, certificate_cost, True
        self._check_cost = max(self._check_cost, cost)
        self._certificate_cost = max(self._certificate_cost, certificate_cost)

    def resume(self) -> None:
        """Note that iterations go on: what lies before counts for no iteration."""
        self._asked = clock.now()
