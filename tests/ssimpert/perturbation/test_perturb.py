"""Perturbations of a linear classifier with a closed-form answer, and of real photos."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import solvers
import ssimpert
from ssimpert.errors import InputError
from ssimpert.models import Classifier
from ssimpert.perturbation import l2_control, perturb
from ssimpert.perturbation.baselines.l2_control import CONTROL_NAME, seed_radius
from tests.ssimpert.perturbation.curved_classes import CurvedClasses
from tests.ssimpert.perturbation.linear_classifier import TwoClasses, grey, score


def numpy_contrast_distance(x: np.ndarray, y: np.ndarray) -> float:
    """d2 of methods B, in the paper's pixels [-1, 1], with nothing of ours."""
    a, b = 2 * x.astype(np.float64) - 1, 2 * y.astype(np.float64) - 1
    a, b = a - a.mean(), b - b.mean()
    s2 = (2 * (a * b).sum() + 9e-4) / ((a**2).sum() + (b**2).sum() + 9e-4)
    return float(np.sqrt(max(1 - s2, 0)))


# -- against closed forms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_l2_ball_reaches_the_closed_form_margin(count: int) -> None:
    model, image = TwoClasses(offset=5.0), grey(count)
    result = perturb(model, image, solvers.LpBall(2, 0.7), stop_at_success=False, steps=3)
    # |w| = 1 and no pixel reaches the box: the best margin is the clean one plus the radius.
    torch.testing.assert_close(result.margin_after, score(model, image) + 0.7)
    assert result.stationarity_gap.abs().max() < 1e-9


def test_global_ssim_reaches_the_closed_form_margin() -> None:
    model, image, distance = TwoClasses(offset=5.0), grey(), 0.05
    result = perturb(model, image, solvers.GlobalSSIM(distance), stop_at_success=False, steps=3)
    x = 2 * image - 1
    centred, direction = x - x.mean(), model.weight - model.weight.mean()
    s = distance**2
    radius = (centred.square().sum() * (1 / (1 - s) ** 2 - 1) + 9e-4 * s / (1 - s)).sqrt()
    step = s / (1 - s) * centred + radius * direction / direction.norm()
    expected = score(model, image) + (model.weight * step / 2).sum()
    torch.testing.assert_close(result.margin_after, expected, rtol=1e-7, atol=1e-9)


def test_recentred_l2_moves_a_radius_a_step() -> None:
    model, image = TwoClasses(offset=5.0), grey()
    result = perturb(model, image, solvers.LpBall(2, 0.05), recentred=True, stop_at_success=False, steps=4)
    torch.testing.assert_close(result.margin_after, score(model, image) + 0.2)
    assert result.steps.tolist() == [4]


def test_an_image_stops_at_success_and_stays_untouched() -> None:
    model, image = TwoClasses(offset=0.0), grey(2)
    with torch.no_grad():
        image[1] -= 0.1 * model.weight  # one needs more steps than the other
        model.offset = float(score(model, image).max()) + 0.01
    together = perturb(model, image, solvers.LpBall(2, 0.02), recentred=True, steps=40)
    assert together.success.all()
    assert together.steps[0] != together.steps[1]
    for k in range(2):
        alone = perturb(model, image[k : k + 1], solvers.LpBall(2, 0.02), recentred=True, steps=40)
        torch.testing.assert_close(together.adversarial[k], alone.adversarial[0], rtol=0, atol=1e-12)
        assert together.steps[k] == alone.steps[0]


def test_failures_are_returned_with_their_last_iterate() -> None:
    model, image = TwoClasses(offset=50.0), grey()
    result = perturb(model, image, solvers.LpBall(2, 0.1), steps=2)
    assert not result.success.any()
    assert result.delta.norm() > 0.05


def test_an_image_that_has_its_goal_already_is_left_alone() -> None:
    model, image = TwoClasses(offset=50.0), grey()
    result = perturb(model, image, solvers.LpBall(2, 0.1), label=torch.tensor([1]))
    assert result.success.all()
    assert result.delta.abs().max() == 0
    assert result.steps.tolist() == [0]


def test_same_call_same_result_bit_for_bit() -> None:
    model, image = TwoClasses(offset=5.0), grey(2)
    first, second = (perturb(model, image, solvers.GlobalSSIM(0.02), steps=3) for _ in range(2))
    assert torch.equal(first.adversarial, second.adversarial)


def test_the_callers_images_are_never_changed() -> None:
    model, image = TwoClasses(offset=5.0), grey(2)
    before = image.clone()
    perturb(model, image, solvers.LpBall(2, 0.5), steps=2)
    perturb(model, image, solvers.LpBall(2, 0.5), recentred=True, steps=2)
    assert torch.equal(image, before)


