"""A seed alone determines its problem, its points and its duals, and every kind of set is drawn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

import solvers
from tests.solvers.exact_arithmetic.checks import set_name
from tests.solvers.exact_arithmetic.random_duals import random_dual
from tests.solvers.exact_arithmetic.random_points import random_points
from tests.solvers.exact_arithmetic.random_problems import RandomProblem, random_problem


def drawn(seeds: range) -> list[RandomProblem]:
    problems = []
    for seed in seeds:
        try:
            problems.append(random_problem(seed))
        except solvers.ProblemError:
            continue
    return problems


def test_a_seed_gives_the_same_problem_points_and_duals_again() -> None:
    for first, second in zip(drawn(range(60)), drawn(range(60)), strict=True):
        np.testing.assert_array_equal(first.reference, second.reference)
        np.testing.assert_array_equal(first.vector, second.vector)
        assert [set_name(c) for c in first.problem.constraints] == [set_name(c) for c in second.problem.constraints]
        points, duals = [], []
        for problem in (first, second):
            rng = np.random.default_rng(7)
            points.append(random_points(rng, problem, None))
            duals.append(random_dual(rng, problem, None))
        np.testing.assert_array_equal(*points)
        for a, b in zip(*duals, strict=True):
            assert type(a) is type(b)
            if isinstance(a, torch.Tensor):
                assert torch.equal(a.nan_to_num(), b.nan_to_num())


def test_nearly_all_seeds_give_a_problem_and_all_sets_occur() -> None:
    problems = drawn(range(400))
    assert len(problems) > 390
    names = Counter(set_name(c) for problem in problems for c in problem.problem.constraints)
    windows = [f"{kind} {shape}" for kind in ("WindowSSIM", "WindowSSIM split", "WindowSSIM preserve", "ProductSSIM")
               for shape in ("tiles", "overlap")]  # fmt: skip
    for name in ["Box", "Support", "LpBall 1", "LpBall 2", "LpBall inf", "GlobalSSIM", "FeatureBall", *windows]:
        assert names[name] >= 5, name
    assert any(name.startswith("MeanSSIM") for name in names)
    assert {problem.linear for problem in problems} == {True, False}
    assert {problem.problem.reference.dtype for problem in problems} == {torch.float32, torch.float64}
    assert {len(problem.problem.constraints) for problem in problems} == {1, 2, 3}
    scales = np.concatenate([np.abs(p.vector[p.vector != 0]) for p in problems if p.linear]).astype(float)
    assert scales.min() < 1e-290
    assert scales.max() > 1e280


@pytest.mark.parametrize("share", ["split", "number", "zero"])
def test_levels_of_window_ssim_ask_at_least_the_threshold(share: str) -> None:
    """(1 - alpha)(1 - beta) >= t for the exact values of the floats: the set lies inside {SSIM >= t}."""
    from fractions import Fraction

    rng = np.random.default_rng(5)
    for _ in range(2000):
        threshold = float(rng.choice([rng.random(), 1 - 10.0 ** rng.uniform(-12, -1), 10.0 ** rng.uniform(-12, -1)]))
        room = 1 - threshold
        luminance = {"split": "split", "zero": 0.0, "number": float(rng.uniform(0, 0.999) * room)}[share]
        constraint = solvers.WindowSSIM(threshold, luminance=luminance)  # type: ignore[arg-type]
        product = (1 - Fraction(constraint.alpha)) * (1 - Fraction(constraint.beta))
        assert product >= Fraction(threshold), (threshold, luminance)
