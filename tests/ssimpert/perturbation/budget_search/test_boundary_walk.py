"""Cuts to the border of a decision, and walks along it, against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import solvers
from solvers import LpBall
from ssimpert.linearization import Untargeted
from ssimpert.models.forward_passes import forward
from ssimpert.perturbation.budget_search.attempt import Attempt
from ssimpert.perturbation.budget_search.boundary_cut import SHARE_RESOLUTION, shorten_to_boundary
from ssimpert.perturbation.budget_search.boundary_walk import BoundaryPoints, BoundaryWalk
from ssimpert.perturbation.budget_search.levels import family_of
from ssimpert.perturbation.goal import Goal
from tests.ssimpert.perturbation.curved_classes import CurvedClasses, fanned
from tests.ssimpert.perturbation.linear_classifier import TwoClasses, grey

OWN = torch.tensor([0])


def margin_at(model: CurvedClasses, images: Tensor) -> float:
    return float(Untargeted()(forward(model, images), OWN))


def aside(model: CurvedClasses, length: float = 0.3) -> Tensor:
    """A perturbation beyond the border, away from its nearest point."""
    share = torch.linspace(2, 0, 8, dtype=torch.float64) / 8**0.5
    return length * torch.einsum("k,kchw->chw", share, model.basis.detach())[None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_cut_ends_just_beyond_the_border(dtype: torch.dtype) -> None:
    model, image = fanned(grey(), -3, 10, 0.1), grey().to(dtype)
    whole = aside(model)
    goal = Goal(model, OWN, Untargeted())
    cut, reached = shorten_to_boundary(goal, image, image + whole, goal.decide(image).margin)
    assert bool(reached)
    assert torch.equal((image.double() + cut).to(dtype).double(), image.double() + cut)
    assert margin_at(model, image.double() + cut) > 0
    share = float(cut.norm() / whole.norm())
    assert share < 1 - SHARE_RESOLUTION
    assert margin_at(model, image.double() + (1 - SHARE_RESOLUTION / share - 1e-5) * cut) < 0


def test_a_cut_leaves_room_for_the_rounding_of_logits() -> None:
    """Along a nearly linear margin false position would end at 1e-8 of a logit, on whichever side a batch rounds to."""
    image = grey(8).float()
    model = TwoClasses(offset=0.0).float()
    model.offset = float(model(image)[:, 1].max()) + 0.1
    goal = Goal(model, torch.zeros(8, dtype=torch.long), Untargeted())
    perturbed = image.double() + 0.5 * model.weight.double()
    cut, reached = shorten_to_boundary(goal, image, perturbed, goal.decide(image).margin)
    margin = goal.decide(image.double() + cut).margin
    assert bool(reached.all())
    assert float(margin.min()) > 8 * torch.finfo(torch.float32).eps


def test_a_cut_returns_whole_what_does_not_reach_the_border() -> None:
    model, image = fanned(grey(), -3, 10, 0.1), grey()
    short = aside(model, 1e-3)
    goal = Goal(model, OWN, Untargeted())
    cut, reached = shorten_to_boundary(goal, image, image + short, goal.decide(image).margin)
    assert not bool(reached)
    torch.testing.assert_close(cut, short, rtol=0, atol=1e-12)


def test_a_walk_ends_at_the_borders_nearest_point() -> None:
    image = grey()
    model = fanned(image, -3, 10, 0.1)
    goal = Goal(model, OWN, Untargeted())
    clean_margin = goal.decide(image).margin
    delta, reached = shorten_to_boundary(goal, image, image + aside(model), clean_margin)
    assert bool(reached)
    level = delta.flatten(1).norm(dim=1)
    exact = model.least_norm(0)
    assert float(level) > 1.05 * exact
    attempt = Attempt([family_of(LpBall(2, 1.0))], 10, "projected_gradient", "auto", solvers.Settings())
    walk = BoundaryWalk(attempt, goal, goal, image, clean_margin, torch.tensor([0]))
    points = BoundaryPoints(delta, level.clone(), torch.zeros(1, dtype=torch.long), [])
    walk.run(points, steps=20, tolerance=0.005)
    assert exact <= float(points.level) <= 1.005 * exact
    assert float(points.delta.norm()) == pytest.approx(float(points.level), rel=1e-6)
    assert margin_at(model, image + points.delta) > 0
    assert len(points.history) == int(points.steps) <= 20
