"""The least level that changes the decision: against closed forms, a fine grid, and minimal-norm attacks."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

import solvers
from solvers import Box, GlobalSSIM, LinearProblem, LpBall, Support, Window, WindowSSIM
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.linearization import Targeted
from ssimpert.models import Classifier
from ssimpert.perturbation import margin_curve, minimal_budget
from ssimpert.perturbation.budget_search.levels import family_of, least_level
from ssimpert.perturbation.budget_search.nearest_class import class_distances, nearest_class
from tests.ssimpert.perturbation.curved_classes import CurvedClasses, fanned
from tests.ssimpert.perturbation.linear_classifier import NanWhenDark, TwoClasses, grey, score


class ManyClasses(torch.nn.Module):
    """Linear logits; the nearest class is not the runner-up."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        weight = torch.randn(classes, 3, 12, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        # Class 1 is the runner-up, with a weight near class 0's: far away.
        weight[1] = weight[0] + 0.05 * weight[1]
        self.weight = torch.nn.Parameter(weight)
        self.offset = torch.nn.Parameter(torch.zeros(classes, dtype=torch.float64))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("bchw,kchw->bk", images - 0.5, self.weight) + self.offset


@pytest.mark.parametrize("engine", ["projected_gradient", "sequential_convex", "frank_wolfe"])
@pytest.mark.parametrize("p", [2, torch.inf])
def test_linear_classifier_gives_the_margin_over_the_dual_norm(engine: str, p: float) -> None:
    model, image = TwoClasses(offset=0.0), grey(2)
    weight = model.weight.detach()
    dual = weight.norm() if p == 2 else weight.abs().sum()
    shortage = -score(model, image).detach()
    assert bool((shortage > 0).all())
    result = minimal_budget(model, image, LpBall(p, 0.01 if p == 2 else 0.001), engine=engine)  # type: ignore[arg-type]
    assert bool(result.success.all())
    torch.testing.assert_close(result.level, shortage / dual, rtol=1e-3, atol=0)
    assert bool((result.level >= (1 - 1e-9) * shortage / dual).all())
    assert bool((result.failed_level < result.level).all())
    assert bool((result.failed_level >= result.level / 1.0051).all())


def test_a_support_confines_it_and_costs_what_the_masked_weight_says() -> None:
    model, image = TwoClasses(offset=0.0), grey(2)
    mask = torch.zeros(2, 1, 12, 12, dtype=torch.bool)
    mask[0, :, :6], mask[1, :, :, 4:] = True, True
    result = minimal_budget(model, image, LpBall(2, 0.01), support=mask)
    masked = (model.weight.detach() * mask).flatten(1).norm(dim=1)
    shortage = -score(model, image).detach()
    torch.testing.assert_close(result.level, shortage / masked, rtol=1e-3, atol=0)
    assert float((result.delta * ~mask).abs().max()) == 0
    assert result.settings["support"] == pytest.approx(float(mask.double().mean()))
    assert result.certified == "global bound"
    level = float(result.level.max())
    curve = margin_curve(model, image, LpBall(2, level), [0.5 * level, level], support=mask)
    torch.testing.assert_close(curve[1], level * masked - shortage, rtol=1e-3, atol=1e-6)
    with pytest.raises(InputError, match="bool tensor"):
        minimal_budget(model, image, LpBall(2, 0.01), support=mask.float())


@pytest.mark.parametrize(
    "template",
    [WindowSSIM(0.9, Window.uniform(4, stride=4)), GlobalSSIM(0.2), WindowSSIM(0.9, Window.uniform(5))],
    ids=["tiles", "global", "overlapping"],
)
def test_ssim_levels_are_within_a_hundredth_of_the_least(template: Constraint) -> None:
    """A hundredth below the level found, Clarabel's linear optimum does not change the decision."""
    model, image = TwoClasses(offset=0.5), grey()
    family = family_of(template)
    found = minimal_budget(model, image, template)
    assert bool(found.success)
    weight, shortage = model.weight.detach()[None].contiguous(), -float(score(model, image).detach())
    for factor in (0.99, 1.002):
        problem = LinearProblem(weight, image, [family.at(factor * float(found.level)), Box()])
        best = solvers.solve(problem, "cvxpy:clarabel", {"eps_rel": 1e-8})
        assert (float(torch.as_tensor(best.objective)) > shortage) is (factor > 1)
    assert float(found.violation) <= 1e-8


