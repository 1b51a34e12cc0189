"""Results and their parts: ``concatenate`` puts together what ``select`` took apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from solvers import GlobalSSIM, Intersection, LpBall
from ssimpert.errors import InputError
from ssimpert.perturbation import (
    FeatureBallResult,
    MinimalBudgetResult,
    PerceptualBallResult,
    PerturbResult,
    QuantizedResult,
    minimal_budget,
    perceptual_ball_constrained,
    perceptual_ball_lbfgs,
    perturb,
    quantize,
)
from ssimpert.perturbation.results import check_made_from
from tests.ssimpert.perturbation.linear_classifier import TwoClasses, grey

BATCH = 4


class Layered(nn.Module):
    """A convolution, then three logits: a module with a layer to watch."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.features = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 3)
        self.double()
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images).square().mean(dim=(2, 3)))
        return logits


def perturbed() -> PerturbResult:
    radius = torch.linspace(0.1, 0.4, BATCH, dtype=torch.float64)
    label = torch.zeros(BATCH, dtype=torch.long)
    return perturb(TwoClasses(offset=5.5), grey(BATCH), LpBall(2, radius), label=label, steps=3)


MAKERS: dict[type[PerturbResult], Callable[[], PerturbResult]] = {
    PerturbResult: perturbed,
    MinimalBudgetResult: lambda: minimal_budget(TwoClasses(offset=5.5), grey(BATCH), LpBall(2, 0.1), steps=3),
    QuantizedResult: lambda: quantize(TwoClasses(offset=5.5), grey(BATCH), perturbed()),
    PerceptualBallResult: lambda: perceptual_ball_lbfgs(Layered(), grey(BATCH), layers=["features"], iterations=3),
    FeatureBallResult: lambda: perceptual_ball_constrained(
        Layered(), grey(BATCH), torch.linspace(0.1, 0.4, BATCH), layers=["features"], steps=3
    ),
}


@pytest.fixture(scope="module", params=MAKERS, ids=lambda kind: kind.__name__)
def result(request: pytest.FixtureRequest) -> PerturbResult:
    made = MAKERS[request.param]()
    assert type(made) is request.param
    return made


def by_image(result: PerturbResult) -> dict[int, list[dict[str, object]]]:
    """The history's rows without their numbers, image by image."""
    return {
        k: [{key: value for key, value in row.items() if key != "image"} for row in result.history if row["image"] == k]
        for k in range(len(result.success))
    }


def assert_equal(first: PerturbResult, second: PerturbResult) -> None:
    assert type(first) is type(second)
    for entry in fields(first):
        one, other = getattr(first, entry.name), getattr(second, entry.name)
        if isinstance(one, Tensor):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
        elif entry.name not in ("constraint", "history", "seconds"):
            assert one == other, entry.name
    assert by_image(first) == by_image(second)


def test_concatenate_inverts_select(result: PerturbResult) -> None:
    first, second = torch.tensor([2, 0]), torch.tensor([1, 3])
    joined = type(result).concatenate([result.select(first), result.select(second)])
    joined = replace(joined, constraint=None).select(torch.cat([first, second]).argsort())
    assert_equal(joined, result)


def test_select_takes_every_column_of_its_images(result: PerturbResult) -> None:
    part = result.select(torch.tensor([3, 1]))
    assert torch.equal(part.adversarial, result.adversarial[[3, 1]])
    assert part.messages == (result.messages[3], result.messages[1])
    rows = result.rows()
    assert str(part.rows()) == str([rows[3] | {"image": 0}, rows[1] | {"image": 1}])  # text, since NaN is not NaN
    assert by_image(part) == {0: by_image(result)[3], 1: by_image(result)[1]}


def test_select_takes_the_sets_and_labels_of_its_images() -> None:
    result = perturbed()
    part = result.select(torch.tensor([3, 1]))
    assert isinstance(part.constraint, LpBall)
    torch.testing.assert_close(torch.as_tensor(part.constraint.radius), torch.tensor([0.4, 0.2], dtype=torch.float64))
    assert result.settings["label"] == [0, 0, 0, 0]
    assert part.settings["label"] == [0, 0]
    quantized = quantize(TwoClasses(offset=5.5), grey(BATCH)[[3, 1]], part)
    assert quantized.success.shape == (2,)


