"""``verify`` against bounds computed by hand, and what it promises and refuses."""

from __future__ import annotations

import math
import time

import pytest
import torch
from torch import Tensor, nn

import solvers
import ssimpert
from ssimpert.errors import InputError
from ssimpert.verification import Verdict, outer_index_set

PIXELS = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64)


def two_layers(constant: float) -> nn.Sequential:
    """``f_0 = relu(x_1 + x_2 - 1) - relu(x_1 - x_2) + constant`` and ``f_1 = 0``."""
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        first.bias.copy_(torch.tensor([-1.0, 0.0]))
        second.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
        second.bias.copy_(torch.tensor([constant, 0.0]))
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second).double().eval()


def bound_of(constraint: solvers.LpBall, effort: str) -> float:
    result = ssimpert.verify(
        two_layers(1.0),
        PIXELS,
        constraint,
        effort=effort,
        attack=False,
        stop_when_decided=False,
        settings={"eps_rel": 1e-12, "max_iter": 5000},
    )
    return float(result.bound[0])


# By hand: within radius r both inputs z of the ReLUs lie in [-2 r, 2 r] over the pixels. CROWN takes 0 below the first
# (the slope of an interval around 0 is 0) and (z + 2 r)/2 above the second.


def test_bound_over_the_linf_ball_is_the_hand_computed_one() -> None:
    # 1 - (max z_2 + 2 r)/2 = 1 - 2 r, and the true minimum is 1 - 2 r too.
    assert bound_of(solvers.LpBall(torch.inf, 0.1), "cheap") == pytest.approx(1 - 0.2, abs=1e-9)


def test_cheap_bound_over_the_l2_ball_minimises_the_last_line_over_the_ball() -> None:
    # The lines rest on the pixels, [-2 r, 2 r]; the minimum over the ball has max z_2 = r sqrt(2).
    assert bound_of(solvers.LpBall(2, 0.1), "cheap") == pytest.approx(1 - (0.1 * math.sqrt(2) + 0.2) / 2, abs=1e-9)


def test_standard_bound_over_the_l2_ball_is_the_true_minimum() -> None:
    # With z_2 in [-r sqrt(2), r sqrt(2)], from the ball itself, the line meets the ReLU where the ball ends.
    assert bound_of(solvers.LpBall(2, 0.1), "standard") == pytest.approx(1 - 0.1 * math.sqrt(2), abs=1e-9)


def test_slopes_are_optimised_per_class() -> None:
    # f_0 - f_1 = relu(z_1) + 1 - z_1/2 with z_1 = d_1 + d_2 in [-1/5, 1/5]: minimum 9/10 at z_1 = 1/5, or 1 at 0.
    # With the slope 0 the bound is 1 - 1/10; with 1 it is 1 + z_1/2 >= 9/10; with 1/2 it is 1, the true minimum.
    model = two_layers(1.0)
    with torch.no_grad():
        model[3].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        model[1].weight[1] = 0
    with_skip = SumOfBoth(model, -0.5)
    for effort, expected in (("cheap", 0.9), ("standard", 1.0)):
        result = ssimpert.verify(
            with_skip, PIXELS, solvers.LpBall(torch.inf, 0.1), effort=effort, attack=False, stop_when_decided=False
        )
        assert float(result.bound[0]) == pytest.approx(expected, abs=0.01 if effort == "standard" else 1e-9)


