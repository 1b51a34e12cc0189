"""The implied box holds every feasible perturbation, and is not far from the set's own extent."""

from __future__ import annotations

import sys
from collections.abc import Callable

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import Tensor

import solvers
from solvers import Box, LinearProblem, Window, WindowSSIM
from solvers.certificate import Certifier

Draw = Callable[..., Tensor]
WINDOWS = {
    "uniform": Window.uniform(3),
    "gaussian valid": Window.gaussian(1.0, 5, border="valid"),
    "stride": Window.uniform(4, stride=2),
}


@pytest.mark.parametrize("box", [True, False])
@pytest.mark.parametrize("name", WINDOWS)
def test_no_feasible_pixel_lies_outside(name: str, box: bool, uniform: Draw) -> None:
    x = uniform(1, 1, 8, 9)
    x[..., :4, :4] = 0.0
    sets = [WindowSSIM(0.9, WINDOWS[name], luminance=0.01), *([Box()] if box else [])]
    certifier = Certifier(LinearProblem(torch.ones_like(x), x, sets))
    delta = cp.Variable(x.numel())
    forms = [bound.conic_form(delta, 0) for bound in certifier.sets]
    limits = [constraint for form in forms for constraint in form.constraints]
    tightness = []
    for pixel in (0, 5, 20, 40, 71):
        for sign, implied in ((1, certifier.implied_upper), (-1, -certifier.implied_lower)):
            furthest = cp.Problem(cp.Maximize(sign * delta[pixel]), limits).solve(solver="CLARABEL")
            limit = float(implied.flatten()[pixel])
            assert limit >= furthest - 1e-7
            tightness.append(furthest / limit if limit > 1e-9 else 1.0)
    assert np.median(tightness) > 0.3
    assert bool((certifier.implied_lower <= 0).all())
    assert bool((certifier.implied_upper >= 0).all())


def test_the_trivial_bound_gets_several_times_better(uniform: Draw, normal: Draw) -> None:
    x = uniform(1, 3, 24, 24)
    problem = LinearProblem(normal(1, 3, 24, 24), x, [WindowSSIM(0.95), Box()])
    plain = torch.maximum(problem.gradient * (0 - x), problem.gradient * (1 - x)).sum()
    assert float(solvers.certify(problem, torch.zeros_like(x)).bound) < 0.6 * float(plain)


def test_windows_cut_to_one_pixel_lose_no_digits_where_there_is_no_box(uniform: Draw) -> None:
    """Such a pixel may go exactly as far as its mean."""
    x = uniform(1, 1, 5, 5)
    certifier = Certifier(LinearProblem(torch.ones_like(x), x, [WindowSSIM(0.99, Window.uniform(2, stride=2))]))
    bound = certifier.sets[0]
    corner = float(certifier.implied_upper[0, 0, 4, 4] - bound.mean_upper[0, 0, 2, 2])  # type: ignore[attr-defined]
    assert 0 <= corner < 1e-10


@pytest.mark.parametrize("box", [True, False])
@pytest.mark.parametrize("name", WINDOWS)
def test_the_compiled_bounds_are_those_of_torch(
    name: str, box: bool, uniform: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = uniform(2, 3, 31, 26)
    x[0, :, :9, :9] = 0.0
    bound = WindowSSIM(0.9, WINDOWS[name], luminance=0.01).bind(x)
    free = torch.full_like(x, torch.inf)
    limits = (-x, 1 - x) if box else (-free, free)
    compiled = bound.implied_bounds(*limits)
    monkeypatch.setattr(
        sys.modules["solvers.constraints.ssim_windows.pixel_bounds"], "compiled_code_may_read", lambda *values: False
    )
    for one, other in zip(compiled, bound.implied_bounds(*limits), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)
