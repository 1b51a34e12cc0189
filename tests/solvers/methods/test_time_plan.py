"""A method's time: when it stops iterating, by what iterations, checks and certificates have cost."""

from __future__ import annotations

import math

import pytest
import torch

from solvers import Box, LinearProblem, Settings, clock
from solvers.methods.time_plan import FIRST_CERTIFICATE_COST, FIRST_CHECK_COST, TimePlan

LIMIT = 100.0


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> HandClock:
    hands = HandClock()
    monkeypatch.setattr("solvers.clock.perf_counter", hands)
    return hands


def plan_of(limit: float) -> TimePlan:
    x = torch.full((1, 1, 4, 4), 0.5)
    return TimePlan(LinearProblem(torch.ones_like(x), x, [Box()]), Settings(time_limit=limit))


@pytest.mark.parametrize("iteration", [0.5, 3.0, 20.0])
@pytest.mark.parametrize("check", [1.0, 7.0, 15.0])
@pytest.mark.parametrize("interval", [1, 4, 1000])
def test_iterations_end_in_time_for_the_last_check_and_not_much_earlier(
    hands: HandClock, iteration: float, check: float, interval: int
) -> None:
    plan = plan_of(LIMIT)
    plan.estimate(check / FIRST_CHECK_COST)
    plan.setup_done()
    count, running = 0, True
    while running:
        hands.time += iteration
        count += 1
        late = plan.out_of_time()
        if late or count % interval == 0:
            plan.begin_check()
            hands.time += check
            plan.check_done(check / 2, of_iterate=True)
            running = not plan.last_check_is_due
            plan.resume()
    # Called directly, the method is followed by no certificate. The first check may be 10% late.
    first = interval * (iteration + check) > LIMIT
    assert plan.elapsed <= (1.1 if first else 1.0) * LIMIT
    assert plan.elapsed >= LIMIT - 2 * (iteration + check)


def test_nothing_is_limited_by_default(hands: HandClock) -> None:
    plan = plan_of(math.inf)
    plan.setup_done()
    hands.time += 1e9
    assert not plan.out_of_time()
    assert not plan.last_check_is_due
    assert not plan.too_late_for_first_check
    assert plan.iterations_end == math.inf


def test_an_outer_deadline_counts_where_it_is_nearer(hands: HandClock) -> None:
    with clock.deadline(hands.time + 5):
        assert plan_of(LIMIT).deadline == hands.time + 5
        with clock.deadline(hands.time + 50):
            assert clock.current_deadline() == hands.time + 5
    assert plan_of(LIMIT).deadline == hands.time + LIMIT
    assert clock.current_deadline() == math.inf


def test_first_costs_are_estimated_and_later_ones_are_the_largest_so_far(hands: HandClock) -> None:
    plan = plan_of(LIMIT)
    plan.estimate(10.0)
    assert plan.check_cost == FIRST_CHECK_COST * 10
    assert FIRST_CERTIFICATE_COST < FIRST_CHECK_COST
    plan.first_check_iterations = 4.0
    hands.time += 6
    plan.out_of_time()
    assert plan.check_cost == 24
    for cost, expected in ((3.0, 3.0), (5.0, 5.0), (2.0, 5.0)):
        plan.begin_check()
        hands.time += cost
        plan.check_done(1.0, of_iterate=True)
        assert plan.check_cost == expected


def test_a_first_check_that_would_end_far_too_late_is_left_out(hands: HandClock) -> None:
    plan = plan_of(LIMIT)
    plan.estimate(20.0)
    hands.time += 79
    assert not plan.too_late_for_first_check
    hands.time += 2
    assert plan.too_late_for_first_check
    plan.check_done(1.0, of_iterate=True)
    assert not plan.too_late_for_first_check


def test_a_loop_stops_before_the_step_that_would_pass_the_deadline(hands: HandClock) -> None:
    with clock.deadline(hands.time + 10):
        pace, steps = clock.Pace(), 0
        while pace.allows_another_step():
            hands.time += 3
            steps += 1
    assert steps == 3
    endless = clock.Pace()
    hands.time += 1e9
    assert endless.allows_another_step()


def test_a_certificate_share_is_left_of_what_remains(hands: HandClock) -> None:
    plan = plan_of(LIMIT)
    hands.time += 20
    plan.leave_share(0.25)
    assert plan.deadline == pytest.approx(hands.time + 60)
    assert plan.final_cost == 0
