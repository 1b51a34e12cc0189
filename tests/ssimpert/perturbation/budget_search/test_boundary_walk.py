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
from ssimpert.perturbation.budget_search.boundary_cut import RESOLUTION, cut_to_border
from ssimpert.perturbation.budget_search.boundary_walk import Border, BorderWalk
from ssimpert.perturbation.budget_search.levels import family_of
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
    clean = Untargeted()(forward(model, image), OWN)
    cut, reached = cut_to_border(model, image, image + whole, OWN, Untargeted(), clean)
    assert bool(reached)
    assert torch.equal((image.double() + cut).to(dtype).double(), image.double() + cut)
    assert margin_at(model, image.double() + cut) > 0
    share = float(cut.norm() / whole.norm())
    assert share < 1 - RESOLUTION
    assert margin_at(model, image.double() + (1 - RESOLUTION / share - 1e-5) * cut) < 0


def test_a_cut_leaves_room_for_the_rounding_of_logits() -> None:
    """Along a nearly linear margin false position would end at 1e-8 of a logit, on whichever side a batch rounds to."""
    image = grey(8).float()
    model = TwoClasses(offset=0.0).float()
    model.offset = float(model(image)[:, 1].max()) + 0.1
    clean = Untargeted()(model(image), torch.zeros(8, dtype=torch.long))
    moved = image.double() + 0.5 * model.weight.double()
    cut, reached = cut_to_border(model, image, moved, torch.zeros(8, dtype=torch.long), Untargeted(), clean)
    margin = Untargeted()(forward(model, image.double() + cut), torch.zeros(8, dtype=torch.long))
    assert bool(reached.all())
    assert float(margin.min()) > 8 * torch.finfo(torch.float32).eps


def test_a_cut_returns_whole_what_does_not_reach_the_border() -> None:
    model, image = fanned(grey(), -3, 10, 0.1), grey()
    short = aside(model, 1e-3)
    clean = Untargeted()(forward(model, image), OWN)
    cut, reached = cut_to_border(model, image, image + short, OWN, Untargeted(), clean)
    assert not bool(reached)
    torch.testing.assert_close(cut, short, rtol=0, atol=1e-12)


def test_a_walk_ends_at_the_borders_nearest_point() -> None:
    image = grey()
    model = fanned(image, -3, 10, 0.1)
    clean = Untargeted()(forward(model, image), OWN)
    delta, reached = cut_to_border(model, image, image + aside(model), OWN, Untargeted(), clean)
    assert bool(reached)
    level = delta.flatten(1).norm(dim=1)
    exact = model.least_norm(0)
    assert float(level) > 1.05 * exact
    attempt = Attempt(model, [family_of(LpBall(2, 1.0))], 10, "projected_gradient", "auto", solvers.Settings())
    walk = BorderWalk(attempt, image, OWN, Untargeted(), clean, Untargeted(), OWN, torch.tensor([0]))
    border = Border(delta, level.clone(), torch.zeros(1, dtype=torch.long), [])
    walk.run(border, steps=20, tolerance=0.005)
    assert exact <= float(border.level) <= 1.005 * exact
    assert float(border.delta.norm()) == pytest.approx(float(border.level), rel=1e-6)
    assert margin_at(model, image + border.delta) > 0
    assert len(border.history) == int(border.steps) <= 20