def test_feature_distances_are_those_of_each_image() -> None:
    """J is diagonal and another one per image: the least level is the shortage over |w/j|."""
    model, image = TwoClasses(offset=0.0), grey(2)
    generator = torch.Generator().manual_seed(6)
    scale = 0.5 + torch.rand(image.shape, generator=generator, dtype=torch.float64)
    scale[1] *= 3
    jacobian = solvers.LinearOperator(
        lambda v: (scale.to(v) * v).flatten(1), lambda u: scale.to(u) * u.reshape(scale.shape)
    )
    result = minimal_budget(model, image, solvers.FeatureBall(0.5, jacobian), tolerance=0.01, steps=4)
    weight = model.weight.detach() / scale
    expected = -score(model, image).detach() / weight.flatten(1).norm(dim=1)
    torch.testing.assert_close(result.level, expected, rtol=2e-3, atol=0)
    assert float(result.level[1]) > 2 * float(result.level[0])
    assert float(result.violation.max()) <= 1e-8


def test_the_returned_end_holds_and_succeeds_after_rounding(model: Classifier, photo: Tensor) -> None:
    result = minimal_budget(model, photo, LpBall(2, 0.02), steps=4, tolerance=0.05, candidates=3)
    assert bool(result.success)
    assert int(model.predict(result.adversarial)) != int(model.predict(photo))
    norm = float((result.adversarial.double() - photo.double()).norm())
    assert norm == pytest.approx(float(result.level), rel=1e-6)
    assert float(result.violation) <= 1e-7
    assert 0 <= float(result.margin_after) < 0.05


def test_the_nearest_class_is_aimed_at_not_the_runner_up() -> None:
    model, image = ManyClasses(), grey(2)
    logits = model(image).detach()
    own = torch.tensor([0, 0])
    with torch.no_grad():
        model.offset[0] += (logits.max() - logits[:, 0].min()) + 1.0
        model.offset[1] += float((model(image)[:, 0] - model(image)[:, 1]).min()) - 0.5
    logits = model(image).detach()
    assert logits.argmax(dim=1).tolist() == [0, 0]
    gaps = logits[:, :1] - logits
    norms = (model.weight.detach() - model.weight.detach()[0]).flatten(1).norm(dim=1)
    distance = (gaps / norms)[:, 1:]
    assert (distance.argmin(dim=1) + 1).tolist() == nearest_class(model, image, own, LpBall(2, 1.0)).tolist()
    assert (logits[:, 1:].argmax(dim=1) + 1).tolist() != (distance.argmin(dim=1) + 1).tolist()
    result = minimal_budget(model, image, LpBall(2, 0.1))
    torch.testing.assert_close(result.level, distance.amin(dim=1), rtol=2e-3, atol=0)
    runner_up = minimal_budget(model, image, LpBall(2, 0.1), candidates=1)
    assert float(runner_up.level.max()) > float(result.level.max())


@pytest.mark.parametrize(("lowest", "highest", "offset"), [(-100, 8, 0.2), (-20, 10, 0.1)])
def test_the_level_along_a_curved_border_is_the_least_norm(lowest: float, highest: float, offset: float) -> None:
    """The border bends away along some axes and towards the image along others: climbs of ten steps from zero don't
    reach the first one at any level, and bisecting the second one's would take over 80 gradients."""
    image = grey()
    model = fanned(image, lowest, highest, offset)
    result = minimal_budget(model, image, LpBall(2, 0.1))
    assert bool(result.success)
    exact = model.least_norm(0)
    assert float(result.level) == pytest.approx(exact, rel=0.01)
    assert float(result.level) >= exact
    assert float(result.violation) <= 1e-8
    assert int(result.steps) <= 40