# -- on real photos ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(model: Classifier) -> Tensor:
    return torch.cat([ssimpert.load_image(name, size=112) for name in ("chelsea", "coffee", "camera", "rocket")])


def test_recentred_global_ssim_flips_every_photo_within_twenty_times_e(
    model: Classifier, photos: Tensor, tmp_path: Path
) -> None:
    result = perturb(model, photos, solvers.GlobalSSIM(0.005), recentred=True, steps=20)
    assert result.success.tolist() == [True] * 4
    for k in range(4):
        path = ssimpert.save_array(result.adversarial[k : k + 1], tmp_path / f"{k}.npy")
        reloaded = ssimpert.load_image(path)
        assert model(reloaded).argmax(dim=1) == result.label_after[k] != result.label_before[k]
        distance = numpy_contrast_distance(photos[k].numpy(), reloaded[0].numpy())
        assert distance <= min(20, int(result.steps[k])) * 0.005 + 1e-7
        assert distance == pytest.approx(float(result.contrast_distance[k]), abs=1e-7)


def test_held_global_ssim_keeps_to_the_original_images_ball(model: Classifier, photos: Tensor) -> None:
    result = perturb(model, photos, solvers.GlobalSSIM(0.01), steps=3, stop_at_success=False)
    for k in range(4):
        distance = numpy_contrast_distance(photos[k].numpy(), result.adversarial[k].numpy())
        assert distance <= 0.01 + 1e-6
    assert (result.margin_after > result.margin_before).all()
    margins = [row["margin"] for row in result.history if row["image"] == 0]
    assert margins == sorted(margins)  # the line search never goes down


def test_success_agrees_with_a_fresh_prediction(model: Classifier, photos: Tensor) -> None:
    result = perturb(model, photos, solvers.GlobalSSIM(0.001), recentred=True, steps=1)
    fresh = model(result.adversarial).argmax(dim=1)
    assert torch.equal(result.success, fresh != result.label_before)
    assert torch.equal(result.label_after, fresh)
    assert not result.success.all()


def test_targeted_margin_reaches_its_class(model: Classifier) -> None:
    photo, target = ssimpert.load_image("chelsea", size=224), 500
    result = perturb(model, photo, solvers.GlobalSSIM(0.01), recentred=True, margin=ssimpert.Targeted(target), steps=10)
    assert result.label_after.tolist() == [target]


def test_released_behaviour_drifts_from_the_mean_and_ours_does_not(model: Classifier, photos: Tensor) -> None:
    bright = (photos[:1] * 1.2).clamp(0, 1).double()  # saturated pixels, so that clipping matters
    ours = perturb(model, bright, solvers.GlobalSSIM(0.005), recentred=True, steps=1)
    released = perturb(model, bright, solvers.GlobalSSIM(0.005), recentred=True, faithful=True, steps=1)
    assert abs(float(ours.delta.mean())) < 1e-9
    assert abs(float(released.delta.mean())) > 1e-7
    assert float(ours.contrast_distance) <= 0.005 + 1e-9


def test_released_step_is_the_published_formula(model: Classifier, photos: Tensor) -> None:
    image = photos[:1].double()
    released = perturb(model, image, solvers.GlobalSSIM(0.005), recentred=True, faithful=True, steps=1)
    gradient = ssimpert.linearize(model, image, released.label_before, ssimpert.Untargeted()).gradient
    x, s = (2 * image - 1).numpy(), 0.005**2
    centred = x - x.mean()
    radius = np.sqrt((centred**2).sum() * (1 / (1 - s) ** 2 - 1) + 9e-4 * s / (1 - s))
    moved = x.mean() + centred / (1 - s) + radius * gradient.numpy() / np.linalg.norm(gradient.numpy())
    expected = (np.clip(moved, -1, 1) + 1) / 2
    np.testing.assert_allclose(released.adversarial.numpy(), expected, atol=1e-12)


