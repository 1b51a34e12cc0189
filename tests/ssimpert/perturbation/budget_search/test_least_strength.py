"""The least strength of a method that is run anew at every strength, on a classifier with closed-form answers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import solvers
import ssimpert
from ssimpert.errors import InputError
from ssimpert.perturbation.budget_search.least_strength import least_strength
from ssimpert.perturbation.results import PerturbResult
from tests.ssimpert.perturbation.linear_classifier import TwoClasses, grey, score

IMAGES = grey(3)
# The nearest image of class 1 is as far as the score is below 0, since |w| = 1.
MODEL = TwoClasses(float(TwoClasses(0.0)(IMAGES)[:, 1].detach().max()) + 0.02)
DISTANCE = (-score(MODEL, IMAGES).detach()).tolist()


def l2_step(image: Tensor, radius: float) -> PerturbResult:
    return ssimpert.perturb(MODEL, image, solvers.LpBall(2, radius), steps=1)


@pytest.mark.parametrize("first", [1e-2, 5.0])
def test_the_least_radius_is_the_distance_from_the_boundary(first: float) -> None:
    found = least_strength(l2_step, IMAGES, first, unit="radius", rounds=30, tolerance=0.05)
    assert bool(found.success.all())
    for level, failed, distance in zip(found.level.tolist(), found.failed_level.tolist(), DISTANCE, strict=True):
        assert failed < distance <= level * (1 + 1e-6)
        assert level <= 1.06 * failed
    assert found.settings["level"] == "radius"
    assert torch.allclose(found.delta.flatten(1).norm(dim=1), found.level, rtol=0.06)


def test_a_success_that_needs_less_than_was_tried_closes_the_bracket_sooner() -> None:
    """The perturbations are drawn back, so that the first success is at the least radius already."""
    radii: list[float] = []

    def drawn_back(image: Tensor, radius: float) -> PerturbResult:
        radii.append(radius)
        return ssimpert.perturb(MODEL, image, solvers.LpBall(2, radius), steps=1, shrink=True)

    options = {"unit": "radius", "rounds": 30, "tolerance": 0.05}
    found = least_strength(drawn_back, IMAGES[:1], 5.0, needed=lambda result: float(result.delta.norm()), **options)
    assert float(found.level) == pytest.approx(DISTANCE[0], rel=0.05)
    assert float(found.level) == float(found.delta.norm())
    assert float(found.failed_level) < DISTANCE[0]
    count = len(radii)
    least_strength(drawn_back, IMAGES[:1], 5.0, **options)
    assert count < len(radii) - count


def test_an_image_is_searched_by_itself() -> None:
    options = {"unit": "radius", "rounds": 6, "tolerance": 0.01}
    whole = least_strength(l2_step, IMAGES, 0.01, **options)
    for k in range(3):
        alone = least_strength(l2_step, IMAGES[k : k + 1], 0.01, **options)
        assert torch.equal(alone.adversarial, whole.adversarial[k : k + 1])
        assert float(alone.level) == float(whole.level[k])


def test_what_never_succeeds_has_no_level_and_what_needs_nothing_level_0() -> None:
    found = least_strength(l2_step, IMAGES[:1], 1e-9, unit="radius", rounds=2)
    assert math.isnan(float(found.level))
    assert found.messages[0] == "no level up to 4e-09 changes the decision"
    assert int(found.rounds) == 2
    reached = least_strength(
        lambda image, radius: ssimpert.perturb(MODEL, image, solvers.LpBall(2, radius), label=torch.tensor([1])),
        IMAGES[:1],
        0.1,
        unit="radius",
    )
    assert (float(reached.level), int(reached.rounds)) == (0.0, 1)


def test_settings_that_differ_from_image_to_image_become_lists() -> None:
    found = least_strength(l2_step, IMAGES, 0.01, unit="radius", rounds=6, tolerance=0.01)
    radii = [entry["radius"] for entry in found.settings["constraint"]]
    assert radii == found.level.tolist()
    for options, message in (
        ({"first": 0.0}, "first must be positive"),
        ({"rounds": 0}, "rounds must be"),
        ({"tolerance": 1.0}, "tolerance must"),
    ):
        with pytest.raises(InputError, match=message):
            least_strength(l2_step, IMAGES, **({"first": 1.0, "unit": "radius"} | options))
