"""Torch works on one thread within a solve, kernels on as many as torch may use, and the user's number stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import solvers
from solvers.threads import kernel_threads, torch_on_one_thread

Draw = Callable[..., Tensor]
SHAPE = (1, 1, 12, 12)


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def seen_by_a_callback(problem: solvers.Problem, method: str) -> list[tuple[int, int]]:
    """What torch and the kernels may use, at each call of the callback."""
    seen: list[tuple[int, int]] = []

    def callback(progress: Any) -> None:
        seen.append((torch.get_num_threads(), kernel_threads()))

    solvers.solve(problem, method, solvers.Settings(eps_rel=1e-3, callback=callback))
    assert torch.get_num_threads() == 3
    return seen


def test_a_solve_leaves_the_number_of_threads_as_it_was(uniform: Draw, normal: Draw) -> None:
    windows = solvers.WindowSSIM(0.9, solvers.Window.uniform(4))
    problem = solvers.LinearProblem(normal(*SHAPE), uniform(*SHAPE), [windows, solvers.Box()])
    assert set(seen_by_a_callback(problem, "dual")) == {(1, 3)}


def test_products_with_a_network_keep_all_threads(uniform: Draw, normal: Draw) -> None:
    matrix = normal(3, 144)
    jacobian = solvers.LinearOperator(lambda d: d.flatten(1) @ matrix.T, lambda y: (y @ matrix).reshape(-1, *SHAPE[1:]))
    ball = solvers.FeatureBall(1.0, jacobian)
    for constraint in (ball, solvers.Intersection([ball, solvers.LpBall(2, 2.0)])):
        problem = solvers.LinearProblem(normal(*SHAPE), uniform(*SHAPE), [constraint, solvers.Box()])
        assert set(seen_by_a_callback(problem, "ellipsoid")) == {(3, 3)}


def test_an_error_within_leaves_the_number_too() -> None:
    def fails_within() -> None:
        with torch_on_one_thread():
            assert torch.get_num_threads() == 1
            assert kernel_threads() == 3
            with torch_on_one_thread():
                assert kernel_threads() == 3
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_within()
    assert torch.get_num_threads() == kernel_threads() == 3
