"""``frank_wolfe``: a baseline, right where it is registered."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import solvers
from solvers import Box, Constraint, GlobalSSIM, LinearProblem, LpBall, ProjectionProblem, Settings, Window, WindowSSIM
from solvers.certificate import Certifier
from solvers.methods.frank_wolfe import _nearest_in_triangle
from tests.solvers.conftest import Photos

TILES = WindowSSIM(0.95, Window.uniform(8, stride=8))


def posed(photos: Photos, sets: list[Constraint], step: float = 0.2) -> ProjectionProblem:
    crops = [photos.crop(name, 60, 60, 16, channels=1) for name in ("chelsea", "coffee", "astronaut")]
    x, g = torch.cat([c.reference for c in crops]), torch.cat([c.gradient for c in crops])
    return ProjectionProblem(step * g / g.abs().amax(dim=(1, 2, 3), keepdim=True), x, sets)


@pytest.mark.parametrize(
    ("sets", "exact", "eps"),
    [
        ([TILES, Box()], "tiles", 3e-2),
        ([LpBall(2, 0.3), Box()], "closed_form", 1e-3),
        ([GlobalSSIM(0.1)], "closed_form", 1e-3),
    ],
    ids=["tiles", "l2", "global"],
)
def test_projection_agrees_with_the_exact_method(
    sets: list[Constraint], exact: str, eps: float, photos: Photos
) -> None:
    problem = posed(photos, sets)
    result = solvers.solve(problem, "frank_wolfe", Settings(eps_rel=eps))
    assert result.all_optimal, result.rel_gap
    reference = solvers.solve(problem, exact)
    torch.testing.assert_close(
        torch.as_tensor(result.objective), torch.as_tensor(reference.objective), rtol=eps, atol=0
    )
    assert (torch.as_tensor(result.bound) <= torch.as_tensor(reference.objective) * (1 + 1e-9)).all()


def test_the_oracles_dual_proves_the_frank_wolfe_gap(photos: Photos) -> None:
    problem = posed(photos, [TILES, Box()])
    point = 0.3 * torch.as_tensor(solvers.solve(problem, "tiles").delta)
    step = solvers.solve(LinearProblem(problem.point - point, problem.reference, problem.constraints), "tiles")
    gap = ((problem.point - point) * (torch.as_tensor(step.delta) - point)).flatten(1).sum(dim=1)
    bound = Certifier(problem).bound(step.dual)
    assert (bound >= problem.objective(point) - gap - 1e-12).all()


def test_the_nearest_point_of_a_triangle_is_no_farther_than_any_of_a_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (200, 1, 1, 3)
    target, a, b, c = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4))
    c[:20], b[20:40] = a[:20], a[20:40]  # degenerate ones
    found = _nearest_in_triangle(target, a, b, c)
    line = torch.linspace(0, 1, 101, dtype=torch.float64)
    best = torch.full((200,), torch.inf, dtype=torch.float64)
    for u in line:
        for v in line[line <= 1 - u + 1e-12]:
            point = a + u * (b - a) + v * (c - a)
            best = torch.minimum(best, (point - target).flatten(1).norm(dim=1))
    distance = (found - target).flatten(1).norm(dim=1)
    assert (distance <= best + 1e-12).all()
    assert (distance >= best - 0.05).all()


def test_finished_images_stop_and_a_warm_start_takes_fewer_iterations(photos: Photos) -> None:
    problem = posed(photos, [TILES, Box()])
    settings = Settings(eps_rel=5e-2, check_interval=1)
    first = solvers.solve(problem, "frank_wolfe", settings)
    assert len(set(first.iterations)) > 1
    again = solvers.solve(problem, "frank_wolfe", settings, warm_start=first)
    assert sum(again.iterations) < sum(first.iterations)


@pytest.mark.parametrize(
    "sets",
    [[WindowSSIM(0.95, Window.uniform(7, stride=4)), Box()], [TILES, LpBall(2, 1.0)]],
    ids=["overlap", "two"],
)
def test_sets_without_an_exact_oracle_are_refused(sets: list[Constraint], photos: Photos) -> None:
    with pytest.raises(solvers.MethodError, match="needs an exact linear oracle"):
        solvers.solve(posed(photos, sets), "frank_wolfe")


def test_linear_problems_are_refused(photos: Photos) -> None:
    problem = posed(photos, [TILES, Box()])
    linear: Tensor = problem.point
    with pytest.raises(solvers.MethodError, match="takes ProjectionProblem"):
        solvers.solve(LinearProblem(linear, problem.reference, problem.constraints), "frank_wolfe")
