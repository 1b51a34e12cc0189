"""``perceptual_ball_constrained``: certified steps within a ball of true feature distance."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ssimpert
from ssimpert import InputError
from ssimpert.linearization import deep_features


class Small(nn.Module):
    """Two convolutions, whose outputs are the features, and a linear head; smooth."""

    def __init__(self, size: int = 16, classes: int = 5) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.SiLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.SiLU())
        self.head = nn.Linear(8 * (size // 4) ** 2, classes)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).flatten(1))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Small().double().requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> Tensor:
    photos = [ssimpert.load_image(name, size=64)[..., 20:36, 20:36] for name in ("chelsea", "coffee", "rocket")]
    return torch.cat(photos).double()


LAYERS = ("body.1", "body.3")
RADII = torch.tensor([0.02, 0.05, 0.1], dtype=torch.float64)


def run(model: nn.Module, images: Tensor, radius: Any, **options: Any) -> ssimpert.FeatureBallResult:
    return ssimpert.perceptual_ball_constrained(model, images, radius, layers=LAYERS, **options)


@pytest.fixture(scope="module")
def pushed(model: nn.Module, images: Tensor) -> ssimpert.FeatureBallResult:
    """Three steps within RADII: several tests look at them."""
    return run(model, images, RADII, stop_at_success=False, steps=3)


def distance_by_hand(model: Any, first: Tensor, second: Tensor) -> Tensor:
    """Unit-channel features of LAYERS by running the layers one after the other."""
    total = torch.zeros(len(first), dtype=first.dtype)
    one, two = first, second
    for number, layer in enumerate(model.body):
        one, two = layer(one), layer(two)
        if f"body.{number}" in LAYERS:
            a, b = one / one.norm(dim=1, keepdim=True), two / two.norm(dim=1, keepdim=True)
            total += (a - b).square().flatten(1).sum(dim=1) / (one.shape[2] * one.shape[3])
    return total.sqrt()


def test_margin_rises_and_the_true_feature_distance_holds(
    model: nn.Module, images: Tensor, pushed: ssimpert.FeatureBallResult
) -> None:
    result = pushed
    distance = distance_by_hand(model, images, result.adversarial)
    torch.testing.assert_close(result.feature_distance, distance, rtol=1e-9, atol=1e-12)
    assert bool((distance <= RADII + 1e-12).all())
    assert bool((distance > 0.5 * RADII).all())  # and the budget is used
    assert bool((result.margin_after > result.margin_before).all())
    assert float(result.violation.max()) == 0
    assert float(result.adversarial.min()) >= 0
    assert float(result.adversarial.max()) <= 1
    assert result.layers == LAYERS


def test_every_step_is_certified_and_no_step_lowers_the_margin(pushed: ssimpert.FeatureBallResult) -> None:
    for image in range(3):
        rows: list[Any] = [row for row in pushed.history if row["image"] == image]
        assert rows
        assert all(row["status"] == "optimal" and row["rel_gap"] <= 0.03 for row in rows)
        margins = [float(pushed.margin_before[image]), *(row["margin"] for row in rows)]
        assert margins == sorted(margins)


def test_more_distance_gains_more_margin(model: nn.Module, images: Tensor, pushed: ssimpert.FeatureBallResult) -> None:
    ends = torch.tensor([0, 2])
    swapped = run(model, images[ends], RADII[ends].flip(0), stop_at_success=False, steps=3)
    assert float(swapped.margin_after[0]) > float(pushed.margin_after[0])
    assert float(swapped.margin_after[1]) < float(pushed.margin_after[2])


def test_batch_gives_what_single_images_give(
    model: nn.Module, images: Tensor, pushed: ssimpert.FeatureBallResult
) -> None:
    for k in (0, 2):
        single = run(model, images[k : k + 1], float(RADII[k]), stop_at_success=False, steps=3)
        torch.testing.assert_close(single.margin_after[0], pushed.margin_after[k], rtol=0.02, atol=1e-3)


def test_image_that_reached_its_goal_stops(model: nn.Module, images: Tensor) -> None:
    result = run(model, images, 0.3, steps=20)
    assert bool(result.success.all())
    assert bool((result.label_after != result.label_before).all())
    for image in range(3):
        last = max(row["step"] for row in result.history if row["image"] == image)
        assert int(result.steps[image]) <= last < 20


def test_radius_may_come_from_the_penalty_method(model: nn.Module, images: Tensor) -> None:
    ball = ssimpert.perceptual_ball_lbfgs(model, images[:1], layers=LAYERS, iterations=20)
    result = run(model, images[:1], ball.feature_distance, normalization="mse", stop_at_success=False, steps=5)
    assert float(result.feature_distance) <= float(ball.feature_distance) + 1e-12
    features = deep_features(model, LAYERS, "mse")
    by_features = (features(ball.adversarial) - features(images[:1])).norm()
    assert float(ball.feature_distance) == pytest.approx(float(by_features), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0.0}, "radius must be positive and finite, got 0.0"),
        ({"radius": float("nan")}, "radius must be positive and finite, got nan"),
        ({"radius": torch.ones(2)}, r"one per image \(3,\), got \(2,\)"),
        ({"radius": "large"}, "radius must be a positive number or one per image, got 'large'"),
        ({"radius": 0.1, "steps": 0}, "steps must be an integer of at least 1, got 0"),
        ({"radius": 0.1, "step_norm": -1.0}, "step_norm must be positive and finite, got -1.0"),
        ({"radius": 0.1, "normalization": "unit"}, "unknown normalization 'unit'"),
    ],
)
def test_options_out_of_range_are_refused_with_their_value(
    options: dict[str, Any], message: str, model: nn.Module, images: Tensor
) -> None:
    with pytest.raises(InputError, match=message):
        run(model, images, **options)


def test_unknown_layer_lists_near_names(model: nn.Module, images: Tensor) -> None:
    with pytest.raises(InputError, match=r"body\.3"):
        ssimpert.perceptual_ball_constrained(model, images, 0.1, layers=["body.33"])


def test_saturated_network_stops_with_a_message(images: Tensor) -> None:
    model = Small().double().requires_grad_(False)
    model.head.weight.zero_()
    result = run(model, images, 0.1, steps=3)
    assert all("gradient is zero everywhere" in message for message in result.messages)
    torch.testing.assert_close(result.adversarial, images)