def parts(labels: bool = True) -> list[PerturbResult]:
    """Two results of two images each, within one ball for both; ``labels`` says whether the caller gave the labels."""
    images, label = grey(BATCH), torch.zeros(2, dtype=torch.long) if labels else None
    return [perturb(TwoClasses(offset=5.5), images[k : k + 2], LpBall(2, 0.2), label=label, steps=1) for k in (0, 2)]


@pytest.mark.parametrize("key", ["label", "radius"])
@pytest.mark.parametrize("swapped", [False, True])
def test_settings_per_image_are_unknown_where_a_part_has_none(key: str, swapped: bool) -> None:
    """A list and ``None``, or one number for all: neither is the whole batch's."""
    first, second = parts()
    for other in (None, 0.5):
        mixed = [
            replace(first, settings=first.settings | {key: [1, 2]}),
            replace(second, settings=second.settings | {key: other}),
        ]
        joined = PerturbResult.concatenate(mixed[::-1] if swapped else mixed)
        assert joined.settings[key] is None
        assert joined.select(torch.tensor([3])).settings[key] is None


def test_settings_per_image_are_joined_where_every_part_has_its_list_and_kept_where_all_agree() -> None:
    first, second = parts()
    assert PerturbResult.concatenate([first, second]).settings["label"] == [0, 0, 0, 0]
    unlabelled = PerturbResult.concatenate(parts(labels=False))
    assert unlabelled.settings["label"] is None
    same = [replace(part, settings=part.settings | {"radius": 0.5}) for part in (first, second)]
    assert PerturbResult.concatenate(same).settings["radius"] == 0.5


@pytest.mark.parametrize("swapped", [False, True])
def test_a_constraint_that_the_parts_do_not_share_is_unknown(swapped: bool) -> None:
    first, second = parts()
    common = PerturbResult.concatenate([first, second]).constraint  # equal sets, made one by one
    assert isinstance(common, LpBall)
    assert (common.p, common.radius) == (2, 0.2)

    def joined(one: Any, other: Any) -> Any:
        mixed = [replace(first, constraint=one), replace(second, constraint=other)]
        return PerturbResult.concatenate(mixed[::-1] if swapped else mixed).constraint

    per_image = LpBall(2, torch.tensor([0.1, 0.2], dtype=torch.float64))
    assert joined(per_image, LpBall(2, torch.tensor([0.3, 0.4], dtype=torch.float64))) is None
    assert joined(per_image, per_image) is None  # two radii are not those of four images
    assert joined(per_image, LpBall(2, 0.2)) is None
    within = Intersection([per_image, GlobalSSIM(0.1)])
    assert joined(within, within) is None
    assert joined(LpBall(2, 0.1), LpBall(2, 0.2)) is None
    assert joined(LpBall(2, 0.1), GlobalSSIM(0.1)) is None
    assert joined(LpBall(2, 0.1), None) is None
    assert joined(None, None) is None


def test_only_results_of_one_class_are_concatenated() -> None:
    plain, quantized = perturbed(), MAKERS[QuantizedResult]()
    with pytest.raises(InputError, match="results of one class, got PerturbResult, QuantizedResult"):
        PerturbResult.concatenate([plain, quantized])
    with pytest.raises(InputError, match="results of one class, got none"):
        PerturbResult.concatenate([])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"adversarial": grey(2)}, r"mine has images of shape \(2, 3, 12, 12\), image has \(4, 3, 12, 12\)"),
        ({"gradient": grey(2)}, r"mine has gradient of shape \(2, 3, 12, 12\)"),
        ({"delta": torch.full_like(grey(BATCH), torch.nan)}, "mine has pixels that are NaN or infinite in image 0"),
        ({"delta": torch.ones_like(grey(BATCH))}, "mine was made from other images: image 0 differs by"),
    ],
)
def test_results_of_other_images_are_refused(changed: dict[str, Tensor], message: str) -> None:
    result = perturbed()
    check_made_from(grey(BATCH), result)
    with pytest.raises(InputError, match=message):
        check_made_from(grey(BATCH), replace(result, **changed), "mine")  # type: ignore[arg-type]
