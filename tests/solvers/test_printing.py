"""What results of the solvers print: at most ten lines, for tensors and arrays, for NaN, and for hostile texts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import solvers
from solvers.printing import Summary, cells

SHAPE = (3, 8, 8)


def problem(batch: int, *, as_numpy: bool = False) -> solvers.LinearProblem:
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(batch, *SHAPE, generator=generator, dtype=torch.float64)
    reference = torch.full((batch, *SHAPE), 0.5, dtype=torch.float64)
    arrays = (gradient.numpy(), reference.numpy()) if as_numpy else (gradient, reference)
    return solvers.LinearProblem(*arrays, [solvers.LpBall(2, 0.1)])


@pytest.mark.parametrize("as_numpy", [False, True])
@pytest.mark.parametrize("batch", [1, 5, 12])
def test_a_result_prints_a_row_for_each_of_the_first_five_images(batch: int, as_numpy: bool) -> None:
    result = solvers.solve(problem(batch, as_numpy=as_numpy))
    lines = repr(result).splitlines()
    assert lines[0].startswith("SolveResult of closed_form: ")
    assert f"{batch} of {batch} image" in lines[0]
    assert "3x8x8" in lines[0]
    assert len(lines) == 2 + min(batch, 5) + (batch > 5) <= 10
    assert (lines[-1] == "  ... and 7 more") == (batch == 12)
    assert all("optimal" in line for line in lines[2:7])
    certificate = solvers.certify(problem(batch, as_numpy=as_numpy), result.delta, result.dual)
    assert len(repr(certificate).splitlines()) == 2 + min(batch, 5) + (batch > 5)
    assert f"{float(result.objective[0]):.6g}" in repr(certificate)
    assert result._repr_html_().count("<tr>") == 1 + min(batch, 5)


def test_images_that_failed_and_empty_batches_print() -> None:
    whole = solvers.solve(problem(3))
    nan = np.full(3, np.nan)
    status = (solvers.Status.NUMERICAL_ERROR, *whole.status[1:])
    failed = replace(whole, bound=nan, rel_gap=nan, status=status, messages=("a\n\x1b[31mred", "", ""))
    text = repr(failed)
    assert "numerical_error" in text
    assert "nan" in text
    assert "\x1b" not in text
    assert "\\n" in text
    assert len(text.splitlines()) == 5
    empty = whole.select(torch.tensor([], dtype=torch.long))
    assert repr(empty).startswith("SolveResult of closed_form: 0 of 0 images optimal")
    assert empty._repr_html_()


def test_markup_is_escaped_and_long_texts_are_cut() -> None:
    summary = Summary("a <b>title</b>" + "x" * 200, {"image": ["0"], "name": cells(("<script>" + "y" * 99,))}, 1)
    assert "<b>title" not in summary.html()
    assert "<script>" not in summary.html()
    assert max(len(line) for line in summary.text().splitlines()) <= 120


def test_columns_without_anything_to_say_are_left_out() -> None:
    summary = Summary("title", {"image": ["0", "1"], "message": cells(("", ""))}, 2)
    assert "message" not in summary.text()
    assert "message" not in summary.html()
