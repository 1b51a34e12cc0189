"""Settings: every value is checked, every unknown name refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import solvers
from solvers import ProblemError, Settings


def test_defaults_and_none_agree() -> None:
    assert Settings.of(None) == Settings()
    assert Settings.of({}) == Settings()
    given = Settings(eps_rel=1e-5)
    assert Settings.of(given) is given
    assert Settings.of({"eps_rel": 1e-5}) == given


@pytest.mark.parametrize(
    ("name", "hint"),
    [("eps_real", "did you mean 'eps_rel'"), ("maxiter", "did you mean 'max_iter'"), ("colour", "known: eps_abs")],
)
def test_an_unknown_setting_is_an_error_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(ProblemError, match=rf"unknown setting '{name}'; {hint}"):
        Settings.of({name: 1})
    with pytest.raises(TypeError, match=name):
        Settings(**{name: 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eps_rel": -1e-3}, "eps_rel must be 0 or more and finite, got -0.001"),
        ({"eps_abs": math.nan}, "eps_abs must be 0 or more and finite, got nan"),
        ({"eps_abs": math.inf}, "eps_abs must be 0 or more and finite, got inf"),
        ({"eps_rel": "small"}, "eps_rel must be a number, got 'small'"),
        ({"eps_rel": 0}, "can't both be 0"),
        ({"max_iter": 0}, "max_iter must be an integer of at least 1, got 0"),
        ({"max_iter": 10.0}, "max_iter must be an integer of at least 1, got 10.0"),
        ({"max_iter": True}, "max_iter must be an integer of at least 1, got True"),
        ({"check_interval": -1}, "check_interval must be an integer of at least 1, got -1"),
        ({"time_limit": 0}, "time_limit must be positive seconds, got 0"),
        ({"time_limit": math.nan}, "time_limit must be positive seconds, got nan"),
        ({"time_limit": "1 s"}, "time_limit must be a number, got '1 s'"),
        ({"callback": 3}, "callback must be callable, got 3"),
        ({"dtype": torch.float16}, "dtype must be torch.float32 or torch.float64, got torch.float16"),
    ],
)
def test_values_out_of_range_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        Settings.of(values)


def test_settings_of_another_type_are_refused() -> None:
    with pytest.raises(ProblemError, match=r"settings must be solvers\.Settings or a dict, got list"):
        Settings.of([("eps_rel", 1)])  # type: ignore[arg-type]


def test_values_at_the_limits_of_their_ranges_are_allowed() -> None:
    Settings(eps_abs=1e-6, eps_rel=0.0, max_iter=1, check_interval=1, time_limit=math.inf, dtype=torch.float32)


def test_solve_refuses_unknown_settings_before_any_work() -> None:
    x = torch.full((1, 1, 4, 4), 0.5)
    problem = solvers.LinearProblem(x, x, [solvers.Box()])
    with pytest.raises(ProblemError, match="unknown setting 'eps'"):
        solvers.solve(problem, settings={"eps": 1})