class SumOfBoth(nn.Module):
    """The logits of a network, plus ``factor (x_1 + x_2 - 1)`` on class 0."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.skip = network, nn.Linear(2, 2).double()
        with torch.no_grad():
            self.skip.weight.copy_(torch.tensor([[factor, factor], [0.0, 0.0]]))
            self.skip.bias.copy_(torch.tensor([-factor, 0.0]))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images) + self.skip(images.flatten(1))


def test_verdicts_say_whether_the_decision_can_change() -> None:
    # The true minimum over the linf ball is constant - 2 r, and the bound is the same.
    images = PIXELS.repeat(2, 1, 1, 1)
    verified = ssimpert.verify(two_layers(1.0), images, solvers.LpBall(torch.inf, 0.1), attack=False)
    assert verified.verdict == (Verdict.VERIFIED, Verdict.VERIFIED)
    assert bool(verified.verified.all())
    assert torch.equal(verified.adversarial, images)
    falsified = ssimpert.verify(two_layers(0.1), PIXELS, solvers.LpBall(torch.inf, 0.1), attack=False)
    assert falsified.verdict == (Verdict.FALSIFIED,)
    moved = falsified.adversarial
    assert int(two_layers(0.1)(moved).argmax()) == int(falsified.adversarial_label) == 1
    assert float((moved - PIXELS).abs().max()) <= 0.1 + 1e-12
    assert float(falsified.bound) <= float(falsified.least_margin_found) < 0


def test_result_has_a_bound_for_every_class_and_plain_rows() -> None:
    result = ssimpert.verify(two_layers(1.0), PIXELS, solvers.LpBall(2, 0.05), attack=False)
    assert result.class_bound.shape == (1, 2)
    assert float(result.class_bound[0, 0]) == math.inf
    assert float(result.class_bound[0, 1]) == float(result.bound)
    (row,) = result.rows()
    assert row["verdict"] == "verified"
    assert row["tightest_class"] == 1
    assert row["sentence"] == "No image within an l2 distance of 0.05 changes the decision, up to float64 rounding."
    assert "1 of 1 image verified" in str(result)


class Photo(nn.Module):
    """A small convolutional network on grey 12x12 images that decides by the mean: class 1 for bright images."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
        with torch.no_grad():
            for parameter in self.body.parameters():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


PHOTO = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.25
WINDOW = solvers.Window.uniform(4, stride=2)
TILES = solvers.Window.uniform(4, stride=4)

SETS = {
    "WindowSSIM": solvers.WindowSSIM(0.95, WINDOW),
    "ProductSSIM": solvers.ProductSSIM(0.95, WINDOW),
    "outer set": outer_index_set(0.95, WINDOW),
    "MeanSSIM on tiles": solvers.MeanSSIM(0.99, TILES),
    "GlobalSSIM": solvers.GlobalSSIM(0.05),
    "l2": solvers.LpBall(2, 0.3),
    "linf": solvers.LpBall(torch.inf, 0.02),
    "intersection": solvers.Intersection([solvers.WindowSSIM(0.95, WINDOW), solvers.LpBall(2, 0.5)]),
}


@pytest.mark.parametrize("kind", SETS)
def test_no_perturbation_of_any_set_lies_below_the_bound(kind: str) -> None:
    constraint, model = SETS[kind], Photo()
    result = ssimpert.verify(model, PHOTO, constraint, effort="cheap", attack=False, stop_when_decided=False)
    label, generator = int(result.label), torch.Generator().manual_seed(2)
    delta = torch.randn(64, 1, 12, 12, generator=generator, dtype=torch.float64)
    leaf = PHOTO.clone().requires_grad_(True)
    logits = model(leaf)
    (gradient,) = torch.autograd.grad(logits[0, label] - logits[0, 1 - label], leaf)
    delta[:8] = -gradient.double() * torch.rand(8, 1, 1, 1, generator=generator)
    reference = PHOTO.double().expand(64, -1, -1, -1)
    problem = solvers.LinearProblem(delta, reference.contiguous(), [constraint, solvers.Box(0, 1)])
    delta = solvers.certify(problem, delta).delta  # moved into the set
    sets = [entry.bind(reference) for entry in problem.constraints]
    assert max(float(bound_set.excess(delta).max()) for bound_set in sets) < 1e-9
    logits = Photo().double()(reference + delta).detach()
    margins = logits[:, label] - logits[:, 1 - label]
    assert float(margins.min()) >= float(result.bound)
    assert float(margins.min()) < float(result.margin)
    assert math.isfinite(float(result.bound))


def test_efforts_only_raise_the_bound() -> None:
    bounds = [
        float(
            ssimpert.verify(
                Photo(), PHOTO, solvers.WindowSSIM(0.5, WINDOW), effort=effort, attack=False, stop_when_decided=False
            ).bound
        )
        for effort in ("cheap", "standard")
    ]
    assert bounds[0] < bounds[1]


def test_attack_falsifies_with_an_image_of_the_set() -> None:
    model, constraint = Photo(), solvers.LpBall(2, 3.0)
    result = ssimpert.verify(model, PHOTO, constraint)
    assert result.verdict == (Verdict.FALSIFIED,)
    moved = result.adversarial
    assert int(model(moved).argmax()) != int(result.label)
    assert float((moved - PHOTO).norm()) <= 3.0 + 1e-5
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    assert result.sentence[0] == "An image within an l2 distance of 3 changes the decision."


