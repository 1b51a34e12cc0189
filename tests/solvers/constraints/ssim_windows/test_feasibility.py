"""Repair of overlapping windows: into the set, at little cost, and nothing for what is inside."""

from __future__ import annotations

import pytest
import torch

import solvers
from solvers import Box, LinearProblem, Window, WindowSSIM
from solvers.certificate import Certifier
from solvers.constraints.ssim_windows.feasibility import averaged_projections, make_feasible, shrink_locally
from solvers.constraints.window_ssim import BoundWindowSSIM
from tests.solvers.conftest import Photos

WINDOWS = [Window.uniform(7), Window.gaussian(1.5, 11, border="valid"), Window.uniform(7, stride=3)]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("luminance", [1e-3, "split"])
def test_points_come_inside_and_lose_less_than_by_scaling(photos: Photos, window: Window, luminance: float) -> None:
    crop = photos.crop("astronaut", 150, 120, 48)
    problem = LinearProblem(crop.gradient, crop.reference, [WindowSSIM(0.95, window, luminance=luminance), Box()])
    best = solvers.solve(problem, "dual", {"eps_rel": 1e-2}).delta
    certifier = Certifier(problem)
    bound = certifier.sets[0]
    assert isinstance(bound, BoundWindowSSIM)
    noise = 0.1 * best.abs() * torch.randn(best.shape, generator=torch.Generator().manual_seed(0), dtype=best.dtype)
    outside = (best + noise).clamp(certifier.lower, certifier.upper)
    assert float(bound.excess(outside)) > 1e-3
    inside = make_feasible(bound, outside, certifier.lower, certifier.upper)
    assert float(bound.window_factor(inside).min()) > 1 - 1e-4
    assert bool(((inside >= certifier.lower) & (inside <= certifier.upper)).all())
    scaled = shrink_locally(bound, outside)
    assert float(problem.objective(inside)) > 0.999 * float(problem.objective(scaled))
    if window.stride == 1:
        assert float(problem.objective(inside)) > float(problem.objective(scaled))


def test_what_is_inside_stays(photos: Photos) -> None:
    crop = photos.crop("chelsea", 100, 100, 32)
    bound = WindowSSIM(0.95).bind(crop.reference)
    delta = 1e-4 * crop.gradient.sign()
    lower, upper = -crop.reference, 1 - crop.reference
    inside = make_feasible(bound, delta, lower, upper)
    torch.testing.assert_close(inside, delta, rtol=0, atol=0)
    both = torch.cat([delta, 100 * delta])
    pair = WindowSSIM(0.95).bind(torch.cat([crop.reference] * 2))
    moved = make_feasible(pair, both, torch.cat([lower] * 2), torch.cat([upper] * 2))
    torch.testing.assert_close(moved[:1], delta, rtol=0, atol=0)
    assert not torch.equal(moved[1:], both[1:])


def test_momentum_beats_plain_averaging(photos: Photos) -> None:
    """The same number of steps leaves fewer windows outside than one step, many times from where it ended."""
    crop = photos.crop("coffee", 100, 100, 64)
    bound = WindowSSIM(0.95).bind(crop.reference)
    lower, upper = -crop.reference, 1 - crop.reference
    start = (0.05 * crop.gradient / crop.gradient.std()).clamp(lower, upper)
    plain = start
    for _ in range(40):
        plain = averaged_projections(bound, plain, lower, upper, steps=1)
    fast = averaged_projections(bound, start, lower, upper, steps=40)
    assert float((bound.window_factor(fast) < 1 - 1e-3).sum()) < float((bound.window_factor(plain) < 1 - 1e-3).sum())


@pytest.mark.parametrize(("name", "top", "left"), [("chelsea", 100, 100), ("astronaut", 150, 120)])
def test_many_windows_barely_outside_cost_no_more_than_they_are_outside(
    photos: Photos, name: str, top: int, left: int
) -> None:
    """Local shrinking alone costs chelsea a third: pixels shrink unevenly, and the means of their neighbours move."""
    crop = photos.crop(name, top, left, 64)
    problem = LinearProblem(crop.gradient, crop.reference, [WindowSSIM(0.95, luminance="split"), Box()])
    certifier = Certifier(problem)
    bound = certifier.sets[0]
    assert isinstance(bound, BoundWindowSSIM)
    best = solvers.solve(problem, "dual", {"eps_rel": 2e-3}).delta
    excess = 2e-4
    outside = (best * (1 + excess)).clamp(certifier.lower, certifier.upper)
    assert int((bound.window_factor(outside) < 1).sum()) > 100
    repaired = certifier.repair(outside)
    assert float(bound.excess(repaired)) <= 1e-9
    assert float(problem.objective(repaired)) >= (1 - 2 * excess) * float(problem.objective(best))
