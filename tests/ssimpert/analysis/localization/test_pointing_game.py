"""The pointing game against a naive search of every pixel; the tolerance, ties, chance and the baseline by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ssimpert.analysis.localization.boxes import box_masks
from ssimpert.analysis.localization.object_masks import hits_mask
from ssimpert.analysis.localization.pointing_game import (
    centre_points,
    chance_of_hit,
    difficult_pairs,
    highest_points,
    point_game,
    pointing_game,
)
from ssimpert.analysis.localization.pointing_result import joined
from ssimpert.data import composites
from ssimpert.errors import InputError


def naive_hit(x: float, y: float, mask: Tensor, tolerance: float) -> bool:
    return any(
        (column - x) ** 2 + (row - y) ** 2 < tolerance**2
        for row in range(mask.shape[0])
        for column in range(mask.shape[1])
        if mask[row, column]
    )


def one_pixel(row: int, column: int, size: int = 64) -> Tensor:
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    mask[0, row, column] = True
    return mask


def test_equals_the_naive_game_on_50_maps() -> None:
    generator = torch.Generator().manual_seed(3)
    maps = torch.randint(0, 9, (50, 6, 7), generator=generator).float()
    corners = torch.randint(0, 10, (50, 2), generator=generator)
    sides = torch.randint(1, 5, (50, 2), generator=generator)
    masks = box_masks(torch.cat([corners, corners + sides], dim=1), 50, 12, 15)
    categories = torch.arange(50) % 4
    result = pointing_game(maps, masks, categories, tolerance=3.5)
    resized = interpolate(maps[:, None], size=(12, 15), mode="bilinear", align_corners=False)[:, 0]
    hits = []
    for index in range(50):
        values = resized[index].flatten().tolist()
        place = values.index(max(values))  # the first of equals
        y, x = divmod(place, 15)
        assert result.points[index].tolist() == [x, y]
        hits.append(naive_hit(x, y, masks[index], 3.5))
    assert result.hits.tolist() == hits
    assert 5 < sum(hits) < 45
    shares = {c: [h for h, k in zip(hits, categories.tolist(), strict=True) if k == c] for c in range(4)}
    assert result.class_accuracies == pytest.approx({c: sum(h) / len(h) for c, h in shares.items()})
    assert result.accuracy == pytest.approx(sum(sum(h) / len(h) for h in shares.values()) / 4)


@pytest.mark.parametrize("direction", [(0, 1), (0, -1), (1, 0), (-1, 0)])
def test_distance_14_hits_and_15_misses(direction: tuple[int, int]) -> None:
    for distance, expected in ((0, True), (14, True), (15, False), (16, False)):
        point = torch.tensor([[30.0 + distance * direction[0], 30.0 + distance * direction[1]]])
        result = point_game(point, one_pixel(30, 30), torch.tensor([0]))
        assert result.hits.tolist() == [expected]
    # 10^2 + 11^2 = 221 < 225 = 9^2 + 12^2
    assert hits_mask(torch.tensor([[40.0, 41.0]]), one_pixel(30, 30)).all()
    assert not hits_mask(torch.tensor([[39.0, 42.0]]), one_pixel(30, 30)).any()


def test_a_tolerance_of_one_asks_for_the_mask_itself() -> None:
    near = torch.tensor([[30.0, 31.0]])
    assert not hits_mask(near, one_pixel(30, 30), 1).any()
    assert hits_mask(near, one_pixel(31, 30), 1).all()
    assert hits_mask(near, one_pixel(30, 30), 1.01).all()


def test_the_first_of_equal_pixels_is_the_point() -> None:
    maps = torch.zeros(1, 4, 5)
    maps[0, 1, 3] = maps[0, 2, 0] = 1
    assert highest_points(maps, 4, 5).tolist() == [[3, 1]]


def test_a_map_that_points_nowhere_is_counted_apart_and_does_not_hit() -> None:
    masks = torch.ones(4, 8, 8, dtype=torch.bool)  # any point would hit
    maps = torch.rand(4, 8, 8)
    maps[1] = 0.3
    maps[2, 0, 0] = float("inf")
    result = pointing_game(maps, masks, torch.zeros(4, dtype=torch.int64))
    assert result.hits.tolist() == [True, False, False, True]
    assert result.accuracy == 0.5
    assert result.degenerate == 2
    assert result.points.isnan().all(dim=1).tolist() == [False, True, True, False]
    rows = result.records()
    assert [row["reason"] for row in rows] == [
        None,
        "the map is constant",
        "the map has values that are not finite",
        None,
    ]
    assert [row["difficult"] for row in rows] == [None] * 4


def test_accuracy_is_the_mean_over_classes_and_not_over_trials() -> None:
    points = torch.tensor([[30.0, 30.0]] * 3 + [[60.0, 60.0]])
    result = point_game(points, one_pixel(30, 30).expand(4, -1, -1), torch.tensor([7, 7, 7, 2]))
    assert result.class_accuracies == {2: 0.0, 7: 1.0}
    assert result.accuracy == 0.5


@pytest.mark.parametrize("tolerance", [1, 2.5, 5, 15])
def test_chance_is_the_share_of_points_that_hit(tolerance: float) -> None:
    generator = torch.Generator().manual_seed(4)
    masks = torch.rand(3, 14, 11, generator=generator) > 0.97
    masks[:, 0, 0] = True
    masks[2] = False
    masks[2, 13, 10] = True
    for mask, chance in zip(masks, chance_of_hit(masks, tolerance).tolist(), strict=True):
        hits = [naive_hit(x, y, mask, tolerance) for y in range(14) for x in range(11)]
        assert chance == pytest.approx(sum(hits) / 154)


def test_random_maps_hit_at_the_rate_of_chance() -> None:
    masks = composites(30, seed=5, size=64).masks
    tolerance, plays = 6, 40
    chance = chance_of_hit(masks, tolerance)
    generator = torch.Generator().manual_seed(6)
    maps = torch.rand(plays * 30, 64, 64, generator=generator)
    repeated = masks.repeat(plays, 1, 1)
    result = pointing_game(maps, repeated, torch.zeros(plays * 30, dtype=torch.int64), tolerance=tolerance)
    deviation = math.sqrt(float((chance * (1 - chance)).sum()) * plays) / (30 * plays)
    assert abs(result.accuracy - float(chance.mean())) < 4 * deviation
    assert deviation < 0.02


def test_masks_as_saliency_hit_always_and_the_centre_as_geometry_says() -> None:
    chosen = composites(30, seed=7)
    categories = torch.arange(30) % 3
    perfect = pointing_game(chosen.masks.float(), chosen.masks, categories)
    assert perfect.accuracy == 1
    offsets = torch.arange(224) - 112.0
    gaussian = torch.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 40**2)).expand(30, -1, -1)
    centre = point_game(centre_points(30, 224, 224), chosen.masks, categories)
    nearest = [(mask.nonzero() - 112).square().sum(dim=1).min() for mask in chosen.masks]
    expected = torch.stack(nearest) < 225
    assert torch.equal(centre.hits, expected)
    assert torch.equal(pointing_game(gaussian.contiguous(), chosen.masks, categories).hits, expected)
    assert 0 < expected.double().mean() < 1


def test_the_centre_is_torchrays_fractional_one() -> None:
    assert centre_points(2, 5, 8).tolist() == [[4.0, 2.5], [4.0, 2.5]]


def test_difficult_is_small_with_another_class_beside_it() -> None:
    masks = torch.zeros(5, 8, 8, dtype=torch.bool)
    masks[:, :3, :5] = True  # 15 of 64, under a quarter
    masks[1, :4, :4] = True  # 17 of 64
    categories, images = torch.tensor([1, 2, 1, 3, 3]), torch.tensor([0, 0, 1, 2, 2])
    assert difficult_pairs(masks, categories, images).tolist() == [True, False, False, False, False]
    masks[1] = False
    masks[1, :4, :4] = True  # exactly a quarter is not under it
    assert not difficult_pairs(masks, categories, images)[1]


def test_the_difficult_subset_has_its_own_accuracy() -> None:
    points = torch.tensor([[30.0, 30.0], [60.0, 60.0], [60.0, 60.0]])
    masks, categories = one_pixel(30, 30).expand(3, -1, -1), torch.tensor([0, 0, 1])
    difficult = torch.tensor([True, False, True])
    result = point_game(points, masks, categories, difficult=difficult)
    assert result.accuracy == 0.25
    assert result.difficult_accuracy == 0.5
    assert [row["difficult"] for row in result.records()] == [True, False, True]
    none = point_game(points, masks, categories, difficult=torch.zeros(3, dtype=torch.bool))
    assert math.isnan(none.difficult_accuracy)
    with pytest.raises(InputError, match="the difficult subset was not given"):
        _ = point_game(points, masks, categories).difficult_accuracy


def test_results_of_images_of_different_sizes_are_joined() -> None:
    first = point_game(torch.tensor([[30.0, 30.0]]), one_pixel(30, 30), torch.tensor([1]))
    second = point_game(torch.tensor([[0.0, 0.0]]), one_pixel(90, 90, 100), torch.tensor([2]))
    both = joined([first, second])
    assert both.hits.tolist() == [True, False]
    assert both.accuracy == 0.5
    assert [row["pair"] for row in both.records()] == [0, 1]
    with pytest.raises(InputError, match="at least one"):
        joined([])


def test_a_batch_equals_its_trials() -> None:
    maps, masks = torch.rand(8, 9, 9).double(), torch.rand(8, 20, 20) > 0.99
    masks[:, 4, 4] = True
    categories = torch.arange(8)
    together = pointing_game(maps, masks, categories, tolerance=4)
    for index in range(8):
        part = slice(index, index + 1)
        alone = pointing_game(maps[part], masks[part], categories[part], tolerance=4)
        assert torch.equal(together.points[part], alone.points)
        assert torch.equal(together.hits[part], alone.hits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": torch.ones(3, 8, 8, dtype=torch.bool)}, "masks must be given for each of the 2 trials, got 3"),
        ({"masks": torch.ones(2, 8, 8)}, r"masks must be \(N, H, W\) bool, got \(2, 8, 8\) torch.float32"),
        ({"masks": torch.zeros(2, 8, 8, dtype=torch.bool)}, "mask 0 has no pixel"),
        ({"categories": torch.tensor([1])}, r"categories must be \(2,\) integers, got \(1,\)"),
        ({"categories": torch.tensor([1.0, 2.0])}, r"categories must be \(2,\) integers"),
        ({"tolerance": 0}, "tolerance must be positive and finite, got 0"),
        ({"tolerance": "15"}, "tolerance must be a positive number, got '15'"),
        ({"difficult": torch.tensor([1, 0])}, r"difficult must be \(2,\) bool"),
        ({"difficult": [True, False]}, r"difficult must be \(2,\) bool, got list"),
        ({"maps": torch.rand(2, 8)}, r"maps must have shape \(B, H, W\), got \(2, 8\)"),
        ({"maps": torch.rand(2, 0, 8)}, "maps must not be empty"),
    ],
)
def test_errors_name_the_value(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "maps": torch.rand(2, 8, 8),
        "masks": torch.ones(2, 8, 8, dtype=torch.bool),
        "categories": torch.tensor([0, 1]),
    } | changes
    with pytest.raises(InputError, match=message):
        pointing_game(**arguments)
