"""Results of a batch taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import solvers
from solvers import Box, LinearProblem, LpBall, ProblemError, ProductSSIM, SolveResult, Window, WindowDual, WindowSSIM

Draw = Callable[..., Tensor]
TENSORS = ("delta", "objective", "bound", "rel_gap", "max_violation")
COLUMNS = ("status", "iterations", "messages")
FOUR = Window.uniform(4, stride=2)


def indices(*images: int) -> Tensor:
    return torch.tensor(images, dtype=torch.long)


@pytest.fixture
def solved(uniform: Draw, normal: Draw) -> Callable[..., SolveResult]:
    """Solves four images, with 50 iterations at most."""

    def solve(*sets: solvers.Constraint, method: str = "auto") -> SolveResult:
        problem = LinearProblem(normal(4, 2, 9, 8), uniform(4, 2, 9, 8), list(sets))
        return solvers.solve(problem, method, {"max_iter": 50})

    return solve


def parts_of(block: Any) -> list[Any]:
    if block is None:
        return []
    if not isinstance(block, WindowDual):
        return [block]
    return [part for part in (block.ball, block.point, block.mean, block.reference) if part is not None]


def assert_same(first: SolveResult, second: SolveResult) -> None:
    """Bit by bit, kinds and dtypes included; times and histories aside."""
    for name in TENSORS:
        one, other = getattr(first, name), getattr(second, name)
        assert type(one) is type(other)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    for name in (*COLUMNS, "method"):
        assert getattr(first, name) == getattr(second, name)
    assert len(first.dual) == len(second.dual)
    for one, other in zip(first.dual, second.dual, strict=True):
        assert type(one) is type(other)
        for a, b in zip(parts_of(one), parts_of(other), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("sets", "method"),
    [
        ([LpBall(2, 0.5), Box()], "closed_form"),  # an image-shaped block, and none
        ([WindowSSIM(0.9, FOUR), Box()], "dual"),  # a WindowDual
        ([ProductSSIM(0.9, FOUR), Box()], "dual"),  # a WindowDual with factors of the reference
        ([WindowSSIM(0.9, FOUR), LpBall(2, 0.5), Box()], "admm"),  # window vectors and an image-shaped block
    ],
)
def test_concatenated_selections_are_the_whole_result(
    sets: list[solvers.Constraint], method: str, solved: Callable[..., SolveResult]
) -> None:
    whole = solved(*sets, method=method)
    joined = SolveResult.concatenate([whole.select(indices(k)) for k in range(4)])
    assert_same(joined, whole)
    assert_same(SolveResult.concatenate([whole.select(indices(0, 1)), whole.select(indices(2, 3))]), whole)
    shuffled = SolveResult.concatenate([whole.select(indices(3, 1)), whole.select(indices(0, 2))])
    assert_same(shuffled.select(indices(2, 1, 3, 0)), whole)


def test_a_concatenated_result_is_certified_and_warm_starts_like_the_whole(uniform: Draw, normal: Draw) -> None:
    problem = LinearProblem(normal(4, 2, 9, 8), uniform(4, 2, 9, 8), [WindowSSIM(0.9, FOUR), Box()])
    apart = [solvers.solve(problem.select(indices(k)), "dual", {"eps_rel": 1e-3}) for k in range(4)]
    joined = SolveResult.concatenate(apart)
    certificate = solvers.certify(problem, joined.delta, joined.dual)
    for k, result in enumerate(apart):
        assert float(certificate.bound[k]) == pytest.approx(float(result.bound[0]), rel=1e-9)
        assert float(certificate.objective[k]) == pytest.approx(float(result.objective[0]), rel=1e-9)
    assert solvers.solve(problem, "dual", {"eps_rel": 1e-3}, warm_start=joined).iterations == (0,) * 4


def test_times_add_up_and_the_history_is_left_out(solved: Callable[..., SolveResult]) -> None:
    whole = solved(LpBall(2, 0.5))
    first = replace(whole, setup_time=1.0, solve_time=2.0)
    second = replace(whole, setup_time=0.25, solve_time=0.5)
    joined = SolveResult.concatenate([first, second])
    assert (joined.setup_time, joined.solve_time) == (1.25, 2.5)
    assert whole.history
    assert joined.history == ()
    assert SolveResult.concatenate([whole]).history == ()


def test_numpy_results_stay_numpy_and_mixed_ones_become_tensors(uniform: Draw, normal: Draw) -> None:
    gradient, reference = normal(3, 1, 6, 6).float(), uniform(3, 1, 6, 6).float()
    sets = [LpBall(2, 0.5), Box()]
    tensors = solvers.solve(LinearProblem(gradient, reference, sets))
    arrays = solvers.solve(LinearProblem(gradient.numpy(), reference.numpy(), sets))
    joined = SolveResult.concatenate([arrays.select(indices(0, 1)), arrays.select(indices(2))])
    assert isinstance(joined.delta, np.ndarray)
    assert joined.delta.dtype == np.float32
    assert_same(joined, arrays)
    mixed = SolveResult.concatenate([arrays.select(indices(0, 1)), tensors.select(indices(2))])
    assert isinstance(mixed.delta, Tensor)
    assert_same(mixed, tensors)


def test_the_tensors_go_to_the_first_results_device(solved: Callable[..., SolveResult]) -> None:
    whole = solved(LpBall(2, 0.5))
    meta = replace(
        whole,
        dual=tuple(None if block is None else block.to("meta") for block in whole.dual),
        **{name: getattr(whole, name).to("meta") for name in TENSORS},
    )
    joined = SolveResult.concatenate([meta, whole])
    assert joined.delta.shape == (8, 2, 9, 8)
    assert {getattr(joined, name).device.type for name in TENSORS} == {"meta"}
    assert joined.dual[0].device.type == "meta"


def test_a_block_that_is_missing_counts_as_zero(solved: Callable[..., SolveResult]) -> None:
    for whole in (solved(LpBall(2, 0.5)), solved(WindowSSIM(0.9, FOUR), method="dual")):
        without = replace(whole, dual=(None,))
        (block,) = SolveResult.concatenate([without, whole]).dual
        for part, known in zip(parts_of(block), parts_of(whole.dual[0]), strict=True):
            assert torch.equal(part, torch.cat([torch.zeros_like(known), known]))
        assert SolveResult.concatenate([without, without]).dual == (None,)


def test_blocks_of_unlike_form_are_left_out(solved: Callable[..., SolveResult]) -> None:
    sets = [WindowSSIM(0.9, FOUR), LpBall(2, 0.5)]
    structured, vectors = solved(*sets, method="dual"), solved(*sets, method="admm")
    block, ball = SolveResult.concatenate([structured, vectors]).dual
    assert block is None
    assert ball.shape == (8, 2, 9, 8)


def test_what_can_not_be_joined_is_refused(solved: Callable[..., SolveResult]) -> None:
    with pytest.raises(ProblemError, match="concatenate needs at least one result, got none"):
        SolveResult.concatenate([])
    with pytest.raises(ProblemError, match=r"must have the same constraints, got \[1, 2\] dual blocks"):
        SolveResult.concatenate([solved(LpBall(2, 0.5)), solved(LpBall(2, 0.5), Box())])
