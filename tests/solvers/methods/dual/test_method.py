"""``dual``: right by CVXPY on small real problems, image by image, in the time that it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import solvers
from solvers import (
    Box,
    LinearProblem,
    LpBall,
    ProjectionProblem,
    Settings,
    Status,
    Support,
    Window,
    WindowSSIM,
)
from solvers.methods.dual.anderson import AndersonAcceleration
from solvers.methods.dual.lagrangian import Lagrangian
from tests.solvers.conftest import Photos

SIDE = 18
MASK = torch.ones(SIDE, SIDE, dtype=torch.bool)
MASK[4:9, 4:9] = False
SETS: dict[str, list[solvers.Constraint]] = {
    "uniform": [WindowSSIM(0.95, Window.uniform(7)), Box()],
    "split": [WindowSSIM(0.95, Window.uniform(7), luminance="split"), Box()],
    "gaussian valid": [WindowSSIM(0.9, Window.gaussian(1.5, 11, border="valid")), Box()],
    "stride 3, no box": [WindowSSIM(0.9, Window.uniform(5, stride=3), sample_covariance=True)],
    "support": [WindowSSIM(0.95, Window.uniform(5, stride=2)), Box(), Support(MASK)],
    "l2": [WindowSSIM(0.9, Window.uniform(5)), Box(), LpBall(2, 0.3)],
    "linf": [WindowSSIM(0.9, Window.uniform(5)), Box(), LpBall(float("inf"), 0.03)],
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("photo", ["chelsea", "astronaut"])
def test_the_optimum_is_clarabels(photos: Photos, name: str, photo: str) -> None:
    crop = photos.crop(photo, 150, 120, SIDE, channels=1)
    problem = LinearProblem(crop.gradient, crop.reference, SETS[name])
    ours = solvers.solve(problem, "dual", Settings(eps_rel=1e-4, max_iter=5000))
    theirs = solvers.solve(problem, "cvxpy:clarabel", Settings(eps_rel=1e-6))
    assert ours.all_optimal
    assert float(ours.objective[0]) == pytest.approx(float(theirs.objective[0]), rel=2e-4)
    assert ours.bound[0] >= theirs.objective[0] * (1 - 1e-9)
    assert float(ours.max_violation[0]) < 1e-9


@pytest.mark.parametrize("name", ["uniform", "gaussian valid", "l2"])
def test_projections_are_clarabels(photos: Photos, name: str) -> None:
    crop = photos.crop("coffee", 100, 100, SIDE, channels=1)
    point = 0.1 * crop.gradient / crop.gradient.abs().max()
    problem = ProjectionProblem(point, crop.reference, SETS[name])
    ours = solvers.solve(problem, "dual", Settings(eps_rel=1e-3, max_iter=5000))
    theirs = solvers.solve(problem, "cvxpy:clarabel", Settings(eps_rel=1e-6))
    assert ours.all_optimal
    assert float(ours.objective[0]) == pytest.approx(float(theirs.objective[0]), rel=2e-3)
    assert float((ours.delta - theirs.delta).norm()) < 0.1 * float(theirs.delta.norm())


def test_a_feasible_point_is_its_own_projection(photos: Photos) -> None:
    crop = photos.crop("coffee", 100, 100, SIDE)
    problem = ProjectionProblem(torch.zeros_like(crop.reference), crop.reference, SETS["uniform"])
    result = solvers.solve(problem, "dual")
    assert result.all_optimal
    assert result.iterations == (0,)
    assert not torch.as_tensor(result.delta).any()


@pytest.fixture
def unlike(photos: Photos) -> LinearProblem:
    """Three images of very different difficulty and gradient size."""
    crops = [photos.crop(name, 150, 120, 24, channels=1) for name in ("rocket", "astronaut", "coffee")]
    gradient = torch.cat([crop.gradient * scale for crop, scale in zip(crops, (1.0, 1e-30, 1e20), strict=True)])
    return LinearProblem(gradient, torch.cat([crop.reference for crop in crops]), SETS["uniform"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_gives_what_its_images_give_alone(unlike: LinearProblem, dtype: torch.dtype) -> None:
    settings = Settings(eps_rel=5e-4, dtype=dtype)
    batch = solvers.solve(unlike, "dual", settings)
    assert batch.all_optimal
    assert len(set(batch.iterations)) > 1
    for k in range(3):
        single = solvers.solve(unlike.select(torch.tensor([k])), "dual", settings)
        assert float(single.objective[0]) == pytest.approx(float(batch.objective[k]), rel=2e-3)


def test_finished_images_cost_nothing(unlike: LinearProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    work: list[int] = []
    maximise = Lagrangian.maximise

    def counted(self: Lagrangian, start: Tensor, steps: Tensor, max_steps: int) -> Tensor:
        work.append(len(start))
        return maximise(self, start, steps, max_steps)

    monkeypatch.setattr(Lagrangian, "maximise", counted)
    batch = solvers.solve(unlike, "dual")
    per_iteration = len(work) / max(batch.iterations)
    assert sum(work) == pytest.approx(per_iteration * sum(batch.iterations))
    assert work[-1] == 1


def test_an_image_without_gradient_is_done_at_once(unlike: LinearProblem) -> None:
    gradient = unlike.gradient.clone()
    gradient[1] = 0
    result = solvers.solve(
        LinearProblem(gradient, unlike.reference, unlike.constraints), "dual", Settings(eps_rel=1e-2)
    )
    assert result.all_optimal
    assert result.iterations[1] == 0
    assert result.bound[1] == 0


def test_a_nan_image_leaves_the_others_right(unlike: LinearProblem) -> None:
    gradient = unlike.gradient.clone()
    gradient[1, 0, 3, 3] = torch.nan
    result = solvers.solve(
        LinearProblem(gradient, unlike.reference, unlike.constraints), "dual", Settings(eps_rel=1e-2)
    )
    assert result.status == (Status.OPTIMAL, Status.NUMERICAL_ERROR, Status.OPTIMAL)


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"max_iter": 30}, Status.MAX_ITER),
        ({"time_limit": 1e-9}, Status.TIME_LIMIT),
        ({"callback": lambda progress: progress.iteration >= 25}, Status.STOPPED),
    ],
)
def test_an_interrupted_run_returns_its_best_point_and_certificate(
    unlike: LinearProblem, settings: dict[str, Any], status: Status
) -> None:
    result = solvers.solve(unlike, "dual", {"eps_rel": 1e-7, **settings})
    assert result.status == (status,) * 3
    certificate = solvers.certify(unlike, result.delta, result.dual)
    np.testing.assert_allclose(certificate.objective, result.objective, rtol=1e-6)
    np.testing.assert_allclose(certificate.bound, result.bound, rtol=1e-6)
    assert float(certificate.max_violation.max()) < 1e-9
    assert bool((certificate.objective <= certificate.bound).all())
    if status is not Status.TIME_LIMIT:
        assert float(certificate.rel_gap.max()) < 0.3


def test_a_warm_start_takes_fewer_iterations(unlike: LinearProblem) -> None:
    settings = Settings(eps_rel=1e-2, check_interval=2)
    before = solvers.solve(unlike, "dual", settings)
    noise = torch.randn(unlike.gradient.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    size = unlike.gradient.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    moved = LinearProblem(
        unlike.gradient + 0.05 * size[:, None, None, None] * noise, unlike.reference, unlike.constraints
    )
    cold = solvers.solve(moved, "dual", settings)
    warm = solvers.solve(moved, "dual", settings, warm_start=before)
    assert warm.all_optimal
    assert np.median(np.divide(warm.iterations, cold.iterations)) < 0.7


def test_a_solution_is_its_own_warm_start(unlike: LinearProblem) -> None:
    settings = Settings(eps_rel=1e-2)
    before = solvers.solve(unlike, "dual", settings)
    again = solvers.solve(unlike, "dual", settings, warm_start=before)
    assert again.all_optimal
    assert again.iterations == (0, 0, 0)


def test_checks_do_not_change_the_iterations(photos: Photos) -> None:
    crop = photos.crop("coffee", 150, 120, SIDE, channels=1)
    problem = LinearProblem(crop.gradient, crop.reference, SETS["split"])
    rows = []
    for interval in (2, 20):
        settings = Settings(eps_rel=1e-12, max_iter=60, check_interval=interval)
        result = solvers.solve(problem, "dual", settings)
        rows.append({row.iteration: row for row in result.history})
    # More checks only find more: the iterates themselves must be the same.
    for iteration in (20, 40, 60):
        assert rows[0][iteration].bound[0] <= rows[1][iteration].bound[0] * (1 + 1e-12)
        assert rows[0][iteration].objective[0] >= rows[1][iteration].objective[0] * (1 - 1e-12)


def test_another_methods_result_is_a_warm_start_too(photos: Photos) -> None:
    crop = photos.crop("chelsea", 100, 100, SIDE, channels=1)
    problem = LinearProblem(crop.gradient, crop.reference, SETS["l2"])
    before = solvers.solve(problem, "cvxpy:clarabel")
    settings = Settings(eps_rel=1e-2, check_interval=2)
    warm = solvers.solve(problem, "dual", settings, warm_start=before)
    assert warm.all_optimal
    assert warm.iterations[0] < solvers.solve(problem, "dual", settings).iterations[0]


def test_what_it_cannot_take_is_refused(unlike: LinearProblem) -> None:
    for sets, reason in (
        ([WindowSSIM(0.9, luminance="preserve"), Box()], "preserve"),
        ([WindowSSIM(0.9), WindowSSIM(0.8), Box()], "one WindowSSIM or ProductSSIM, got 2"),
        ([WindowSSIM(0.9), LpBall(1, 1.0)], "p=1"),
        ([WindowSSIM(0.9, Window.uniform(8, stride=8)), Box()], "windows that overlap, got size 8"),
    ):
        with pytest.raises(solvers.MethodError, match=reason):
            solvers.solve(LinearProblem(unlike.gradient, unlike.reference, sets), "dual")


def test_mixing_solves_a_linear_iteration_and_heeds_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    slopes = torch.linspace(-0.1, -0.9, 4, dtype=torch.float64)[None]
    goal = torch.randn(1, 4, generator=generator, dtype=torch.float64)
    point, mixing = torch.zeros(1, 5, dtype=torch.float64), AndersonAcceleration(5)
    weight = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    for k in range(8):
        # The last entry runs off like the logarithm of an inactive multiplier.
        residual = torch.cat([slopes * (point[:, :4] - goal), torch.full((1, 1), -1.0 - k % 2, dtype=torch.float64)], 1)
        point = point + mixing.step(point, residual, weight)
    assert float((point[:, :4] - goal).abs().max()) < 1e-3
    assert 0.9**8 * float(goal.abs().max()) > 0.1  # the plain iteration is far off still