def test_a_class_that_is_nearer_than_first_order_says_gets_its_try() -> None:
    """Class 1 is 0.1 away, and so its linear model says; class 2 seems to be 0.11 away and is 0.08."""
    image = grey()
    slope, bend = torch.eye(2, dtype=torch.float64), 0.03 / 0.08**2
    curvature = torch.tensor([[0.0, 0.0], [0.0, bend]], dtype=torch.float64)
    model = CurvedClasses(image, slope, curvature, torch.tensor([0.1, 0.11], dtype=torch.float64))
    assert model.least_norm(1) == pytest.approx(0.08)
    assert nearest_class(model, image, torch.tensor([0]), LpBall(2, 1.0)).tolist() == [1]
    result = minimal_budget(model, image, LpBall(2, 0.05))
    assert result.label_after.tolist() == [2]
    assert float(result.level) == pytest.approx(0.08, rel=0.005)
    assert float(minimal_budget(model, image, LpBall(2, 0.05), candidates=1).level) >= 0.08


def test_what_is_out_of_reach_says_so_and_what_is_reached_already_costs_nothing() -> None:
    model, image = TwoClasses(offset=500.0), grey()
    result = minimal_budget(model, image, LpBall(torch.inf, 0.5), steps=2)
    assert not bool(result.success)
    assert bool(result.level.isnan())
    assert float(result.failed_level) == 1.0
    assert "no level up to 1 changes the decision" in result.messages[0]
    reached = minimal_budget(model, image, LpBall(2, 0.5), margin=Targeted(0))
    assert float(reached.level) == 0
    assert float(reached.delta.abs().max()) == 0
    assert "already" in reached.messages[0]


def test_a_batch_is_its_images_one_by_one() -> None:
    model, image = TwoClasses(offset=4.0), grey(2)
    template = WindowSSIM(0.9, Window.uniform(4, stride=4))
    together = minimal_budget(model, image, template, tolerance=0.02)
    alone = [minimal_budget(model, image[k : k + 1], template, tolerance=0.02) for k in range(2)]
    torch.testing.assert_close(together.level, torch.cat([one.level for one in alone]), rtol=1e-6, atol=0)
    assert together.rounds.tolist() == [int(one.rounds) for one in alone]


def test_a_batch_along_a_curved_border_is_its_images_one_by_one() -> None:
    model = fanned(grey(), -20, 10, 0.1)
    shift = torch.tensor([0.0, -0.03], dtype=torch.float64)
    image = grey() + shift[:, None, None, None] * model.basis.detach()[:1]
    together = minimal_budget(model, image, LpBall(2, 0.1))
    alone = [minimal_budget(model, image[k : k + 1], LpBall(2, 0.1)) for k in range(2)]
    torch.testing.assert_close(together.level, torch.cat([one.level for one in alone]), rtol=1e-6, atol=0)
    assert together.steps.tolist() == [int(one.steps) for one in alone]
    assert together.rounds.tolist() == [int(one.rounds) for one in alone]


def test_the_curve_is_linear_for_a_linear_classifier_and_never_falls(model: Classifier, photo: Tensor) -> None:
    flat, image = TwoClasses(offset=50.0), grey(2)
    levels = [0.1, 0.2, 0.4]
    curve = margin_curve(flat, image, LpBall(2, 1.0), levels, steps=3)
    expected = score(flat, image).detach() + torch.tensor(levels, dtype=torch.float64)[:, None]
    torch.testing.assert_close(curve, expected, rtol=1e-6, atol=0)
    real = margin_curve(model, photo, LpBall(2, 1.0), [0.05, 0.1, 0.2], steps=3)
    assert bool((real.diff(dim=0) >= 0).all())


def test_the_curve_agrees_with_the_least_level_that_was_found() -> None:
    model, image = ManyClasses(), grey()
    with torch.no_grad():  # class 0 wins by more than 1, and class 1 is next in logits, though not in distance
        logits = model(image)[0]
        model.offset[0] += logits.max() - logits[0] + 1.0
        model.offset[1] += model(image)[0, 0] - logits[1] - 0.5
    found = minimal_budget(model, image, LpBall(2, 0.1), steps=4)
    assert bool(found.success)
    level = float(found.level)
    levels = [0.5 * level, level, 2 * level]
    alone = margin_curve(model, image, LpBall(2, 0.1), levels, steps=1)
    # A step towards the runner-up, which is far away, does not reach what the search found.
    assert bool((alone[1] < found.margin_after).all())
    curve = margin_curve(model, image, LpBall(2, 0.1), levels, steps=1, found=found)
    assert torch.equal(curve[0], alone[0])
    assert bool((curve[1] >= found.margin_after).all())
    assert bool((curve.diff(dim=0) >= 0).all())
    with pytest.raises(InputError, match="found was made from other images"):
        margin_curve(model, 1 - image, LpBall(2, 0.1), levels, found=found)


