"""Performance profiles against shares counted by hand."""

from __future__ import annotations

import math

import pytest

from benchmarks.performance_profile import performance_profile


def test_shares_are_those_counted_by_hand() -> None:
    times = {"a": [1.0, 4.0, math.inf, math.inf], "b": [2.0, 1.0, 3.0, math.inf]}
    profile = performance_profile(times, [1.0, 2.0, 4.0])
    assert profile["a"] == [0.25, 0.25, 0.5]
    assert profile["b"] == [0.5, 0.75, 0.75]


def test_every_solver_needs_every_problem() -> None:
    with pytest.raises(ValueError, match=r"got \[1, 2\]"):
        performance_profile({"a": [1.0], "b": [1.0, 2.0]}, [1.0])