def test_released_conic_failure_returns_the_mean_free_image(
    model: Classifier, photos: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photos[:1].double()

    def fail(problem: solvers.Problem, **_: object) -> solvers.SolveResult:
        zero, one = torch.zeros_like(problem.reference), torch.zeros(1, dtype=torch.float64)
        return solvers.SolveResult(
            delta=zero,
            status=(solvers.Status.NUMERICAL_ERROR,),
            objective=one,
            bound=one,
            rel_gap=one,
            max_violation=one,
            iterations=(0,),
            setup_time=0.0,
            solve_time=0.0,
            history=solvers.History(),
            dual=(None, None),
            method="cvxpy:scs",
            messages=("scs: failure",),
        )

    monkeypatch.setattr(solvers, "solve", fail)
    result = perturb(
        model, image, solvers.GlobalSSIM(0.005), recentred=True, faithful=True, method="cvxpy:scs", steps=1
    )
    x = 2 * image - 1
    expected = ((x - x.mean() + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(result.adversarial, expected)


# -- the control -------------------------------------------------------------------------------------------


def test_l2_control_of_the_seed_method_steps_by_its_radius(model: Classifier, photos: Tensor) -> None:
    result = perturb(model, photos[:1], solvers.GlobalSSIM(0.005), recentred=True, steps=1)
    control = l2_control(model, photos[:1], result)
    centred = photos[:1] - photos[:1].mean()
    expected = 2**0.5 * 0.005 * float(centred.norm())
    assert control.name == CONTROL_NAME
    assert float(control.delta.double().norm()) == pytest.approx(expected, rel=1e-5)
    # Methods B: the SSIM ball's radius is within 1e-4 of it.
    radius = solvers.GlobalSSIM(0.005).bind(photos[:1].double()).radius
    assert float(radius) == pytest.approx(float(seed_radius(0.005, photos[:1].double())), rel=1e-4)


def test_l2_control_of_other_sets_has_equal_norm(model: Classifier, photos: Tensor) -> None:
    tiles = solvers.WindowSSIM(0.95, solvers.Window.uniform(8, stride=8))
    result = perturb(model, photos[:2], tiles, steps=2, stop_at_success=False)
    control = l2_control(model, photos[:2], result)
    norms = [value.delta.double().flatten(1).norm(dim=1) for value in (result, control)]
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-3, atol=0)


def test_an_images_control_takes_its_own_steps_whatever_is_beside_it() -> None:
    noise = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image = 0.3 + 0.4 * noise
    slope = torch.tensor([[1.0, 0.4], [0.6, -0.8]], dtype=torch.float64)
    curvature = torch.tensor([[0.8, -0.5], [-0.3, 0.9]], dtype=torch.float64)
    model = CurvedClasses(image[:1], slope, curvature, torch.tensor([0.3, 0.3], dtype=torch.float64))
    room = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(1)) < 0.8
    result = perturb(model, image, solvers.LpBall(2, 0.2), steps=6, support=room)
    assert len(result.steps.unique()) > 1
    together = l2_control(model, image, result, support=room)
    assert together.steps.tolist() == result.steps.tolist()
    for k in range(3):
        own = {
            entry.name: getattr(result, entry.name)[k : k + 1]
            for entry in fields(result)
            if isinstance(getattr(result, entry.name), Tensor)
        }
        alone = l2_control(model, image[k : k + 1], replace(result, **own), support=room[k : k + 1])
        torch.testing.assert_close(alone.delta[0], together.delta[k], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(alone.margin_after[0], together.margin_after[k])
        margins = [row["margin"] for row in together.history if row["image"] == k]
        assert [row["margin"] for row in alone.history] == pytest.approx(margins)
    assert bool((together.delta == 0)[~room.expand_as(image)].all())
    assert together.constraint.radius.shape == (3,)  # type: ignore[union-attr]


# -- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(3, 8, 8), r"shape \(B, C, H, W\), got \(3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "float32 or float64, got torch.uint8"),
        (torch.zeros(1, 3, 8, 12), "image is 12x8 pixels; SSIM is measured in windows of 11x11"),
        (torch.full((1, 3, 8, 8), 1.5), r"reach from 1.5 to 1.5"),
        (torch.full((1, 3, 8, 8), float("nan")), "192 NaN or infinite pixels"),
    ],
)
def test_bad_images_are_refused(image: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        perturb(TwoClasses(0.0), image, solvers.LpBall(2, 1.0))


def test_bad_options_are_refused() -> None:
    model, image = TwoClasses(0.0), grey()
    with pytest.raises(InputError, match="steps must be an integer of at least 1, got 0"):
        perturb(model, image, solvers.LpBall(2, 1.0), steps=0)
    with pytest.raises(InputError, match="constraint must be a set"):
        perturb(model, image, 0.95)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="faithful=True"):
        perturb(model, image, solvers.LpBall(2, 1.0), recentred=True, faithful=True)
    with pytest.raises(InputError, match=r"label \[2\] is out of range"):
        perturb(model, image, solvers.LpBall(2, 1.0), label=torch.tensor([2]))
    with pytest.raises(solvers.MethodError, match=r"tiles.*needs WindowSSIM"):
        perturb(model, image, solvers.LpBall(2, 1.0), method="tiles")


