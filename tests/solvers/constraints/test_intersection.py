"""Intersections: the members, the problem that lists their sets, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import solvers
from solvers import Box, GlobalSSIM, Intersection, LinearProblem, LpBall, ProblemError, ProjectionProblem, Window

Draw = Callable[..., Tensor]
SHAPE = (2, 3, 8, 8)
PARTS = (LpBall(2, 0.4), LpBall(torch.inf, 0.05), GlobalSSIM(0.01))


def reference(normal: Draw) -> Tensor:
    return (0.5 + 0.1 * normal(*SHAPE)).clamp(0, 1)


def test_a_member_is_in_every_set_and_its_excess_is_the_largest(normal: Draw) -> None:
    image, delta = reference(normal), 0.1 * normal(*SHAPE)
    delta -= delta.mean(dim=(1, 2, 3), keepdim=True)  # GlobalSSIM fixes means, which scaling does not reach
    bound = Intersection(PARTS).bind(image)
    each = [part.bind(image) for part in PARTS]
    assert torch.equal(bound.excess(delta), torch.stack([one.excess(delta) for one in each]).amax(dim=0))
    factor = bound.scale_factor(delta)
    assert torch.equal(factor, torch.stack([one.scale_factor(delta) for one in each]).amin(dim=0))
    assert bool((factor < 1).all())
    scaled = delta * factor.view(-1, 1, 1, 1)
    assert all(bool((one.excess(scaled) <= 1e-12).all()) for one in each)


@pytest.mark.parametrize("kind", [LinearProblem, ProjectionProblem])
def test_solving_it_is_solving_with_its_sets_listed(kind: type[solvers.Problem], normal: Draw) -> None:
    image, vector = reference(normal), normal(*SHAPE)
    listed = kind(vector, image, [*PARTS, Box()])  # type: ignore[call-arg]
    together = kind(vector, image, [Intersection(PARTS), Box()])  # type: ignore[call-arg]
    assert together.kinds() == listed.kinds() == ("LpBall", "LpBall", "GlobalSSIM", "Box")
    settings = solvers.Settings(eps_rel=1e-6, max_iter=20000)
    expected, found = solvers.solve(listed, settings=settings), solvers.solve(together, settings=settings)
    assert torch.equal(found.delta, expected.delta)
    assert float(solvers.certify(together, found.delta, found.dual).rel_gap.max()) <= 1e-6


def test_support_and_bounds_hold_every_member(normal: Draw) -> None:
    image, direction = reference(normal), normal(*SHAPE)
    bound = Intersection(PARTS).bind(image)
    delta = 0.1 * normal(*SHAPE)
    delta = delta * bound.scale_factor(delta).view(-1, 1, 1, 1)
    limit, limits = bound.support(direction), bound.bounds()
    assert limit is not None
    assert limits is not None
    assert bool(((delta * direction).flatten(1).sum(dim=1) <= limit).all())
    assert bool(((delta >= limits[0]) & (delta <= limits[1])).all())
    assert float(limits[1].max()) == pytest.approx(0.05)


def test_sets_of_one_image_each_go_with_their_images(normal: Draw) -> None:
    radius = torch.tensor([0.1, 0.4], dtype=torch.float64)
    chosen = Intersection([LpBall(2, radius), Box()]).select(torch.tensor([1]), 2)
    assert isinstance(chosen.sets[0], LpBall)
    assert torch.as_tensor(chosen.sets[0].radius).tolist() == [0.4]


def test_intersections_within_are_taken_apart() -> None:
    nested = Intersection([Intersection(PARTS[:2]), PARTS[2]])
    assert nested.sets == PARTS
    assert nested.kind == "LpBall and LpBall and GlobalSSIM"


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ([LpBall(2, 1.0)], "two or more sets, got 1"),
        (LpBall(2, 1.0), "takes a list of sets"),
        ([LpBall(2, 1.0), 3], "got 3"),
        ([LpBall(2, 1.0), solvers.MeanSSIM(0.9, Window.uniform(8, stride=8))], "MeanSSIM is none"),
    ],
)
def test_what_cannot_be_intersected_is_refused(sets: object, says: str) -> None:
    with pytest.raises(ProblemError, match=says):
        Intersection(sets)  # type: ignore[arg-type]


def test_a_set_that_does_not_fit_is_refused_by_the_problem(normal: Draw) -> None:
    image = reference(normal)
    with pytest.raises(ProblemError, match="LpBall radius"):
        LinearProblem(image, image, [Intersection([LpBall(2, torch.ones(3)), Box()]), Box()])


def test_bounds_are_the_tightest_of_all_members_in_any_order(normal: Draw) -> None:
    x = torch.full((1, 1, 3, 4), 0.5, dtype=torch.float64)
    members = [solvers.Box(0.1, 2.0), solvers.LpBall(math.inf, 0.45), solvers.Box(-1.0, 0.7)]
    for turn in range(3):
        bounds = solvers.Intersection(members[turn:] + members[:turn]).bind(x).bounds()
        assert bounds is not None
        np.testing.assert_allclose(bounds[0], -0.4, atol=1e-12)
        np.testing.assert_allclose(bounds[1], 0.2, atol=1e-12)