def test_least_level_is_the_distance_itself() -> None:
    image, family = grey(), family_of(GlobalSSIM(0.3))
    delta = 0.01 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    delta -= delta.mean()
    exact = float(GlobalSSIM(0.3).bind(image).distance(delta))
    assert least_level(family, image, delta, 0.9) == pytest.approx(exact, rel=1e-6)


def test_bad_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = TwoClasses(offset=5.0), grey()
    with pytest.raises(InputError, match="Support has no level"):
        minimal_budget(model, image, Support(torch.ones(1, 1, 12, 12, dtype=torch.bool)))
    with pytest.raises(InputError, match="tolerance must lie strictly between 0 and 1, got 0"):
        minimal_budget(model, image, LpBall(2, 0.1), tolerance=0)
    with pytest.raises(InputError, match=r"keeps to one set.*got 'recentred'"):
        minimal_budget(model, image, LpBall(2, 0.1), engine="recentred")
    with pytest.raises(InputError, match=r"luminance 0.001 is all of 1 - threshold 0.001"):
        minimal_budget(model, image, WindowSSIM(0.999, Window.uniform(4, stride=4), luminance=0.001))
    with pytest.raises(InputError, match="one radius"):
        minimal_budget(model, grey(2), LpBall(2, torch.tensor([0.1, 0.2])))
    for levels in ([0.2, 0.1], [0.1, float("nan"), 0.2], [0.1, float("inf")], []):
        with pytest.raises(InputError, match="levels must be positive, finite and rise, got "):
            margin_curve(model, image, LpBall(2, 0.1), levels)
    monkeypatch.setattr(TwoClasses, "forward", lambda *_: pytest.fail("work started"))
    with pytest.raises(InputError, match=r"level 1.5 makes no set: .*threshold"):
        margin_curve(model, image, WindowSSIM(0.95, Window.uniform(4, stride=4)), [0.01, 1.5])
    mean = solvers.MeanSSIM(0.95, Window.uniform(4, stride=4), luminance=1e-3)
    for question in (minimal_budget, lambda *given: margin_curve(*given, [0.01])):
        with pytest.raises(InputError, match="nothing projects onto MeanSSIM"):
            question(model, image, mean)
    with pytest.raises(InputError, match="candidates must be an integer of at least 1, got 0"):
        minimal_budget(model, image, LpBall(2, 0.1), candidates=0)


def test_an_image_of_nan_neither_ends_nor_changes_the_others() -> None:
    model, image = NanWhenDark(), grey(3)
    image[1] *= 0.1
    found = minimal_budget(model, image, LpBall(2, 0.01))
    assert found.messages[1] == "logits are NaN"
    assert bool(found.level[1].isnan())
    alone = minimal_budget(model, image[2:], LpBall(2, 0.01))
    assert float(found.level[2]) == float(alone.level[0])
    with pytest.raises(InputError, match="NaN or infinite logits for every image"):
        minimal_budget(model, image[1:2], LpBall(2, 0.01))


def test_classes_of_an_image_are_ordered_alike_beside_one_of_nan() -> None:
    model, image = NanWhenDark(), grey(2)
    image[1] *= 0.1
    label = torch.zeros(2, dtype=torch.long)
    ball = solvers.GlobalSSIM(0.01)
    distance = class_distances(model, image, label, ball)[1]
    assert bool(distance[1].isinf().all())
    assert torch.equal(distance[:1], class_distances(model, image[:1], label[:1], ball)[1])


def test_an_observer_sees_the_levels_fall() -> None:
    model, image = TwoClasses(offset=0.0), grey(2)
    seen: list[tuple[list[float], list[int]]] = []
    result = minimal_budget(
        model,
        image,
        LpBall(2, 0.01),
        observer=lambda search: seen.append((search.high.tolist(), search.rounds.tolist())),
    )
    assert seen[-1] == (result.level.tolist(), result.rounds.tolist())
    for (levels, rounds), (next_levels, next_rounds) in pairwise(seen):
        assert all(after <= before for before, after in zip(levels, next_levels, strict=True))
        assert sum(next_rounds) > sum(rounds)
