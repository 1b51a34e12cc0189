"""Roots of falling functions, many at once."""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.root_finding import SearchTolerances, last_nonnegative


def test_every_entry_ends_just_before_its_own_root() -> None:
    root = torch.tensor([1e-9, 1e-3, 0.3, 0.999], dtype=torch.float64)

    def function(t: Tensor) -> Tensor:
        return root.square() - t.square() + 0.1 * (root - t) ** 3

    zero, one = torch.zeros_like(root), torch.ones_like(root)
    tolerances = SearchTolerances(value=0.0, width=4e-16, max_steps=200)
    result = last_nonnegative(function, function(zero), function(one), tolerances)
    assert bool((function(result) >= 0).all())
    torch.testing.assert_close(result, root, rtol=1e-12, atol=0)


def test_solved_entries_do_not_keep_a_search_going() -> None:
    evaluations = []

    def function(t: Tensor) -> Tensor:
        evaluations.append(t)
        return 2 - t

    at_zero, at_one = torch.full((3,), 2.0), torch.full((3,), 1.0)
    tolerances = SearchTolerances(value=1e-6, width=1e-6, max_steps=50)
    last_nonnegative(function, at_zero, at_one, tolerances, solved=at_one >= 0)
    assert not evaluations