class NotANumber(TwoClasses):
    """Finite logits, but a gradient that isn't."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + (images - images).square().sum(dim=(1, 2, 3)).sqrt()[:, None] * torch.tensor(
            [0.0, 1.0], dtype=images.dtype
        )


def test_nan_gradient_is_named_before_any_step() -> None:
    with pytest.raises(InputError, match="gradient at image 0 has 432 NaN or infinite values of 432"):
        perturb(NotANumber(5.0), grey(), solvers.LpBall(2, 1.0))


def test_zero_gradient_stops_the_image_with_a_reason() -> None:
    model, image = TwoClasses(5.0), grey()
    with torch.no_grad():
        model.weight.zero_()
    result = perturb(model, image, solvers.LpBall(2, 1.0))
    assert "gradient is zero everywhere" in result.messages[0]
    assert not result.success.any()


class Broken(TwoClasses):
    """NaN logits, for every image or for the bright ones alone."""

    def __init__(self, *, bright_only: bool) -> None:
        super().__init__(offset=5.0)
        self.bright_only = bright_only

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean(dim=(1, 2, 3), keepdim=True).flatten(1) > 0.7
        broken = bright if self.bright_only else torch.ones_like(bright)
        return torch.where(broken, torch.nan, super().forward(images))


def test_nan_logits_are_an_error_where_every_image_has_them_and_a_message_where_one_has() -> None:
    with pytest.raises(InputError, match="margin at image 0 is nan"):
        perturb(Broken(bright_only=False), grey(), solvers.LpBall(2, 1.0))
    images = torch.cat([grey(), grey() + 0.3])
    result = perturb(Broken(bright_only=True), images, solvers.LpBall(2, 0.5), steps=2)
    assert "NaN" in result.messages[1]
    assert "NaN" not in result.messages[0]
    assert result.steps[0] > 0 == result.steps[1]


@pytest.mark.parametrize("recentred", [True, False])
def test_a_solver_that_fails_is_named_and_costs_no_step(recentred: bool) -> None:
    model, image = TwoClasses(offset=5.0), grey()
    settings = solvers.Settings(time_limit=1e-9)
    result = perturb(
        model, image, solvers.GlobalSSIM(0.05), recentred=recentred, method="cvxpy:scs", settings=settings, steps=3
    )
    assert result.messages[0].startswith("time_limit: time limit")
    assert result.steps.tolist() == [0]
    assert result.delta.abs().max() == 0


def test_violation_is_that_of_the_returned_array_in_the_sets_own_unit() -> None:
    model, image = TwoClasses(offset=5.0), grey().float()
    result = perturb(model, image, solvers.LpBall(2, 0.25), steps=1)
    excess = float((result.adversarial.double() - image.double()).norm()) - 0.25
    assert float(result.violation) == pytest.approx(max(excess, 0), abs=1e-9)
    assert float(result.violation) < 1e-6
    moved = perturb(model, image, solvers.LpBall(2, 0.25), recentred=True, steps=1)
    assert moved.violation.isnan().all()


def test_an_image_at_its_goal_says_so() -> None:
    model, image = TwoClasses(offset=5.0), grey()
    result = perturb(model, image, solvers.LpBall(2, 0.1), margin=ssimpert.Targeted(0))
    assert "reached by the clean image already" in result.messages[0]


def test_stationarity_gap_is_never_below_zero_even_for_a_rough_solver() -> None:
    model, image = TwoClasses(offset=5.0), grey()
    rough = solvers.Settings(eps_rel=0.5, max_iter=3)
    result = perturb(model, image, solvers.GlobalSSIM(0.05), method="cvxpy:scs", settings=rough, steps=1)
    assert float(result.stationarity_gap) >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": 3}, "label must be a long tensor"),
        ({"margin": "untargeted"}, "got 'untargeted'"),
        ({"margin": ssimpert.Targeted(1.5)}, "target class must be an integer, got 1.5"),  # type: ignore[arg-type]
        ({"constraint": solvers.GlobalSSIM}, "constraint must be a set"),
    ],
)
def test_options_of_the_wrong_type_are_named(arguments: dict[str, object], message: str) -> None:
    options: dict[str, object] = {"constraint": solvers.LpBall(2, 1.0)} | arguments
    with pytest.raises(InputError, match=message):
        perturb(TwoClasses(0.0), grey(), **options)  # type: ignore[arg-type]


def test_released_behaviour_takes_no_other_method() -> None:
    with pytest.raises(solvers.MethodError, match="got 'tiles'"):
        perturb(TwoClasses(0.0), grey(), solvers.GlobalSSIM(0.1), recentred=True, faithful=True, method="tiles")


def test_radii_per_image_follow_the_images_that_still_move() -> None:
    image = torch.cat([grey(), grey(), grey()])
    model = TwoClasses(offset=0.0)
    with torch.no_grad():
        model.offset = float(score(model, image).max()) + 0.3
    radii = [0.4, 0.01, 0.02]
    result = perturb(model, image, solvers.LpBall(2, radii), steps=3)  # type: ignore[arg-type]
    assert result.success.tolist() == [True, False, False]
    norms = result.delta.flatten(1).norm(dim=1)
    assert norms[1:].tolist() == pytest.approx(radii[1:], rel=1e-6)
