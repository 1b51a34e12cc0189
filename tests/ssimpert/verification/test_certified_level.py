"""``certified_level`` on a network whose least level is known, beside ``minimal_budget``."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import solvers
import ssimpert
from ssimpert.errors import InputError
from ssimpert.verification import outer_index_set
from ssimpert.verification.index_sets import index_held

SIDE = 12


def network_and_image() -> tuple[nn.Module, torch.Tensor]:
    """A network of ReLUs that are all on: its margin is ``w'd + 0.6`` with a w of length 3."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(SIDE * SIDE, generator=generator, dtype=torch.float64)
    w = 3 * w / w.norm()
    first, second = nn.Linear(SIDE * SIDE, 1), nn.Linear(1, 2)
    image = torch.full((1, 1, SIDE, SIDE), 0.5, dtype=torch.float64)
    with torch.no_grad():
        first.double().weight.copy_(w[None])
        first.bias.fill_(10 - float(w.sum()) * 0.5)
        second.double().weight.copy_(torch.tensor([[1.0], [0.0]]))
        second.bias.copy_(torch.tensor([-9.4, 0.0]))
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second).eval(), image


def test_bisection_ends_just_below_the_true_least_level() -> None:
    model, image = network_and_image()
    # The margin vanishes at d = -0.2 w/|w|: the least l2 level is 0.2.
    seen: list[float] = []
    result = ssimpert.certified_level(
        model,
        image,
        solvers.LpBall(2, 0.01),
        effort="cheap",
        tolerance=0.02,
        rounds=20,
        observer=lambda number, count, level, verified: seen.append(level),
    )
    level, unverified = float(result.level[0]), float(result.unverified_level[0])
    assert level <= 0.2 <= unverified
    assert unverified <= 1.03 * level
    assert len(seen) == int(result.rounds[0])
    assert seen[0] == 0.01
    assert math.isnan(float(result.found_level[0]))
    assert "l2 distance" in result.sentence[0]


def test_found_level_is_the_other_end_of_the_bracket() -> None:
    model, image = network_and_image()
    ball = solvers.LpBall(2, 0.5)
    found = ssimpert.minimal_budget(model, image, ball, steps=4, rounds=8)
    result = ssimpert.certified_level(model, image, ball, found=found, effort="cheap", tolerance=0.1, rounds=8)
    assert float(result.level[0]) <= 0.2 <= float(result.found_level[0])
    assert float(result.ratio[0]) < 1.2
    assert float(result.found_level[0]) == float(found.level[0])
    with pytest.raises(InputError, match="found has the level 'radius', the constraint '1 - SSIM"):
        ssimpert.certified_level(model, image, solvers.ProductSSIM(0.9), found=found)
    with pytest.raises(InputError, match="found has 1 images, image has 2"):
        ssimpert.certified_level(model, image.repeat(2, 1, 1, 1), ball, found=found)


def test_no_verified_level_is_said() -> None:
    model, image = network_and_image()
    result = ssimpert.certified_level(model, image, solvers.LpBall(2, 0.9), effort="cheap", rounds=1)
    assert result.level.tolist() == [0.0]
    assert result.sentence == ("No level was verified.",)
    (row,) = result.rows()
    assert row["unverified_level"] == 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tolerance": 1.5}, "tolerance must lie strictly between 0 and 1"),
        ({"rounds": 0}, "rounds must be an integer of at least 1"),
        ({"found": 0.1}, "found must be what minimal_budget returned"),
        ({"constraint": solvers.Box(0, 1)}, "has no level to look for"),
    ],
)
def test_options_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    model, image = network_and_image()
    arguments: dict[str, object] = {"constraint": solvers.LpBall(2, 0.1)} | changes
    with pytest.raises(InputError, match=message):
        ssimpert.certified_level(model, image, **arguments)


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.99, 0.9999])
def test_outer_set_holds_its_index_and_the_sentence_says_which_one_a_set_holds(threshold: float) -> None:
    outer = outer_index_set(threshold)
    assert 1 - outer.alpha <= threshold
    assert 1 - outer.beta <= threshold
    assert index_held(outer) == pytest.approx(threshold, abs=1e-12)
    # The default luminance leaves the set far inside its own threshold.
    assert index_held(solvers.WindowSSIM(0.95)) == pytest.approx(0.999)
    with pytest.raises(InputError, match="threshold must lie strictly between 0 and 1"):
        outer_index_set(1.0)


def test_images_of_an_index_lie_in_its_outer_set() -> None:
    generator = torch.Generator().manual_seed(3)
    window = solvers.Window.uniform(4)
    image = 0.2 + 0.6 * torch.rand(1, 1, 9, 9, generator=generator, dtype=torch.float64)
    reference = image.expand(200, -1, -1, -1).contiguous()
    delta = torch.randn(200, 1, 9, 9, generator=generator, dtype=torch.float64)
    exact, outer = solvers.ProductSSIM(0.9, window), outer_index_set(0.9, window)
    index = exact.bind(reference)
    delta = delta * index.scale_factor(delta)[:, None, None, None]  # onto the surface of the exact set
    assert float(index.excess(delta).max()) < 1e-9
    assert float(outer.bind(reference).excess(delta).max()) <= 1e-9
