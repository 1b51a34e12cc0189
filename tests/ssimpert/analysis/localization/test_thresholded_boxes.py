"""The three thresholdings against a pixel-by-pixel version in exact fractions; alpha is chosen on other images."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from ssimpert.analysis.localization.boxes import best_iou, bounding_boxes, box_masks, padded_boxes
from ssimpert.analysis.localization.cross_validation import choose_alpha, cross_validated, evaluate_at
from ssimpert.analysis.localization.thresholded_boxes import ALPHAS, THRESHOLDINGS, Thresholding, thresholded_boxes
from ssimpert.data import composites
from ssimpert.errors import InputError

Box = tuple[int, int, int, int]


def naive_box(values: list[list[Fraction]], thresholding: str, alpha: Fraction) -> Box:
    flat = [value for row in values for value in row]
    low, high, total = min(flat), max(flat), sum(flat)
    if thresholding == "value":
        kept = {value for value in flat if value - low >= alpha * (high - low)}
    elif thresholding == "mean":
        kept = {value for value in flat if value >= alpha * total / len(flat)}
    else:
        kept, held = set(), Fraction(0)
        for value in sorted(flat, reverse=True):
            if held >= alpha * total:
                break
            kept.add(value)
            held += value
    places = [(y, x) for y, row in enumerate(values) for x, value in enumerate(row) if value in kept]
    if not places:
        return 0, 0, len(values[0]), len(values)
    rows, columns = [y for y, _ in places], [x for _, x in places]
    return min(columns), min(rows), max(columns) + 1, max(rows) + 1


def naive_iou(first: Any, second: Any) -> float:
    """By counting pixels."""
    left, right = (
        {(x, y) for x in range(int(box[0]), int(box[2])) for y in range(int(box[1]), int(box[3]))}
        for box in (first, second)
    )
    return len(left & right) / len(left | right)


def random_boxes(count: int, most: int, generator: torch.Generator) -> list[Tensor]:
    boxes = []
    for _ in range(count):
        k = int(torch.randint(1, most + 1, (1,), generator=generator))
        corners = torch.randint(0, 6, (k, 2), generator=generator)
        boxes.append(torch.cat([corners, corners + torch.randint(1, 5, (k, 2), generator=generator)], dim=1))
    return boxes


@pytest.mark.parametrize("thresholding", THRESHOLDINGS)
def test_equals_exact_fractions_on_20_maps_with_ties(thresholding: Thresholding) -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randint(0, 21, (20, 8, 9), generator=generator).float()
    maps *= torch.rand(20, 8, 9, generator=generator) > 0.8
    boxes = random_boxes(20, 3, generator)
    result = thresholded_boxes(maps, boxes, thresholding)
    assert result.alphas == ALPHAS[thresholding]
    whole = 0
    for index in range(20):
        values = [[Fraction(value) for value in row] for row in maps[index].tolist()]
        for column, alpha in enumerate(result.alphas):
            expected = naive_box(values, thresholding, Fraction(str(alpha)))
            assert tuple(result.boxes[index, column].tolist()) == expected
            iou = max(naive_iou(expected, box) for box in boxes[index].tolist())
            assert float(result.iou[index, column]) == pytest.approx(iou, abs=1e-12)
            assert bool(result.correct[index, column]) == (iou >= 0.5)
            whole += expected == (0, 0, 9, 8)
    assert whole < 20 * len(result.alphas)
    assert result.errors.tolist() == pytest.approx((1 - result.correct.double().mean(dim=0)).tolist())


def test_the_grids_are_the_published_ones() -> None:
    assert ALPHAS["value"] == ALPHAS["energy"] == pytest.approx([0.05 * k for k in range(20)])
    assert ALPHAS["mean"] == pytest.approx([0.5 * k for k in range(21)])


def test_the_whole_image_where_nothing_stays() -> None:
    maps = torch.tensor([[[0.0, 1.0], [1.0, 2.0]]])  # mean 1
    box = torch.tensor([[0, 0, 2, 2]])
    mean = thresholded_boxes(maps, box, "mean", alphas=(2.0, 2.5))
    assert mean.boxes[0].tolist() == [[1, 1, 2, 2], [0, 0, 2, 2]]
    energy = thresholded_boxes(maps, box, "energy", alphas=(0.0, 0.5, 0.51))
    assert energy.boxes[0].tolist() == [[0, 0, 2, 2], [1, 1, 2, 2], [0, 0, 2, 2]]


def test_equal_values_stay_or_go_together() -> None:
    mask = torch.zeros(1, 6, 6)
    mask[0, 1:4, 2:5] = 1
    result = thresholded_boxes(mask, torch.tensor([[2, 1, 5, 4]]), "energy", alphas=(0.01, 0.5, 1.0))
    assert result.boxes[0].tolist() == [[2, 1, 5, 4]] * 3
    assert result.iou.tolist() == [[1, 1, 1]]


def test_an_exact_share_in_decimals_is_met() -> None:
    # 0.07 * 100 is 7.000000000000001 in binary floating point.
    maps = torch.tensor([[[7.0] + [6.0] * 15 + [3.0]]])
    assert 0.07 * 100 > 7
    result = thresholded_boxes(maps, torch.tensor([[0, 0, 1, 1]]), "energy", alphas=(0.07,))
    assert result.boxes[0, 0].tolist() == [0, 0, 1, 1]


def test_boxes_are_scaled_to_the_original_images() -> None:
    maps = torch.zeros(2, 4, 5)
    maps[:, 1, 2] = 1
    sizes = torch.tensor([[8, 5], [4, 50]])
    truth = torch.tensor([[2, 2, 3, 4], [20, 1, 30, 2]])
    result = thresholded_boxes(maps, truth, "value", alphas=(0.5,), image_sizes=sizes)
    assert result.boxes[:, 0].tolist() == truth.tolist()
    assert result.iou.tolist() == [[1.0], [1.0]]


def test_a_constant_or_not_finite_map_is_wrong_and_says_why() -> None:
    maps = torch.rand(3, 4, 4)
    maps[0] = 0.7
    maps[2, 1, 1] = float("nan")
    for thresholding in THRESHOLDINGS:
        result = thresholded_boxes(maps, torch.tensor([[0, 0, 4, 4]] * 3), thresholding)
        assert result.reasons == ("the map is constant", None, "the map has values that are not finite")
        assert result.iou.isnan().all(dim=1).tolist() == [True, False, True]
        assert not result.iou[1].isnan().any()
        assert not result.correct[[0, 2]].any()
        assert result.errors.isfinite().all()


def test_a_batch_equals_its_images() -> None:
    generator = torch.Generator().manual_seed(2)
    maps, boxes = torch.rand(8, 9, 9, generator=generator), random_boxes(8, 3, generator)
    for thresholding in THRESHOLDINGS:
        together = thresholded_boxes(maps, boxes, thresholding)
        for index in range(8):
            alone = thresholded_boxes(maps[index : index + 1], boxes[index : index + 1], thresholding)
            assert torch.equal(together.boxes[index], alone.boxes[0])
            assert torch.equal(together.iou[index], alone.iou[0])


def test_masks_as_saliency_are_never_wrong() -> None:
    chosen = composites(6, seed=1, size=96)
    for thresholding in THRESHOLDINGS:
        result = thresholded_boxes(chosen.masks.float(), chosen.boxes, thresholding)
        assert float(result.errors.min()) == 0
        assert float(result.iou.amax()) == 1


def case(seed: int, count: int = 11) -> tuple[Tensor, list[Tensor]]:
    """Maps whose objects lie where they are high, with noise that a threshold has to remove."""
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(count, 1, generator)
    maps = box_masks(boxes, count, 10, 10).float() + 0.6 * torch.rand(count, 10, 10, generator=generator)
    return maps, boxes


def test_the_least_error_chooses_alpha_and_the_smallest_of_equals() -> None:
    maps, boxes = case(3)
    result = thresholded_boxes(maps, boxes, "value")
    errors = [round(error, 9) for error in result.errors.tolist()]
    assert len(set(errors)) > 1
    assert choose_alpha(result) == result.alphas[errors.index(min(errors))]
    some = torch.tensor([0, 3, 4])
    subset = thresholded_boxes(maps[some], [boxes[index] for index in some.tolist()], "value")
    assert choose_alpha(result, some) == choose_alpha(subset)
    backwards = thresholded_boxes(maps, boxes, "value", alphas=result.alphas[::-1])
    assert choose_alpha(backwards) == choose_alpha(result)
    with pytest.raises(InputError, match="at least one image"):
        choose_alpha(result, torch.tensor([], dtype=torch.int64))


def test_one_set_chooses_for_another() -> None:
    first = thresholded_boxes(*case(3), "value")
    second = thresholded_boxes(*case(4), "value")
    result = evaluate_at(first, second)
    column = first.alphas.index(choose_alpha(first))
    assert result.alpha.tolist() == [first.alphas[column]] * 11
    assert torch.equal(result.iou, second.iou[:, column])
    assert torch.equal(result.boxes, second.boxes[:, column])
    assert result.error == pytest.approx(float(second.errors[column]))
    with pytest.raises(InputError, match="same thresholding, got 'value' and 'energy'"):
        evaluate_at(first, thresholded_boxes(*case(4), "energy"))
    with pytest.raises(InputError, match="same alphas"):
        evaluate_at(first, thresholded_boxes(*case(4), "value", alphas=(0.5,)))


def test_no_image_takes_part_in_choosing_its_own_alpha() -> None:
    maps, boxes = case(5)
    result = thresholded_boxes(maps, boxes, "value")
    validated = cross_validated(result, folds=3, seed=1)
    sizes = torch.bincount(validated.fold, minlength=3)
    assert sorted(sizes.tolist()) == [3, 4, 4]
    for index in range(11):
        others = (validated.fold != validated.fold[index]).nonzero()[:, 0]
        alpha = choose_alpha(result, others)
        assert float(validated.alpha[index]) == alpha
        column = result.alphas.index(alpha)
        assert float(validated.iou[index]) == float(result.iou[index, column])
        assert bool(validated.correct[index]) == bool(result.correct[index, column])
    # Spoiling an image's own maps leaves its alpha alone.
    spoilt = maps.clone()
    spoilt[validated.fold == 0] = torch.rand(10, 10)
    again = cross_validated(thresholded_boxes(spoilt, boxes, "value"), folds=3, seed=1)
    assert torch.equal(again.alpha[again.fold == 0], validated.alpha[validated.fold == 0])


def test_folds_depend_on_the_seed_alone() -> None:
    result = thresholded_boxes(*case(5), "value")
    before = torch.get_rng_state()
    first, again, other = (cross_validated(result, seed=seed).fold for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_records_have_a_row_for_each_image() -> None:
    maps, boxes = case(5)
    maps[4] = 0.2
    rows = cross_validated(thresholded_boxes(maps, boxes, "mean"), folds=2).records()
    assert [row["image"] for row in rows] == list(range(11))
    assert {row["thresholding"] for row in rows} == {"mean"}
    assert rows[4]["reason"] == "the map is constant"
    assert math.isnan(rows[4]["iou"])
    assert rows[4]["correct"] is False
    assert {row["fold"] for row in rows} == {0, 1}


def test_box_helpers_agree_with_counting_pixels() -> None:
    generator = torch.Generator().manual_seed(7)
    boxes = random_boxes(20, 3, generator)
    masks = box_masks(boxes, 20, 10, 10)
    for mask, group in zip(masks, boxes, strict=True):
        inside = {
            (y, x) for x0, y0, x1, y1 in group.tolist() for y in range(y0, min(y1, 10)) for x in range(x0, min(x1, 10))
        }
        assert {tuple(place) for place in mask.nonzero().tolist()} == inside
    padded, real = padded_boxes(boxes, 20, torch.device("cpu"))
    estimates = padded_boxes(random_boxes(20, 1, generator), 20, torch.device("cpu"))[0]
    for index, value in enumerate(best_iou(estimates, padded, real)[:, 0].tolist()):
        assert value == pytest.approx(max(naive_iou(estimates[index, 0], box) for box in boxes[index].tolist()))
    assert bounding_boxes(torch.zeros(1, 3, 7, dtype=torch.bool)).tolist() == [[0, 0, 7, 3]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thresholding": "otsu"}, "unknown thresholding 'otsu'"),
        ({"alphas": ()}, "alphas must hold at least one value"),
        ({"alphas": (0.5, 1.2)}, r"alpha must be a number from 0 to 1.0 for 'energy', got 1\.2"),
        ({"alphas": (-0.1,)}, r"got -0\.1"),
        ({"alphas": (float("nan"),)}, "got nan"),
        ({"maps": -torch.rand(2, 4, 4)}, "thresholding 'energy' needs nonnegative maps, got -"),
        ({"maps": torch.rand(4, 4)}, r"maps must have shape \(B, H, W\), got \(4, 4\)"),
        ({"boxes": torch.rand(3, 4)}, r"boxes must have shape \(2, 4\), one an image, got \(3, 4\)"),
        ({"boxes": [torch.tensor([[0, 0, 1, 1]])]}, "boxes must be given for each of the 2 images, got 1"),
        ({"boxes": torch.tensor([[0, 0, 1, 1], [3, 0, 3, 2]])}, r"image 1 must have x0 < x1 and y0 < y1"),
        ({"boxes": [torch.zeros(0, 4), torch.ones(1, 4)]}, r"image 0 must be \(k, 4\) with k at least 1, got \(0, 4\)"),
        ({"image_sizes": torch.tensor([4, 4])}, r"image_sizes must be \(2, 2\), height and width, got \(2,\)"),
        ({"image_sizes": torch.tensor([[4, 4], [0, 4]])}, "image_sizes must be positive"),
    ],
)
def test_errors_name_the_value(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "maps": torch.rand(2, 4, 4),
        "boxes": torch.tensor([[0, 0, 1, 1], [1, 1, 3, 3]]),
        "thresholding": "energy",
    } | changes
    with pytest.raises(InputError, match=message):
        thresholded_boxes(**arguments)


def test_folds_out_of_range_are_refused() -> None:
    result = thresholded_boxes(*case(5), "value")
    for folds in (1, 12, 2.5):
        with pytest.raises(InputError, match="folds must be an integer from 2 to the number of images, 11"):
            cross_validated(result, folds=folds)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"seed must be an integer from 0 .*, got -1"):
        cross_validated(result, seed=-1)
