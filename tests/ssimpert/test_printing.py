"""What perturbations, comparisons, box accuracies and composites print."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import solvers
import ssimpert
from ssimpert import data
from ssimpert.analysis.localization.max_box_acc import max_box_acc
from ssimpert.perturbation import PerturbResult, minimal_budget, perturb, quantize
from tests.ssimpert.perturbation.linear_classifier import TwoClasses, grey, score


def perturbed(count: int) -> tuple[TwoClasses, torch.Tensor, PerturbResult]:
    model, image = TwoClasses(offset=0.0), grey(count)
    model.offset = float(score(model, image).detach().max()) + 0.01
    return model, image, perturb(model, image, solvers.LpBall(2, 1.0), steps=1)


@pytest.mark.parametrize("count", [1, 5, 12])
def test_a_perturbation_prints_at_most_ten_lines(count: int) -> None:
    _, _, result = perturbed(count)
    lines = repr(result).splitlines()
    assert lines[0].startswith(f"PerturbResult 'l2': {count} of {count} image")
    assert lines[1] == "constraint: LpBall(p=2, radius=1.0)"
    assert "0 -> 1" in lines[3]
    assert len(lines) == 3 + min(count, 5) + (count > 5) <= 10
    assert (lines[-1] == "  ... and 7 more") == (count == 12)
    assert result.summary().html().count("<tr>") == 1 + min(count, 5)
    assert str(result) == repr(result)


def test_failures_nan_and_no_images_print() -> None:
    _, _, result = perturbed(2)
    nan = torch.full((2,), float("nan"), dtype=torch.float64)
    failed = replace(
        result, success=torch.zeros(2, dtype=torch.bool), margin_after=nan, messages=("logits are NaN", "")
    )
    assert "0 of 2 images reached the goal" in repr(failed)
    assert "-> +nan" in repr(failed)
    assert "logits are NaN" in repr(failed)
    empty = result.select(torch.tensor([], dtype=torch.long))
    assert "0 of 0 images reached the goal" in repr(empty)
    assert "<table>" not in empty._repr_html_()


def test_results_of_other_classes_print_what_they_add() -> None:
    model, image, result = perturbed(1)
    assert "kept" in repr(quantize(model, image, result))
    least = repr(minimal_budget(model, image, solvers.LpBall(2, 1.0), rounds=2))
    assert least.startswith("MinimalBudgetResult 'minimal LpBall': 1 of 1 image ")
    assert "failed level" in least


def test_a_comparison_prints_its_correlations(small_comparison: ssimpert.Comparison) -> None:
    lines = repr(small_comparison).splitlines()
    assert lines[0].startswith("Comparison of ")
    assert "methods: " in lines[1]
    assert len(lines) <= 10
    first = next(row for row in small_comparison.records if row["perturbation"] == small_comparison.perturbation)
    assert f"{first['pearson']:+.3f}" in lines[3]
    assert small_comparison._repr_html_().count("<img ") == 2 * 5  # Grad-CAM and four maps of two images


@pytest.fixture
def small_comparison() -> ssimpert.Comparison:
    """A comparison of two small images on a tiny network."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(4, 3),
        ).eval()
    image = torch.rand(2, 3, 16, 16, generator=generator)
    result = perturb(network, image, solvers.LpBall(2, 0.5), steps=1)
    return ssimpert.compare(network, image, result, layer="1", shifts=0)


def test_box_accuracies_print_their_whole_and_their_reasons() -> None:
    maps = torch.rand(7, 12, 12, generator=torch.Generator().manual_seed(0))
    maps[1] = 0
    boxes = torch.tensor([[2, 2, 8, 8]] * 7)
    accuracy = max_box_acc(maps, boxes)
    lines = repr(accuracy).splitlines()
    assert lines[0].startswith(f"MaxBoxAcc of 7 images: v1 {accuracy.v1:.4f}")
    assert len(lines) == 8
    assert "nan" in lines[3]
    assert accuracy.reasons[1] is not None
    assert accuracy.reasons[1][:20] in lines[3]


def test_composites_print_their_objects() -> None:
    composites = data.composites(2, 0, size=64)
    lines = repr(composites).splitlines()
    assert lines[0].startswith("CompositeSet of 2 images, 3x64x64")
    assert composites.objects[0] in lines[2]
    assert str(composites.boxes[0].tolist()) in lines[2]