def test_support_limits_where_pixels_change() -> None:
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[:4] = True
    everywhere = ssimpert.verify(Photo(), PHOTO, SETS["l2"], attack=False, effort="cheap", stop_when_decided=False)
    inside = ssimpert.verify(
        Photo(), PHOTO, SETS["l2"], attack=False, effort="cheap", support=mask, stop_when_decided=False
    )
    assert float(inside.bound) > float(everywhere.bound)
    assert "support" in inside.sentence[0]


def test_time_limit_returns_the_best_bound_so_far() -> None:
    result = ssimpert.verify(Photo(), PHOTO, solvers.WindowSSIM(0.1, WINDOW), time_limit=1e-9, attack=False)
    assert result.verdict == (Verdict.UNKNOWN,)
    assert result.messages == ("the time limit was reached",)
    assert math.isfinite(float(result.bound))


def test_an_image_that_ended_in_time_has_no_message_however_long_the_next_one_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, passed = time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + passed[0])

    def let_time_pass(number: int, what: str, bound: float) -> None:
        passed[0] = 1000.0 * number

    images = PIXELS.repeat(2, 1, 1, 1)
    ball = solvers.LpBall(torch.inf, 0.1)
    result = ssimpert.verify(two_layers(1.0), images, ball, attack=False, time_limit=500, observer=let_time_pass)
    assert result.messages == ("", "the time limit was reached")


def test_feature_ball_within_a_ball_is_verified() -> None:
    model = Photo()
    jacobian = ssimpert.feature_jacobian(ssimpert.deep_features(model, layers=["body.0"]), PHOTO)
    constraint = solvers.Intersection([solvers.FeatureBall(0.01, jacobian), solvers.LpBall(2, 0.2)])
    result = ssimpert.verify(model, PHOTO, constraint, effort="cheap", attack=False)
    assert result.verdict == (Verdict.VERIFIED,)
    assert "features are linearised" in result.sentence[0]


# -- what is refused ----------------------------------------------------------------------------------------------


REFUSED = {
    "overlapping mean": ({"constraint": solvers.MeanSSIM(0.99, WINDOW)}, "MeanSSIM on overlapping windows"),
    "no set": ({"constraint": 0.5}, "constraint must be a set"),
    "unknown effort": ({"effort": "huge"}, "unknown effort 'huge'"),
    "misclassified": ({"label": torch.tensor([0])}, r"image 0 is classified as 1, not as its label 0"),
    "memory": ({"memory_limit": 1000}, "memory_limit 1000 is too small: one row"),
    "no time": ({"time_limit": 0}, "time_limit must be positive"),
    "label of another shape": ({"label": torch.tensor([1, 1])}, "label must be a long tensor"),
    "pixels": ({"image": PHOTO + 1}, r"must lie in \[0, 1\]"),
    "small photo": ({"image": PHOTO[..., :5, :5]}, "5x5 pixels"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_bad_input_is_refused_in_one_line(kind: str) -> None:
    changes, message = REFUSED[kind]
    arguments = {"image": PHOTO, "constraint": SETS["l2"]} | changes
    with pytest.raises(InputError, match=message) as caught:
        ssimpert.verify(Photo(), **arguments)
    assert "\n" not in str(caught.value)


def test_training_mode_is_refused() -> None:
    with pytest.raises(InputError, match="is in training mode"):
        ssimpert.verify(Photo().train(), PHOTO, SETS["l2"])


def test_outputs_that_are_no_logits_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3)).eval()
    with pytest.raises(InputError, match="must return logits"):
        ssimpert.verify(model, PHOTO, SETS["l2"])
    with pytest.raises(InputError, match=r"'1' \(Softmax\) has no propagation rule"):
        ssimpert.verify(nn.Sequential(Photo(), nn.Softmax(1)).eval(), PHOTO, SETS["l2"])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(mode: type[torch.no_grad] | type[torch.inference_mode]) -> None:
    expected = ssimpert.verify(Photo(), PHOTO, SETS["l2"], attack=False, stop_when_decided=False)
    with mode():
        got = ssimpert.verify(Photo(), PHOTO.clone(), SETS["l2"], attack=False, stop_when_decided=False)
    assert torch.equal(got.class_bound, expected.class_bound)
    assert not got.class_bound.is_inference()


def test_callers_images_and_weights_do_not_change() -> None:
    model, image = Photo(), PHOTO.clone()
    before = [parameter.clone() for parameter in model.parameters()]
    ssimpert.verify(model, image, SETS["WindowSSIM"], effort="thorough", attack=True)
    assert torch.equal(image, PHOTO)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
